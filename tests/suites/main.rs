//! `cargo xtask oracle branch`: PostgreSQL's own test suites on the endpoint of a branch that was made at a busy moment.
//!
//! The parent first runs the suites itself, so that it has every kind of object, then the index churn; during that the
//! branch is made. Layers are tiny, so that a page of the branch comes out of many of them.
//!
//! ```text
//!   parent  --suites--+--churn----------+-------------------------> dump as before, amcheck
//!                                       |
//!   branch                              +--amcheck--suites--amcheck
//! ```
//!
//! Not here: whether a branch holds exactly what its parent held (`scion-tests`).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use oracle::server::{Postgres, Server};
use oracle::suites::{Outcome, Plan, Suite};
use scion_tests::process::give_to_postgres;
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// Megabytes of a memtable, and so of a layer before compression.
const MEMTABLE_MB: &str = "1";
/// How long the churn runs before the branch is made.
const BUSY_FOR: Duration = Duration::from_secs(8);
/// How long it runs in all.
const PLAN: Plan = Plan { seconds: 15, seed: 1 };

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let suites = [Suite::Core, Suite::Isolation, Suite::Contrib];
    let chosen: Vec<Suite> =
        suites.into_iter().filter(|suite| named.iter().any(|name| name == suite.name())).collect();
    if chosen.len() < named.len() {
        eprintln!("oracle branch [core] [isolation] [contrib]: all unless named");
        return ExitCode::from(2);
    }
    if run(if named.is_empty() { &suites } else { &chosen }) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the suites on a branch of a parent that ran them too. True if every test passed there and the parent stayed as
/// it was.
///
/// # Panics
/// If `pg_amcheck` finds something on either side.
fn run(suites: &[Suite]) -> bool {
    // The suites use the server's files, and its socket, as one user.
    let arguments = ["--memtable-mb", MEMTABLE_MB, "--run-as", "postgres", "--postgres-path", "/"];
    let arguments = arguments.map(str::to_owned);
    let scion = Scion::start_with(&arguments, json!({"name": "suites", "pg_version": 15}));
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let parent = server_of(scion.root(), dir.path());
    expect_stock_settings(scion.root());
    for suite in suites {
        println!("parent: {}: {}", suite.name(), suite.load(&parent, PLAN).said);
    }
    let branch = std::thread::scope(|scope| {
        scope.spawn(|| Suite::Churn.load(&parent, PLAN));
        std::thread::sleep(BUSY_FOR);
        scion.branch("judged", json!({}))
    });
    scion.root().amcheck();
    let before = scion.root().dumpall();
    let child = server_of(&branch, dir.path());
    // What was prepared at that moment would keep its locks, and vacuum from its work.
    child.psql("SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \\gexec");
    branch.amcheck();
    let mut right = true;
    for suite in suites {
        let Outcome { said, failed } = suite.load(&child, PLAN);
        println!("branch: {}: {said} {}", suite.name(), failed.join(" "));
        right &= failed.is_empty();
    }
    branch.amcheck();
    scion.root().amcheck();
    let unchanged = before == scion.root().dumpall();
    println!("the parent is {}", if unchanged { "unchanged" } else { "CHANGED" });
    right && unchanged
}

fn server_of(endpoint: &Endpoint, dir: &Path) -> Server {
    Server::at(&Postgres::v15(), dir, &endpoint.dir.join("sock"), &endpoint.port())
}

/// An endpoint differs from a stock server in one setting that the core suite looks at: tablespaces are in place.
fn expect_stock_settings(endpoint: &Endpoint) {
    endpoint.psql("postgres", "ALTER ROLE postgres SET allow_in_place_tablespaces = off");
}
