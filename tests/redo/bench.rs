//! How fast redo is, alone and through the store: `cargo xtask bench redo`.
//!
//! Time is the processor time of one thread, except for the latency of a read, which is time passed. Each figure is the
//! middle one of several runs. Writing the log is not measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use oracle::server::{Postgres, Recorded, record};
use oracle::suites::{Plan, Suite};
use types::{BLOCK_SIZE, Lsn, Page};
use wal::InterpretContext;

use crate::chains::{self, Name};
use crate::log::Log;
use crate::standby::Standby;
use crate::{SETTINGS, feed};

const RUNS: usize = 5;
/// The store's default.
const MEMTABLE_BYTES: usize = 32 << 20;
const PGBENCH: Plan = Plan { seconds: 20, seed: 1 };
/// Records above a page's full version, and how fast the page should be read, in microseconds.
const DEPTHS: [(usize, u32); 3] = [(1, 30), (10, 50), (100, 150)];
/// Pages read for each depth; few enough that the layers they lie in stay in the default cache.
const READS: usize = 250;

/// Measures, and prints a table.
pub fn run() {
    println!("| measure | measured | target |\n|---|---|---|");
    apply(Suite::Core, "700,000 records/s");
    let postgres = Postgres::v15();
    let recorded = record(&postgres, SETTINGS, |server| drop(Suite::Pgbench.load(server, PGBENCH)));
    let log = Log::read(&recorded.base, &recorded.after);
    rebuild(&recorded, &log);
    for (depth, target) in DEPTHS {
        read(&recorded, &log, depth, target);
    }
}

/// Records of a suite's log on pages in memory: decoded, interpreted, applied.
fn apply(suite: Suite, target: &str) {
    let recorded = record(&Postgres::v15(), SETTINGS, |server| drop(suite.load(server, PGBENCH)));
    let log = Log::read(&recorded.base, &recorded.after);
    let mut steps = 0;
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let mut standby = Standby::load(&recorded.base);
            let begun = thread_seconds();
            log.records().for_each(|raw| standby.apply(&raw));
            steps = standby.steps;
            thread_seconds() - begun
        })
        .collect();
    let rate = log.len() as f64 / middle(&mut seconds);
    println!(
        "| apply the log of the {} suite: {} records, {} MB, {steps} pages changed | {rate:.0} records/s | {target} |",
        suite.name(),
        log.len(),
        log.bytes() >> 20,
    );
}

/// Every page that pgbench changed, from its newest full version on.
fn rebuild(recorded: &Recorded, log: &Log) {
    let control = oracle::replay::control(&recorded.base);
    let interpret = InterpretContext { format: control.format(), track_commit_timestamp: true };
    let redo = redo::RedoContext { major: control.major, checksums: true };
    let mut standby = Standby::load(&recorded.base);
    let chains = chains::chains(log, &mut standby, &interpret, |_, _, _| {});
    let records: usize = chains.values().map(|chain| chain.records.len()).sum();
    let mut page = Page::zeroed();
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = thread_seconds();
            chains.iter().for_each(|(name, chain)| chain.rebuild(&redo, *name, &mut page));
            thread_seconds() - begun
        })
        .collect();
    let seconds = middle(&mut seconds);
    for (name, chain) in &chains {
        chain.rebuild(&redo, *name, &mut page);
        let whole = standby.page(name.0, name.1).expect("the page was changed");
        assert!(page[10..] == whole[10..], "{name:?} is rebuilt wrong");
    }
    println!(
        "| rebuild the {} pages that pgbench changed, {:.1} records each | {:.0} pages/s, {:.0} records/s | 70,000 pages/s |",
        chains.len(),
        records as f64 / chains.len() as f64,
        chains.len() as f64 / seconds,
        records as f64 / seconds,
    );
}

/// Reads through the store of pages with `depth` records above their full version, once all layers are in its cache.
fn read(recorded: &Recorded, log: &Log, depth: usize, target: u32) {
    let control = oracle::replay::control(&recorded.base);
    let interpret = InterpretContext { format: control.format(), track_commit_timestamp: true };
    let mut found: HashMap<Name, Lsn> = HashMap::new();
    chains::chains(log, &mut Standby::load(&recorded.base), &interpret, |name, length, lsn| {
        if length == depth {
            found.insert(name, lsn);
        }
    });
    let mut questions: Vec<(Name, Lsn)> = found.into_iter().collect();
    questions.sort_unstable();
    let step = (questions.len() / READS).max(1);
    let questions: Vec<_> = questions.into_iter().step_by(step).take(READS).collect();
    let dir = tempfile::tempdir().unwrap();
    let project = feed::stored(recorded, &dir.path().join("project"), MEMTABLE_BYTES);
    let branch = feed::root();
    let mut out = vec![0; BLOCK_SIZE];
    let mut times = Vec::new();
    for round in 0..RUNS {
        for ((rel, block), lsn) in &questions {
            let begun = Instant::now();
            project.read_pages(&branch, *lsn, *rel, *block, &mut out).unwrap();
            if round > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    times.sort_unstable();
    let at = |percent: usize| micros(times[times.len() * percent / 100]);
    println!(
        "| read one of {} pages {depth} records above its full version | p50 {:.1}, p99 {:.1} microseconds | p50 {target} |",
        questions.len(),
        at(50),
        at(99),
    );
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Processor time of this thread.
fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which lives here.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
