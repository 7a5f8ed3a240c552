//! Why a record could not be applied to a page.

use types::{BlockNumber, Key, Lsn, RelFork};
use wal::Record;

use crate::RedoContext;

/// Why a record could not be applied to a page. None of them goes away by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedoError {
    /// Replay of this record type is not written; only its full-page images can be used.
    #[error("cannot replay {record} at {lsn} on block {block} of {rel}: record type not supported")]
    Unsupported {
        /// The fork.
        rel: RelFork,
        /// The block.
        block: BlockNumber,
        /// Resource manager and record type.
        record: String,
        /// Start of the record.
        lsn: Lsn,
    },
    /// Record and page do not fit together: one of them is damaged.
    #[error("cannot replay {record} at {lsn} on {page}: {reason}")]
    Malformed {
        /// The page.
        page: String,
        /// Resource manager and record type.
        record: String,
        /// Start of the record.
        lsn: Lsn,
        /// What does not fit.
        reason: &'static str,
    },
    /// The record has no effect on the page; the caller's index is wrong.
    #[error("{record} at {lsn} does not touch {page}")]
    Untouched {
        /// The page.
        page: String,
        /// Resource manager and record type.
        record: String,
        /// Start of the record.
        lsn: Lsn,
    },
}

/// What went wrong in one step of redo, before it is known where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// See [`RedoError::Unsupported`].
    Unsupported,
    /// See [`RedoError::Malformed`].
    Malformed(&'static str),
    /// See [`RedoError::Untouched`].
    Untouched,
}

impl RedoError {
    #[cold]
    pub(crate) fn new(fault: Fault, cx: &RedoContext, key: &Key, record: &Record<'_>) -> Self {
        let lsn = record.start;
        let page = page_name(key);
        let record = wal::names::describe(Some(cx.major), record);
        match (fault, *key) {
            (Fault::Unsupported, Key::RelBlock(rel, block)) => Self::Unsupported { rel, block, record, lsn },
            (Fault::Malformed(reason), _) => Self::Malformed { page, record, lsn, reason },
            (Fault::Untouched | Fault::Unsupported, _) => Self::Untouched { page, record, lsn },
        }
    }
}

fn page_name(key: &Key) -> String {
    match key {
        Key::RelBlock(rel, block) => format!("block {block} of {rel}"),
        Key::SlruBlock(kind, number) => format!("page {number} of {}", kind.directory()),
        other => format!("{other:?}"),
    }
}
