//! The `scion` program: reads the command line, runs one verb, and turns its outcome into an exit code.
//!
//! Invariants
//! - Data goes to stdout, words go to stderr; nothing else writes to either (`output`).
//! - Every failure carries what happened, what to do next, and one of the seven exit codes (`failure`).
//!
//! Not here: what the verbs do (`verbs`), how the server is found (`place`) and spoken to (`client`).

mod args;
mod client;
mod complete;
mod confirm;
mod failure;
mod global;
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

/// Read by jemalloc at its start: two arenas serve this program's threads, and what is free goes back to the system
/// within a second, by a thread of its own, so that an idle server is small.
// SAFETY: the symbol is jemalloc's own way to be configured; it reads a C string through a pointer, which this is.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: MallocConf =
    MallocConf(c"narenas:2,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr());

/// A pointer to a constant that never changes.
#[repr(transparent)]
struct MallocConf(*const std::ffi::c_char);

// SAFETY: the bytes pointed to are constant, so any thread may read them.
unsafe impl Sync for MallocConf {}

fn main() -> ExitCode {
    complete::answer_shell();
    let cli = args::Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            failure.exit_code()
        }
    }
}
