//! One record to the keys it changes.

use types::Lsn;

use crate::{Change, Record, WalError, WalFormat};

/// What the meaning of a record depends on besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterpretContext {
    /// The cluster's WAL.
    pub format: WalFormat,
    /// Whether commits are recorded in `pg_commit_ts`: `ClusterState::limits.track_commit_timestamp` before the
    /// record.
    pub track_commit_timestamp: bool,
}

/// Reports every change that `record`, which ends at `end`, makes. Each key is reported at most once.
///
/// # Errors
/// `Unknown` for a record type of Postgres itself that this version does not know, `Malformed` if the record is
/// shorter than its fields, `Unsupported` if it turns `wal_level` to minimal.
pub fn interpret<'a>(
    cx: &InterpretContext,
    record: &Record<'a>,
    end: Lsn,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    let _ = (cx, end, sink);
    Err(record.unknown())
}
