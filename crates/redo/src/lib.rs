//! A page and a record give the next page, byte for byte what Postgres's own redo leaves.
//!
//! ```text
//!  page at its LSN --+
//!                    +--> apply --> page at the record's end LSN
//!  record, key ------+
//! ```
//!
//! Invariants
//! - No I/O, no clock, no allocation, no state between calls; any two pages can be rebuilt side by side.
//! - No bytes of a record or page make it panic. After an error the page's content means nothing.
//! - Nothing is skipped silently: a record that this crate cannot apply to the page is an error that names both.
//!
//! Not here: which records touch which page (`wal`), where pages and records are kept (`store`).

#![warn(clippy::indexing_slicing)]

mod block;
mod bytes;
mod error;
mod generic;
mod heap;
mod index;
pub mod mask;
pub mod page;
mod sequence;
mod slru;
mod step;

pub(crate) use error::Fault;
pub use error::RedoError;
pub use page::checksum::{checksum, set_checksum};

use slru::{clog, commit_ts, multixact};
use types::{Key, Lsn, Page, SlruKind};
use wal::Record;

/// What redo must know of the cluster besides the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedoContext {
    /// PostgreSQL's major version: 15 to 18. What differs: `prune`, statistics in commits.
    pub major: u32,
    /// Data checksums or `wal_log_hints` are on (`XLogHintBitIsNeeded`).
    pub checksums: bool,
}

/// Applies `record`, which ends at `end`, to the page named `key`.
///
/// Does what `rm_redo` of the record's resource manager does to that page: restores an applicable full-page image
/// first, leaves the page alone if its LSN says that it already has the record, and sets its LSN. Pages of SLRUs and
/// cleared visibility map bits have no such guard, as in Postgres.
///
/// # Errors
/// - `Unsupported` if the record's type cannot be replayed and the record holds no image of the page.
/// - `Malformed` if record and page do not fit together; one of them is damaged.
/// - `Untouched` if the record has no effect on this key.
///
/// After an error the page's content means nothing.
pub fn apply(
    cx: &RedoContext,
    key: &Key,
    page: &mut Page,
    record: &Record<'_>,
    end: Lsn,
) -> Result<(), RedoError> {
    let outcome = match *key {
        Key::RelBlock(rel, block) => block::apply(cx, rel, block, page, record, end),
        Key::SlruBlock(SlruKind::Clog, number) => clog::apply(cx, number, page, record),
        Key::SlruBlock(SlruKind::MultiXactOffsets, number) => {
            multixact::apply_offsets(cx, number, page, record)
        }
        Key::SlruBlock(SlruKind::MultiXactMembers, number) => {
            multixact::apply_members(cx, number, page, record)
        }
        Key::SlruBlock(SlruKind::CommitTs, number) => commit_ts::apply(cx, number, page, record),
        Key::Database { .. }
        | Key::RelMap { .. }
        | Key::Tablespace(_)
        | Key::TwoPhase(_)
        | Key::RelSize(_)
        | Key::ReplOrigin(_)
        | Key::Extension(_)
        | Key::Unreadable(_) => Err(Fault::Untouched),
    };
    outcome.map_err(|fault| RedoError::new(fault, cx, key, record))
}
