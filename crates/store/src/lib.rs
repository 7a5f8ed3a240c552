//! The page store: what did page P of branch B hold at LSN L?
//!
//! Raw WAL goes in by branch and timeline, pages and cluster states come out at any record boundary. Branches are
//! (parent, LSN). See `README.md` for the files, the rules and the crash windows.
//!
//! Not here: what a record means (`wal`), what it does to a page (`redo`), who asks (`server`).

mod answer;
mod append;
mod branch;
mod cluster_read;
mod core;
#[cfg(test)]
mod crash;
mod disk;
mod error;
mod extension;
mod flush;
mod import;
mod ingest;
mod keeper;
mod layer;
mod limits;
mod manifest;
mod memory;
mod memtable;
#[cfg(test)]
mod model;
mod object;
mod page_read;
mod project;
mod slru;
mod tip;
mod value;
mod wal_files;
mod walk;
mod waypoint;

pub use answer::{
    BranchInfo, BranchPoint, ClusterImport, NewTimeline, StateAt, StoreOptions, TailProgress, Unread,
    Unreadable,
};
pub use error::{ErrorKind, Result, StoreError, of_extension};
pub use memory::Memory;
pub use project::Project;
