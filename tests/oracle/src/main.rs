//! `cargo xtask oracle`: runs a judge over a load and says what it found; fails if redo was wrong.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use oracle::inject::Injection;
use oracle::replay::{Images, Judge, replay_before};
use oracle::results::{self, Run};
use oracle::server::{Postgres, SETTINGS, record};
use oracle::stock::Stock;
use oracle::suites::{Plan, Suite};
use oracle::{files, seeds};

const HELP: &str = "\
oracle <judge> [options]

  consistency    every record of a load against the page image that wal_consistency_checking put into it
  judge          every record of a load against a stock Postgres's own redo, byte for byte
  branch         [core] [isolation] [contrib]: the suites on the endpoint of a branch made at a busy moment
  directory      the whole directory at random LSNs: what the store gives against stock recovery
  whole          consistency, judge and directory over all loads, then the report; takes --major
  report         write the tables of the last runs into crates/redo/README.md

  --major N      PostgreSQL's major version; 15 unless given
  --suite NAME   core, isolation, contrib, pgbench, churn, all of these, or extensions; core unless given
  --seconds N    how long pgbench and churn run; 60 unless given
  --seed N       their random numbers; 1 unless given
  --inject TYPE  flip one bit in what redo makes of the first record of that type, such as 'Heap 00', or of
                 each type with 'all'; the judge must then fail
  --seeds write  also write inputs for the fuzz targets to target/fuzz-seeds
";

struct Options {
    major: u32,
    suites: Vec<Suite>,
    plan: Plan,
    inject: Option<Option<String>>,
    seeds: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let judge = args.next().unwrap_or_default();
    let Some(options) = parse(args) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let right = match judge.as_str() {
        "consistency" => {
            all(&options, |suite| judged("consistency", |_, _| Box::new(Images), suite, &options))
        }
        "judge" => all(&options, |suite| {
            judged("judge", |postgres, base| Box::new(Stock::start(postgres, base)), suite, &options)
        }),
        "report" => {
            results::report();
            true
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let plan = Plan { seconds: 60, seed: 1 };
    let mut options = Options { major: 15, suites: vec![Suite::Core], plan, inject: None, seeds: false };
    while let Some(name) = args.next() {
        let value = args.next()?;
        match name.as_str() {
            "--major" => options.major = value.parse().ok()?,
            "--seconds" => options.plan.seconds = value.parse().ok()?,
            "--seed" => options.plan.seed = value.parse().ok()?,
            "--suite" if value == "all" => options.suites = Suite::ALL.to_vec(),
            "--suite" => {
                options.suites = value.split(',').map(Suite::named).collect::<Option<_>>()?;
            }
            "--seeds" => options.seeds = value == "write",
            "--inject" => options.inject = Some((value != "all").then_some(value)),
            _ => return None,
        }
    }
    Some(options)
}

/// Runs them all, whatever one finds; true if redo was right in each.
fn all(options: &Options, run: impl Fn(Suite) -> bool) -> bool {
    options.suites.iter().filter(|suite| !run(**suite)).count() == 0
}

/// Makes a judge for a load that began with the cluster in a directory.
type MakeJudge = fn(&Postgres, &Path) -> Box<dyn Judge>;

/// Runs a load, replays it before `judge`, prints and keeps what it found; true if redo was right.
fn judged(name: &'static str, judge: MakeJudge, suite: Suite, options: &Options) -> bool {
    let postgres = Postgres::of(options.major)
        .unwrap_or_else(|| panic!("PostgreSQL {} is not here: scripts/postgres-majors", options.major));
    let load = suite.described(&postgres, options.plan);
    let run =
        Run { judge: name, suite: suite.name(), load, major: options.major, version: postgres.version() };
    let begun = Instant::now();
    let mut said = String::new();
    let settings = format!("{SETTINGS}{}", suite.settings());
    let recorded = record(&postgres, &settings, |server| said = suite.load(server, options.plan).said);
    println!("{} on {}: {said} ({} s)", run.suite, run.version, begun.elapsed().as_secs());
    let begun = Instant::now();
    let mut injection = options.inject.clone().map(Injection::new);
    let mut judge = judge(&postgres, &recorded.base);
    let replayed = replay_before(&mut *judge, &recorded.base, &recorded.after, &mut |record, key, page| {
        if let Some(injection) = &mut injection {
            injection.flip(record, key, page);
        }
    });
    let compared = files::compare(&recorded.after, &replayed);
    for (name, count) in &replayed.counts {
        println!(
            "{name:<40} applied {:>9}  verified {:>9}  unsupported {:>8}  differing {:>6}",
            count.applied, count.verified, count.unsupported, count.differing
        );
    }
    for text in replayed.mismatches.iter().take(40).chain(compared.mismatches.iter().take(20)) {
        println!("{text}");
    }
    let total = replayed.total();
    println!(
        "{} on {}, judge {name}: {} records ({} MB), {} pages, {} steps, {} verified, {} unsupported, {} differing; \
         files: {} maps, {} SLRU pages equal, {} differing ({} s)",
        run.suite,
        run.version,
        replayed.records,
        replayed.wal_bytes >> 20,
        replayed.pages.len(),
        total.applied,
        total.verified,
        total.unsupported,
        total.differing,
        compared.maps,
        compared.slrus,
        compared.mismatches.len(),
        begun.elapsed().as_secs()
    );
    if options.seeds {
        println!("{} inputs for fuzzing", seeds::write(&recorded.after, &replayed));
    }
    if injection.is_none() {
        results::keep(&run, &replayed, &compared);
    }
    total.differing == 0 && compared.mismatches.is_empty()
}
