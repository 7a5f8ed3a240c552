//! Physical WAL as bytes to whole records, and records to changes by key.
//!
//! ```text
//!  bytes at an LSN --> reader --> RawRecord --> record::Record --> interpret --> Change, Change, ...
//!                                                            \--> cluster::advance(ClusterState)
//! ```
//!
//! Invariants
//! - No I/O, no clock, no panic on any bytes: WAL comes from disks and networks.
//! - Nothing is skipped silently: an unknown core record type is an error that names it.
//!
//! Not here: what a record does to a page (`redo`), where changes are kept (`store`).

#![warn(clippy::indexing_slicing)]

mod bytes;
pub mod change;
pub mod checkpoint;
pub mod cluster;
pub mod control;
pub mod error;
pub mod interpret;
pub mod major;
pub mod names;
pub mod page;
pub mod reader;
pub mod record;
mod rmgr;
pub mod segment;

pub use change::{BlockChange, Change};
pub use checkpoint::{CHECKPOINT_SIZE, CheckPoint, SHUTDOWN_RECORD_SIZE, ShutdownCheckpoint};
pub use cluster::advance;
pub use control::{ControlFile, DbState};
pub use error::WalError;
pub use interpret::{InterpretContext, interpret};
pub use major::{MAJORS, Major};
pub use page::may_follow;
pub use reader::{RawRecord, RecordReader, WalFormat};
pub use record::image::{self, ImageError};
pub use record::{BlockImage, BlockRef, Compression, Record, RmgrId};
pub use rmgr::xact::{ParsedXact, XactKind, xact_time};
pub use rmgr::{clog, heap_vm, multixact, xact};
