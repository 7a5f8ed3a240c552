//! A data directory that Postgres can run on: names in memory, pages from a source, writes in an overlay.
//!
//! ```text
//!   postgres --pread/pwrite--> kernel page cache --FUSE--> fuse (adapter) --> tree (names) --> content (bytes)
//!                                                                             overlay file <--+--> PageSource
//! ```
//!
//! Invariants
//! - A page Postgres wrote is read from the overlay, every other page from the source: never copied, never guessed.
//! - Nothing in the overlay outlives the process: its files have no names.
//! - Who waits for the source holds up nobody else: there are always threads to answer the kernel that do not.
//! - The core (`tree`, `content`) knows no kernel types; `fuse` makes no decisions.
//!
//! Not here: where pages come from (the caller's `PageSource`), what files a cluster needs (`compute`).

#![warn(clippy::indexing_slicing)]

mod backing;
mod content;
mod directory;
mod filesystem;
mod fuse;
mod limits;
mod links;
#[cfg(test)]
mod model_test;
mod mount;
mod overlay;
mod source;
mod tree;
mod workers;

pub use filesystem::{FileSystem, Options, Stats};
pub use links::MayFollow;
pub use mount::{MountOptions, Mounted, fusermount, mount, unmount};
pub use source::{Failure, FailureHook, FailureKind, PageSource};
