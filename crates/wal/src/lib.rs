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

pub mod change;
pub mod error;
pub mod reader;
pub mod record;

pub use change::{BlockChange, Change};
pub use error::WalError;
pub use reader::{RawRecord, RecordReader, WalFormat};
pub use record::{BlockImage, BlockRef, Compression, Record, RmgrId};
