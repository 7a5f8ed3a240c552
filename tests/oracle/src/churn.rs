//! Random changes to tables with every index type while other sessions vacuum, build and rebuild the indexes.
//!
//! The sessions are pgbench's, so that one seed gives each the same statements again; how they interleave differs.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::{Server, run as finish};
use crate::suites::Plan;

/// Sessions that change rows.
const SESSIONS: &str = "6";

/// How long the sessions run before it is looked how much they have logged, in seconds.
const TURN: u64 = 10;
/// Log at which the load ends, however long it was to run: a fast machine fills the disk, and the server keeps no more than
/// `wal_keep_size` says.
const WAL_MAX_BYTES: u64 = 8 << 30;

/// Statements that maintain, each on its own; what they name is made by `churn.sql`.
const MAINTENANCE: [&str; 24] = [
    "VACUUM churn",
    "REINDEX INDEX CONCURRENTLY churn_tags",
    "VACUUM (FREEZE, INDEX_CLEANUP ON) churn_small",
    "DROP INDEX CONCURRENTLY IF EXISTS churn_extra; CREATE INDEX CONCURRENTLY churn_extra ON churn USING hash (name)",
    "SELECT gin_clean_pending_list('churn_words'), gin_clean_pending_list('churn_tags')",
    "SELECT brin_summarize_new_values('churn_brin'), brin_desummarize_range('churn_brin', 0)",
    "REINDEX INDEX CONCURRENTLY churn_place",
    "VACUUM (INDEX_CLEANUP ON) churn",
    "DROP INDEX CONCURRENTLY IF EXISTS churn_extra; CREATE INDEX CONCURRENTLY churn_extra ON churn USING gist (span)",
    "TRUNCATE churn_small",
    "INSERT INTO churn_small SELECT i, i % 7, md5(i::text), point(i, i) FROM generate_series(1, 3000) i",
    "VACUUM FULL churn_small",
    "REINDEX TABLE CONCURRENTLY churn_small",
    "CREATE TABLE churn_gone AS SELECT * FROM churn LIMIT 500; CREATE INDEX ON churn_gone USING spgist (name); DROP TABLE churn_gone",
    "ANALYZE churn",
    "REINDEX INDEX CONCURRENTLY churn_name",
    "CLUSTER churn_small USING churn_small_pkey",
    "DELETE FROM churn WHERE id % 17 = 3",
    "VACUUM (INDEX_CLEANUP ON) churn",
    "DROP INDEX CONCURRENTLY IF EXISTS churn_extra; CREATE INDEX CONCURRENTLY churn_extra ON churn USING gin (doc)",
    "CHECKPOINT",
    "BEGIN; CREATE INDEX churn_undone ON churn USING spgist (place); ROLLBACK",
    "REINDEX INDEX CONCURRENTLY churn_hash",
    "ALTER TABLE churn_small ADD COLUMN IF NOT EXISTS extra int DEFAULT 7; ALTER TABLE churn_small DROP COLUMN extra",
];

/// Runs the load; says what it did.
pub fn run(server: &Server, plan: Plan) -> String {
    server.psql(include_str!("../load/churn.sql"));
    let done = AtomicBool::new(false);
    let (seconds, rounds) = std::thread::scope(|scope| {
        let maintenance = scope.spawn(|| maintain(server, &done));
        let seconds = change_in_turns(server, plan);
        done.store(true, Ordering::Relaxed);
        (seconds, maintenance.join().unwrap())
    });
    server.psql("VACUUM churn;\nDELETE FROM churn;\nVACUUM churn;");
    format!("{SESSIONS} sessions, {seconds} s, seed {}, {rounds} maintenance statements", plan.seed)
}

/// Changes rows for as long as planned, or until there is log enough; for how many seconds it did.
fn change_in_turns(server: &Server, plan: Plan) -> u64 {
    let mut done = 0;
    while done < plan.seconds && wal_bytes(server) < WAL_MAX_BYTES {
        let seconds = TURN.min(plan.seconds - done);
        change(server, Plan { seconds, seed: plan.seed.wrapping_add(done) });
        // Nothing may stay prepared: it keeps its locks, the next checkpoint would keep it, and vacuum would keep all rows.
        server.psql("SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \\gexec");
        done += seconds;
    }
    done
}

fn change(server: &Server, plan: Plan) {
    let scripts = [
        ("rows", include_str!("../load/rows.pgbench"), 10),
        ("bulk", include_str!("../load/bulk.pgbench"), 1),
        ("prepared", include_str!("../load/prepared.pgbench"), 2),
    ];
    let mut pgbench = server.client("pgbench");
    for (name, text, weight) in scripts {
        let path = server.dir().join(name);
        std::fs::write(&path, text).unwrap();
        pgbench.arg("-f").arg(format!("{}@{weight}", path.display()));
    }
    pgbench.args(["-n", "-c", SESSIONS, "-j", "2", "--max-tries=100", "-T"]);
    pgbench.arg(plan.seconds.to_string()).arg(format!("--random-seed={}", plan.seed)).arg("postgres");
    finish(pgbench.stdout(Stdio::null()).stderr(Stdio::null()));
}

/// How much has been logged since there is the cluster.
fn wal_bytes(server: &Server) -> u64 {
    let mut psql = server.client("psql");
    psql.args(["-XAtq", "-d", "postgres", "-c", "SELECT pg_current_wal_lsn() - '0/0'"]);
    let output = psql.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

/// Goes round the maintenance until told to stop. A statement that loses to a deadlock or a lock is not repeated.
fn maintain(server: &Server, done: &AtomicBool) -> usize {
    let mut count = 0;
    for statement in MAINTENANCE.iter().cycle() {
        if done.load(Ordering::Relaxed) && count >= MAINTENANCE.len() {
            break;
        }
        let mut psql = server.client("psql");
        psql.args(["-X", "-q", "-d", "postgres", "-c", "SET statement_timeout = '20s'"]);
        for part in statement.split("; ") {
            psql.args(["-c", part]);
        }
        let _ = psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        count += 1;
    }
    count
}
