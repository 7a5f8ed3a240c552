//! pgbench on the root endpoint against the same Postgres without scion, alternated.
//!
//! Once with all data in the kernel's page cache on both sides, which each run makes sure of: what the cache holds is
//! chance otherwise, as some machines take back memory that was not used for a minute. And once with nothing in it.

use std::process::Command;

use scion_tests::stock::Stock;
use scion_tests::{Scion, process};

use crate::report::{Report, median};

/// Rounds of each side; seconds of each run. Many short ones: what else the disk does hits both sides alike.
const ROUNDS: usize = 12;
const SECONDS: &str = "4";

/// Rounds of each side with nothing in the page cache.
const COLD_ROUNDS: usize = 6;
/// Reads the tables of pgbench through the page cache.
const READ_ALL: &str = "create extension if not exists pg_prewarm; \
    select sum(pg_prewarm(oid, 'read')) from pg_class where relname like 'pgbench%' and relkind in ('r', 'i')";

/// One side's way to run SQL.
type Sql<'a> = &'a dyn Fn(&str) -> String;

/// TPC-B and select-only, transactions a second as a ratio.
pub fn throughput(scion: &Scion, stock: &Stock, report: &mut Report) {
    let cached = |psql: Sql<'_>| drop(psql(READ_ALL));
    for (name, mode, target) in [("TPC-B", &[][..], "1.0x"), ("select-only", &["-S"][..], "0.95x")] {
        let figure = rounds(scion, stock, mode, ROUNDS, &cached);
        report.add(&format!("pgbench {name} on the root endpoint against stock, all cached"), figure, target);
    }
    if !process::is_root() {
        eprintln!("skipped: pgbench with nothing in the page cache, which only root can empty");
        return;
    }
    let nothing_cached = |_: Sql<'_>| {
        process::run(&mut Command::new("sync"));
        std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    };
    let figure = rounds(scion, stock, &["-S"], COLD_ROUNDS, &nothing_cached);
    let row = "pgbench select-only, nothing in the kernel's page cache at the start of each run of";
    report.add(&format!("{row} {SECONDS} s"), figure, "-");
}

/// Both sides by turns, each after `prepare`.
fn rounds(scion: &Scion, stock: &Stock, mode: &[&str], count: usize, prepare: &dyn Fn(Sql<'_>)) -> String {
    let root = scion.root();
    let mut ratios = Vec::new();
    let mut ours_tps = Vec::new();
    for _ in 0..count {
        prepare(&|sql| stock.psql(sql));
        let theirs = tps(stock.client("pgbench").args(arguments(mode)));
        prepare(&|sql| root.psql("neondb", sql));
        let ours = tps(&mut superuser(scion, mode));
        ratios.push(ours / theirs);
        ours_tps.push(ours);
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let middle = median(&mut ratios);
    format!("{middle:.2}x [{least:.2}-{most:.2}] at {:.0} TPS", median(&mut ours_tps))
}

/// WAL bytes a transaction for 60 s after a checkpoint.
pub fn wal_bytes(scion: &Scion, stock: &Stock, report: &mut Report) {
    let root = scion.root();
    let theirs = bytes_per_transaction(|sql| stock.psql(sql), || stock.client("pgbench"));
    let ours = bytes_per_transaction(|sql| root.psql("neondb", sql), || base(scion));
    let figure = format!("{:.3}x ({ours:.0} against {theirs:.0} bytes)", ours / theirs);
    report.add(
        "WAL bytes a TPC-B transaction, 60 s after a checkpoint, against stock defaults",
        figure,
        "0.15x",
    );
}

fn bytes_per_transaction(psql: impl Fn(&str) -> String, pgbench: impl Fn() -> Command) -> f64 {
    psql("checkpoint");
    let start = psql("select pg_current_wal_lsn()");
    let text = process::run(pgbench().args(["-n", "-c", "2", "-T", "60"]));
    let wrote: f64 =
        psql(&format!("select pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')")).parse().unwrap();
    let done = text
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        .unwrap();
    wrote / done.trim().parse::<f64>().unwrap()
}

fn superuser(scion: &Scion, mode: &[&str]) -> Command {
    let mut command = base(scion);
    command.args(arguments(mode));
    command
}

/// pgbench over the unix socket, as the stock side does it.
fn base(scion: &Scion) -> Command {
    let mut command = scion.root().superuser("pgbench");
    command.env("PGDATABASE", "neondb");
    command
}

fn arguments<'a>(mode: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["-n", "-c", "2", "-T", SECONDS];
    all.extend(mode);
    all
}

fn tps(command: &mut Command) -> f64 {
    let text = process::run(command);
    let line = text.lines().find(|line| line.starts_with("tps = ")).unwrap();
    line.trim_start_matches("tps = ").split(' ').next().unwrap().parse().unwrap()
}
