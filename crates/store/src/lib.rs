//! The page store: what did page P of branch B hold at LSN L?
//!
//! Raw WAL goes in by branch and timeline, pages and cluster states come out at any record boundary. Branches are
//! (parent, LSN). See `README.md` for the files, the rules and the crash windows.
//!
//! Not here: what a record means (`wal`), what it does to a page (`redo`), who asks (`server`).

mod answer;
mod error;
mod project;

pub use answer::{BranchInfo, BranchPoint, ClusterImport, NewTimeline, StateAt, StoreOptions, TailProgress};
pub use error::{Result, StoreError};
pub use project::Project;
