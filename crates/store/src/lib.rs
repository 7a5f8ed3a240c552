//! The page store: what did page P of branch B hold at LSN L?
//!
//! Raw WAL goes in by branch and timeline, pages and cluster states come out at any record boundary. Branches are
//! (parent, LSN). See `README.md` for the files, the rules and the crash windows.
//!
//! Not here: what a record means (`wal`), what it does to a page (`redo`), who asks (`server`).

// Bytes come from disks.
#![warn(clippy::indexing_slicing)]

mod answer;
mod branch;
mod core;
#[cfg(test)]
mod crash;
mod disk;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod ingest;
mod limits;
mod log;
mod manifest;
mod memory;
#[cfg(test)]
mod model;
mod object;
mod project;
mod read;
#[cfg(test)]
mod rules;
mod table;

pub use answer::{
    BranchInfo, BranchPoint, ClusterImport, NewTimeline, StoreOptions, TailProgress, Unread, Unreadable,
};
pub use error::{ErrorKind, Result, StoreError, of_extension};
pub use memory::Memory;
pub use project::Project;
