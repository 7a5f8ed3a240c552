//! The words every other crate speaks: positions, pages, relations, keys, ids, times.
//!
//! Values only: no I/O, no clock, no dependency. A type is here when two crates that must not know each other
//! exchange it. Not here: how WAL is read (`wal`), how pages are stored (`store`).

#![warn(clippy::indexing_slicing)]

mod cluster;
mod ids;
mod key;
mod lsn;
mod page;
pub mod path;
mod relation;
mod time;

pub use cluster::{ClusterState, ServerLimits, StateAt};
pub use ids::{BranchId, EndpointId, InvalidId, ProjectId, TimelineId, Xid};
pub use key::{Key, KeyBytes, SLRU_PAGES_PER_SEGMENT, SlruKind, SlruRun};
pub use lsn::{Lsn, ParseLsnError, WAL_LONG_HEADER_BYTES, WAL_PAGE_BYTES, WAL_SHORT_HEADER_BYTES};
pub use page::{BLOCK_SIZE, PAGE_HEADER_SIZE, Page};
pub use relation::{BlockNumber, DEFAULT_TABLESPACE, Fork, GLOBAL_TABLESPACE, RelFork, RelTag};
pub use time::PgTime;
