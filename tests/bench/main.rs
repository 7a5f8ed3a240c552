//! `cargo xtask bench ...`: the figures of the README, as ratios against stock Postgres in the same run.
//!
//! Not a test: nothing here passes or fails. Machines are noisy, so both sides are measured alternately and medians
//! are given.

mod branches;
mod control;
mod disk;
mod ingest;
mod load;
mod recovery;
mod report;

use report::Report;
use scion_tests::stock::Stock;
use scion_tests::{Scion, process};

/// pgbench scale of the busy project; 65 is about 1 GB.
const LARGE_SCALE: u32 = 65;
/// pgbench scale of the small project, about 100 MB.
const SMALL_SCALE: u32 = 7;
/// TPC-B before anything is measured.
const WARM_UP_SECONDS: &str = "30";

fn main() {
    let mut report = Report::default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "control") {
        control::control(&mut loaded(SMALL_SCALE), &mut report);
        return report.print();
    }
    let scale = words.get(1).and_then(|scale| scale.parse().ok()).unwrap_or(LARGE_SCALE);
    let large = loaded(scale);
    if words.first().is_some_and(|word| word == "throughput") {
        throughput(&large, scale, &mut report);
        return report.print();
    }
    warm_up(&mut large.root().pgbench(&[]));
    branches::creation(&large, "large", &mut report);
    branches::first_row(&large, &mut report);
    disk::branch_sizes(&large, &mut report);
    branches::load_on_the_parent(&large, &mut report);
    disk::idle_memory(&large, &mut report);
    throughput(&large, scale, &mut report);
    drop(large);
    let small = loaded(SMALL_SCALE);
    warm_up(&mut small.root().pgbench(&[]));
    branches::creation(&small, "small", &mut report);
    recovery::time_to_ready(&small, 10, &mut report);
    recovery::time_to_ready(&small, 1000, &mut report);
    ingest::decode_and_ingest(&mut report);
    report.print();
}

/// The root endpoint against a stock Postgres that is loaded now.
fn throughput(scion: &Scion, scale: u32, report: &mut Report) {
    let stock = Stock::create(&[]);
    load_pgbench(stock.client("pgbench"), scale);
    warm_up(&mut stock.client("pgbench"));
    warm_up(&mut scion.root().pgbench(&[]));
    load::throughput(scion, &stock, report);
    load::wal_bytes(scion, &stock, report);
}

fn loaded(scale: u32) -> Scion {
    let scion = Scion::start();
    load_pgbench(scion.root().pgbench(&[]), scale);
    scion.root().psql("neondb", "checkpoint");
    scion
}

/// Lets the disk finish what the load left, and the caches fill: a first minute is no measure of either side.
fn warm_up(pgbench: &mut std::process::Command) {
    process::run(&mut std::process::Command::new("sync"));
    process::run(pgbench.args(["-n", "-c", "2", "-T", WARM_UP_SECONDS]));
}

fn load_pgbench(mut pgbench: std::process::Command, scale: u32) {
    process::run(pgbench.args(["-i", "-q", "-s", &scale.to_string()]).stderr(std::process::Stdio::null()));
}
