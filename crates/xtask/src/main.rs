//! What developers run: `cargo xtask <word>`. Its words are the ones `cargo xtask help` prints.
//!
//! Not here: what users run (`scripts/`, the `scion` program).

mod bench;
mod cargo;
mod ci;
mod openapi;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <word>

  ci          everything a change must pass: fmt, tidy, clippy, tests
  tidy        the rules that are programs: docs, lengths, words, dependencies
  test        all tests, those of the whole system one after the other
  bench quick the figures of the README, against stock Postgres; builds for release
  openapi     write crates/api/openapi.json from the code
  help        this text
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let word = args.next();
    let outcome = match (word.as_deref(), args.next().as_deref()) {
        (Some("ci"), None) => ci::ci(),
        (Some("tidy"), None) => tidy::tidy(),
        (Some("test"), None) => ci::test(),
        (Some("bench"), Some("quick")) => bench::quick(),
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
