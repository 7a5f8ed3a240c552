//! The control file and first WAL of a timeline, judged by the server that starts on them.

use std::path::Path;
use std::process::Command;

use types::{ClusterState, Lsn, TimelineId};
use wal::page::record_end;
use wal::segment::{history_name, segment_name};
use wal::{ShutdownCheckpoint, WalFormat, control};

use super::cluster::{Cluster, DIGEST, Running, SEGMENT_BYTES, pg};
use crate::shipping::segment::{first_wal, history_file};

const BRANCH: TimelineId = TimelineId::new(0x2A);

/// An `XLOG_NOOP` record of `bytes`: whatever precedes a branch point in these tests, so that it can be anywhere.
fn noop(prev: Lsn, bytes: usize) -> Vec<u8> {
    let data = bytes - 24 - 5;
    let mut record = (bytes as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&prev.raw().to_le_bytes());
    record.extend_from_slice(&[0x20, 0, 0, 0, 0, 0, 0, 0, 254]);
    record.extend_from_slice(&(data as u32).to_le_bytes());
    record.resize(bytes, 0x77);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]);
    record[20..24].copy_from_slice(&crc.to_le_bytes());
    record
}

/// Moves the end of the log to exactly `to`; returns the state there and the segment up to there.
fn extend_log(cluster: &Cluster, format: &WalFormat, to: Lsn) -> (ClusterState, Vec<u8>) {
    let mut state = cluster.state();
    let from = state.lsn;
    if from == to {
        return (state, cluster.segment_prefix(to));
    }
    let mut bytes = to.bytes_since(from).unwrap() as usize;
    let end = |bytes| record_end(from.record_start(SEGMENT_BYTES), bytes, SEGMENT_BYTES);
    while end(bytes) > to {
        bytes -= 8;
    }
    assert_eq!(end(bytes), to);
    let prefix = cluster.segment_prefix(from);
    let mut wal = first_wal(format, state.timeline, from, prefix, &noop(state.last_record, bytes)).unwrap();
    state.lsn = to;
    state.last_record = from.record_start(SEGMENT_BYTES);
    let (segment, mut bytes) = wal.segments.pop().unwrap();
    if segment != to.segment(SEGMENT_BYTES) {
        bytes.clear();
    }
    bytes.resize(to.offset_in_segment(SEGMENT_BYTES) as usize, 0);
    (state, bytes)
}

/// A copy of the cluster that begins `BRANCH` at `state.lsn`.
fn synthesize(cluster: &Cluster, out: &Path, format: &WalFormat, state: &ClusterState, prefix: Vec<u8>) {
    let copied = Command::new("cp").arg("-a").arg(&cluster.data).arg(out).status().unwrap();
    assert!(copied.success());
    let wal_dir = out.join("pg_wal");
    for entry in std::fs::read_dir(&wal_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let checkpoint = ShutdownCheckpoint {
        state,
        timeline: BRANCH,
        at: state.lsn.record_start(SEGMENT_BYTES),
        time_unix_s: 1_700_000_000,
    };
    let wal = first_wal(format, BRANCH, state.lsn, prefix, &checkpoint.record(wal::major::of(15).unwrap()))
        .unwrap();
    for (segment, mut bytes) in wal.segments {
        bytes.resize(SEGMENT_BYTES as usize, 0);
        give(&wal_dir.join(segment_name(BRANCH, segment, SEGMENT_BYTES)), &bytes);
    }
    let history = history_file(&[(state.timeline, state.lsn)]);
    give(&wal_dir.join(history_name(BRANCH)), history.as_bytes());
    give(&out.join("global/pg_control"), &control::shut_down_at(&cluster.control(), &checkpoint).unwrap());
    std::fs::remove_file(out.join("server.log")).unwrap();
}

fn give(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let (uid, gid) = super::cluster::postgres_user();
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
}

#[test]
fn postgres_starts_without_recovery_wherever_the_timeline_begins() {
    let (_dir, cluster) = Cluster::stopped(5711);
    let format = cluster.control_file().format();
    let end = cluster.state().lsn.raw();
    let page = end - end % 8192 + 2 * 8192;
    let segment = end - end % SEGMENT_BYTES + SEGMENT_BYTES;
    let mut digest = None;
    for at in [end, page, page - 8, page + 32, segment - 8, segment - 64, segment, segment + 48] {
        let at = Lsn::from_raw(at).unwrap();
        let (state, prefix) = extend_log(&cluster, &format, at);
        let out = cluster.root.join("out");
        synthesize(&cluster, &out, &format, &state, prefix);
        check_record(&out, &state);
        {
            let server = Running::start(&out, 5711);
            let now = server.sql(DIGEST);
            assert_eq!(*digest.get_or_insert_with(|| now.clone()), now, "{at}");
            assert_eq!(server.sql("select count(*) from moved"), "5000");
            assert_eq!(server.sql("select gid from pg_prepared_xacts"), "later");
            server.sql("insert into moved values (0); checkpoint");
            if at.raw() == segment - 8 {
                pg(
                    "pg_amcheck",
                    &["-h", out.to_str().unwrap(), "-p", "5711", "-U", "postgres", "--install-missing", "-a"],
                );
            }
        }
        let log = std::fs::read_to_string(out.join("server.log")).unwrap();
        assert!(!log.contains("redo starts") && !log.contains("not properly shut down"), "{at}: {log}");
        assert!(!log.contains("ERROR") && !log.contains("WARNING"), "{at}: {log}");
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// `pg_waldump` finds the checkpoint where it must be, with the predecessor it must have.
fn check_record(out: &Path, state: &ClusterState) {
    let start = state.lsn.record_start(SEGMENT_BYTES);
    let wal_dir = out.join("pg_wal");
    let (timeline, from) = (BRANCH.get().to_string(), state.lsn.to_string());
    let text = pg("pg_waldump", &["-p", wal_dir.to_str().unwrap(), "-t", &timeline, "-s", &from, "-n", "1"]);
    let long = |lsn: Lsn| format!("{:X}/{:08X}", lsn.raw() >> 32, lsn.raw() & 0xFFFF_FFFF);
    assert!(text.contains(&format!("lsn: {}, prev {}", long(start), long(state.last_record))), "{text}");
    assert!(text.contains("CHECKPOINT_SHUTDOWN redo") && text.contains("tli 42; prev tli 1;"), "{text}");
}
