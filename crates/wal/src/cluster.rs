//! The cluster's state at each record boundary: what a checkpoint there would say.
//!
//! Follows `StartupXLOG`, `ApplyWalRecord` and the `*_redo` functions.

use types::ClusterState;

use crate::{RawRecord, Record, WalError, WalFormat};

/// Brings `state` from the boundary before `record` to the one after it.
///
/// # Errors
/// `Malformed` if the record is shorter than its fields; `Unsupported` if it turns `wal_level` to minimal.
pub fn advance(
    state: &mut ClusterState,
    format: &WalFormat,
    record: &Record<'_>,
    raw: &RawRecord<'_>,
) -> Result<(), WalError> {
    let _ = (state, format, raw);
    Err(record.unknown())
}
