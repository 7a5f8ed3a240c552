//! What developers run: `cargo xtask <word>`. Its words are the ones `cargo xtask help` prints.
//!
//! Not here: what users run (`scripts/`, the `scion` program).

mod bench;
mod cargo;
mod ci;
mod ecosystem;
mod fuzz;
mod lanes;
mod memory_disk;
mod nightly;
mod openapi;
mod oracle;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <word>

  ci          everything a change must pass: fmt, tidy, clippy, doc, tests
  tidy        the rules that are programs: docs, lengths, words, dependencies
  test        all tests, and which were the slowest; those of the whole system three at a time
  bench quick the figures of docs/measured.md, against stock Postgres; builds for release
  bench throughput  only pgbench on the root endpoint against stock Postgres
  bench control  how fast a branch gets other data, and many branches at once
  bench redo  how fast redo is, alone and through the store, on PostgreSQL's own suite and pgbench
  oracle ..   judges redo by stock Postgres over its own test suites; `cargo xtask oracle help` has the options
  fuzz [SECONDS [TARGET ..]]  every fuzz target for that long; 60 unless given
  ecosystem   extensions of Debian, drivers of PyPI and npm: installed privately, tried by one protocol
  nightly [SEED]  the newest minors, all judges, random histories, the ecosystem; the date is the seed unless given
  openapi     write crates/api/openapi.json from the code
  help        this text
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (word, second) = (args.first().map(String::as_str), args.get(1).map(String::as_str));
    let outcome = match (word, second) {
        (Some("ci"), None) => ci::ci(),
        (Some("tidy"), None) => tidy::tidy(),
        (Some("test"), None) => ci::test(),
        (Some("bench"), Some("quick")) => bench::quick(),
        (Some("bench"), Some("throughput")) => bench::throughput(),
        (Some("bench"), Some("control")) => bench::control(),
        (Some("bench"), Some("redo")) => bench::redo(),
        (Some("oracle"), Some(_)) => oracle::oracle(args.get(1..).unwrap_or_default()),
        (Some("fuzz"), _) => fuzz::fuzz(args.get(1..).unwrap_or_default()),
        (Some("ecosystem"), None) => ecosystem::ecosystem(),
        (Some("nightly"), seed) => nightly::nightly(seed),
        (Some("openapi"), None) => openapi::openapi(),
        (None | Some("help" | "--help" | "-h"), None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
