//! The work that a real Postgres is given, so that every routine of redo is reached.

use std::process::Stdio;

use oracle::server::{self, Postgres, Recorded, Server};

/// Runs the workload on a new cluster with `settings`.
pub fn record_workload(postgres: &Postgres, settings: &str) -> Recorded {
    server::record(postgres, settings, workload)
}

fn workload(server: &Server) {
    server::run(server.client("pgbench").args(["-q", "-i", "-s", "2", "postgres"]).stderr(Stdio::null()));
    server.psql(include_str!("tables.sql"));
    server.pgbench(include_str!("contend.pgbench"), &["-c", "6", "-j", "2", "-t", "400"]);
    server::run(
        server
            .client("pgbench")
            .args(["-c", "4", "-j", "2", "-t", "800", "postgres"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    server.psql(include_str!("btree.sql"));
    server.psql(include_str!("gin.sql"));
    server.psql(include_str!("generic.sql"));
    server.psql(include_str!("gist.sql"));
    server.psql(include_str!("spgist.sql"));
    server.pgbench(include_str!("indexes.pgbench"), &["-c", "6", "-j", "2", "-t", "40"]);
    server.psql(include_str!("hash.sql"));
    server.psql(include_str!("brin.sql"));
    server.psql("ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT;");
    server.psql(include_str!("heap.sql"));
    server.pgbench(include_str!("contend.pgbench"), &["-c", "6", "-j", "2", "-t", "100"]);
    server.pgbench(include_str!("indexes.pgbench"), &["-c", "6", "-j", "2", "-t", "20"]);
}
