//! How long an endpoint takes to come back after `kill -9`, with little and with much WAL since its last checkpoint.

use std::time::Instant;

use scion_tests::{Scion, process};

use crate::report::{Report, ms};

/// Kills postgres and `scion compute` after about `mb` megabytes of WAL without a checkpoint.
pub fn time_to_ready(scion: &Scion, mb: u64, report: &mut Report) {
    let root = scion.root();
    root.psql("neondb", "create table if not exists filler(id int, body text)");
    root.psql("neondb", "checkpoint");
    let start = root.psql("neondb", "select pg_current_wal_lsn()");
    let wrote = || -> u64 {
        let sql = format!("select pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')::bigint / 1000000");
        root.psql("neondb", &sql).parse().unwrap()
    };
    while wrote() < mb {
        root.psql("neondb", "insert into filler select g, repeat('x', 900) from generate_series(1, 8000) g");
    }
    let info = scion.endpoint_info(root);
    let pid = |name: &str| i32::try_from(info[name].as_i64().unwrap()).unwrap();
    let begun = Instant::now();
    process::signal(pid("compute_pid"), libc::SIGKILL);
    process::signal(pid("postgres_pid"), libc::SIGKILL);
    let mut client = root.reconnect();
    client.simple_query("select 1").unwrap();
    let figure = ms(begun.elapsed());
    report.add(
        &format!("`kill -9` to first row, {mb} MB of WAL since the checkpoint"),
        figure,
        "the same for any",
    );
    root.psql("neondb", "drop table filler");
}
