//! Bytes on disk and in memory.

use std::path::Path;

use scion_tests::{Scion, process};
use serde_json::json;

use crate::report::Report;

/// A branch when it is fresh, and after one hundredth of its rows were updated.
pub fn branch_sizes(scion: &Scion, report: &mut Report) {
    let before = used(scion.data_dir());
    let made = scion.try_branch("fresh", json!({}), false).unwrap();
    let fresh = used(scion.data_dir()).saturating_sub(before);
    report.add("disk for a fresh branch", format!("{} KB", fresh / 1024), "64 KB");

    let id = made["branch"]["id"].as_str().unwrap();
    scion.api().delete(&scion.path(&format!("/branches/{id}"))).unwrap();
    let branch = scion.branch("updated", json!({}));
    let start = branch.psql("postgres", "select pg_current_wal_lsn()");
    branch.psql("neondb", "update pgbench_accounts set abalance = abalance + 1 where aid % 100 = 0");
    branch.psql("neondb", "checkpoint");
    let wrote: f64 = branch
        .psql("postgres", &format!("select pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')"))
        .parse()
        .unwrap();
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", branch.id)), json!({})).unwrap();
    let own = scion.branch_info(&branch.branch)["own_data_bytes"].as_f64().unwrap();
    let figure = format!("{:.2}x of {:.1} MB", own / wrote, wrote / 1e6);
    report.add("disk for a branch after updating 1%, against the WAL it wrote", figure, "1.5x");
    scion.api().delete(&scion.path(&format!("/branches/{}", branch.branch))).unwrap();
}

/// `scion serve` with 20 branches that do nothing.
pub fn idle_memory(scion: &Scion, report: &mut Report) {
    let branches: Vec<_> = (0..20).map(|n| scion.branch(&format!("idle-{n}"), json!({}))).collect();
    std::thread::sleep(std::time::Duration::from_secs(5));
    report.add(
        "memory of `scion serve`, 20 branches, idle",
        format!("{} MB", status_kb(scion, "VmRSS:") / 1024),
        "200 MB",
    );
    for branch in branches {
        scion.api().delete(&scion.path(&format!("/branches/{}", branch.branch))).unwrap();
    }
}

/// Kilobytes of memory of its own that `scion serve` occupies: without its program and the files it maps.
pub fn anonymous_memory_kb(scion: &Scion) -> u64 {
    status_kb(scion, "RssAnon:")
}

/// A line of the kernel's account of `scion serve`.
fn status_kb(scion: &Scion, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", scion.serve_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Bytes of blocks that the files below `dir` occupy, mounts left out.
fn used(dir: &Path) -> u64 {
    let text = process::run(std::process::Command::new("du").args(["-xs", "--block-size=1"]).arg(dir));
    text.split_whitespace().next().unwrap().parse().unwrap()
}
