//! `cargo xtask bench quick`: the figures of the README, as ratios against stock Postgres in the same run.
//!
//! Not a test: nothing here passes or fails. Machines are noisy, so both sides are measured alternately and medians
//! are given.

mod branches;
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
    let scale = std::env::args().nth(2).and_then(|scale| scale.parse().ok()).unwrap_or(LARGE_SCALE);
    let large = loaded(scale);
    warm_up(&mut large.root().pgbench(&[]));
    branches::creation(&large, "large", &mut report);
    branches::first_row(&large, &mut report);
    disk::branch_sizes(&large, &mut report);
    branches::load_on_the_parent(&large, &mut report);
    disk::idle_memory(&large, &mut report);
    let stock = Stock::create(&[]);
    load_pgbench(stock.client("pgbench"), scale);
    // Both again, one right after the other: memory that was not used for minutes may have been taken back.
    warm_up(&mut stock.client("pgbench"));
    warm_up(&mut large.root().pgbench(&[]));
    load::throughput(&large, &stock, &mut report);
    load::wal_bytes(&large, &stock, &mut report);
    drop(stock);
    drop(large);
    let small = loaded(SMALL_SCALE);
    warm_up(&mut small.root().pgbench(&[]));
    branches::creation(&small, "small", &mut report);
    recovery::time_to_ready(&small, 10, &mut report);
    recovery::time_to_ready(&small, 1000, &mut report);
    ingest::decode_and_ingest(&mut report);
    report.print();
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
