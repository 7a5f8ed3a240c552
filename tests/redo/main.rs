//! Redo and the store by the WAL of one stock server: `cargo xtask bench redo` and `cargo xtask oracle directory`.
//!
//! Not here: redo record by record (`scion-oracle`), branches and endpoints (the tests of the whole system).

mod bench;
mod chains;
mod directory;
mod feed;
mod log;
mod standby;

use std::process::ExitCode;

use directory::Options;
use oracle::suites::{Plan, Suite};

/// A server that writes its log for a store: without full-page images, and keeping it all.
const SETTINGS: &str = "fsync = off\nmax_wal_size = 8GB\nwal_keep_size = 16GB\nfull_page_writes = off\n\
     track_commit_timestamp = on\nmax_prepared_transactions = 10\nautovacuum = off\ncheckpoint_timeout = 1h\n\
     max_connections = 60\n";

const HELP: &str = "\
redo bench                  how fast redo is, alone and through the store
redo directory [options]    the whole directory at random LSNs: what the store gives against stock recovery

  --major N      PostgreSQL's major version; 15 unless given
  --suite NAME   core, isolation, contrib, pgbench, churn or extensions; core unless given
  --points N     LSNs to compare at; 5 unless given
  --seconds N    how long pgbench and churn run; 60 unless given
  --seed N       random numbers of load and LSNs; 1 unless given
  --keep no      leave what `cargo xtask oracle report` writes as it is
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let right = match args.next().as_deref() {
        Some("bench") => {
            bench::run();
            Some(true)
        }
        Some("directory") => parse(args).map(|options| directory::run(&options)),
        _ => None,
    };
    match right {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let plan = Plan { seconds: 60, seed: 1 };
    let mut options = Options { major: 15, suite: Suite::Core, points: 5, plan, keep: true };
    while let Some(name) = args.next() {
        let value = args.next()?;
        match name.as_str() {
            "--suite" => options.suite = Suite::named(&value)?,
            "--major" => options.major = value.parse().ok()?,
            "--points" => options.points = value.parse().ok()?,
            "--seconds" => options.plan.seconds = value.parse().ok()?,
            "--keep" => options.keep = value != "no",
            "--seed" => options.plan.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}
