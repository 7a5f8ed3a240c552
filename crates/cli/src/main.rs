//! The `scion` program: reads the command line, runs one verb, and turns its outcome into an exit code.
//!
//! Invariants
//! - Data goes to stdout, words go to stderr; nothing else writes to either (`output`).
//! - Every failure carries what happened, what to do next, and one of the seven exit codes (`failure`).
//!
//! Not here: what the verbs do (`verbs`), how the server is found (`place`) and spoken to (`client`).

mod args;
mod client;
mod confirm;
mod failure;
mod moment;
mod output;
mod place;
mod progress;
mod resolve;
mod tree;
mod verbs;
mod wire;

use std::process::ExitCode;

use clap::Parser;

/// Branching makes many short-lived allocations of page size on many threads; jemalloc returns them to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match verbs::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            failure.exit_code()
        }
    }
}
