//! How fast the store takes WAL: made durable, decoded, filed under its keys.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use scion_tests::process;
use scion_tests::stock::Stock;
use store::{ClusterImport, Project};
use types::{Lsn, TimelineId};
use wal::segment::segment_name;

use crate::report::Report;

/// Bytes handed to the store at a time, as a walsender sends them.
const CHUNK: usize = 128 << 10;
const SEGMENT: u64 = 16 << 20;

/// Feeds the WAL of a pgbench run, load included, to a store in one thread.
pub fn decode_and_ingest(report: &mut Report) {
    let mut stock =
        Stock::create(&["-c", "full_page_writes=off", "-c", "wal_keep_size=8GB", "-c", "max_wal_size=8GB"]);
    stock.stop();
    let dir = tempfile::tempdir().unwrap();
    let import = dir.path().join("cluster");
    process::run(Command::new("cp").arg("-a").arg(stock.data()).arg(&import));
    stock.start();
    process::run(stock.client("pgbench").args(["-i", "-q", "-s", "20"]).stderr(std::process::Stdio::null()));
    process::run(stock.client("pgbench").args(["-n", "-c", "2", "-T", "40"]));
    stock.psql("select pg_switch_wal()");
    stock.stop();

    let root: types::BranchId = "br-bench-root-1".parse().unwrap();
    let project =
        Project::create(&dir.path().join("project"), &ClusterImport { data_dir: import, root: root.clone() })
            .unwrap();
    let start = project.head(&root).unwrap();
    let wal = read_wal(&stock.data().join("pg_wal"), start);
    let begun = Instant::now();
    let cpu = thread_cpu_seconds();
    let mut at = start;
    for chunk in wal.chunks(CHUNK) {
        project.append_wal(&root, TimelineId::new(1), at, chunk).unwrap();
        at = at.advanced(chunk.len() as u64);
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), thread_cpu_seconds() - cpu);
    let mb = wal.len() as f64 / 1e6;
    let figure =
        format!("{:.0} MB/s of one core, {:.0} MB/s with its fsyncs ({mb:.0} MB)", mb / cpu, mb / wall);
    report.add("WAL decode and ingest", figure, "100 MB/s");
}

fn read_wal(dir: &Path, start: Lsn) -> Vec<u8> {
    let mut wal = Vec::new();
    let mut segment = start.segment(SEGMENT);
    while let Ok(bytes) = fs::read(dir.join(segment_name(TimelineId::new(1), segment, SEGMENT))) {
        let header = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        if header != segment * SEGMENT {
            break;
        }
        wal.extend_from_slice(&bytes);
        segment += 1;
    }
    wal.drain(..usize::try_from(start.offset_in_segment(SEGMENT)).unwrap());
    wal
}

fn thread_cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which lives here.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
