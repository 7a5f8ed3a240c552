//! pgbench on the root endpoint against the same Postgres without scion, alternated.

use std::process::Command;

use scion_tests::stock::Stock;
use scion_tests::{Scion, process};

use crate::report::{Report, median};

/// Rounds of each side; seconds of each run. Many short ones: what else the disk does hits both sides alike.
const ROUNDS: usize = 20;
const SECONDS: &str = "4";

/// TPC-B and select-only, transactions a second as a ratio.
pub fn throughput(scion: &Scion, stock: &Stock, report: &mut Report) {
    for (name, mode, target) in [("TPC-B", &[][..], "1.0x"), ("select-only", &["-S"][..], "0.95x")] {
        let mut ratios = Vec::new();
        let mut ours_tps = Vec::new();
        for _ in 0..ROUNDS {
            let theirs = tps(stock.client("pgbench").args(arguments(mode)));
            let ours = tps(&mut superuser(scion, mode));
            ratios.push(ours / theirs);
            ours_tps.push(ours);
        }
        let spread = ratios.iter().copied().fold((f64::INFINITY, 0.0f64), |(a, b), r| (a.min(r), b.max(r)));
        let figure = format!(
            "{:.2}x [{:.2}-{:.2}] at {:.0} TPS",
            median(&mut ratios),
            spread.0,
            spread.1,
            median(&mut ours_tps)
        );
        report.add(&format!("pgbench {name} on the root endpoint against stock"), figure, target);
    }
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
