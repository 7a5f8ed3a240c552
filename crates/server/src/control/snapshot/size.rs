//! How large a snapshot is: what it holds, and what was written since the one before it.
//!
//! ```text
//!   branch  ----*-------------*------------>     log
//!               one           two
//!               |<----------->|  bytes of log: what keeping two costs beside one, at most
//! ```
//!
//! A restore leaves snapshots on a history that the branch no longer has. Nothing is said of the difference to those.

use store::{BranchPoint, StoreError};
use types::{BranchId, Lsn};

use crate::control::Control;
use crate::error::Result;
use crate::metadata::branch::BranchRow;
use crate::metadata::snapshot;
use crate::names::parse_branch;

/// Sizes of a snapshot, which never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all relations in it.
    pub full_bytes: i64,
    /// Bytes of log since the snapshot before it.
    pub diff_bytes: Option<i64>,
}

/// The sizes of a snapshot of `source` whose data is `data`, which begins at `point`. Its row is not there yet.
///
/// # Errors
/// Those of the store and SQLite.
pub fn snapshot_sizes(
    control: &Control,
    source: &BranchRow,
    data: &BranchId,
    point: &BranchPoint,
) -> Result<Sizes> {
    let store = control.storage.store(&source.project_id)?;
    // Of the source, which is open: nobody reads the snapshot's own branch.
    let full_bytes = bytes(store.logical_bytes(&point.branch, point.lsn)?);
    let history = store.ancestors(data)?;
    let of_source = |c: &rusqlite::Connection| snapshot::of_source(c, &source.project_id, &source.id);
    let others = control.metadata.read(of_source)?;
    let mut before = None;
    for other in &others {
        let began = match store.ancestors(&parse_branch(&other.store_id)?) {
            Ok(ancestors) => ancestors.into_iter().next(),
            // Deleted since its row was read.
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        before = before.max(began.filter(|began| is_in(&history, began)).map(|(_, at)| at));
    }
    let diff_bytes = before.and_then(|before| point.lsn.bytes_since(before)).map(bytes);
    Ok(Sizes { full_bytes, diff_bytes })
}

/// Whether a position of a branch is in a history: branches of the store, each with the position up to which.
fn is_in(history: &[(BranchId, Lsn)], (branch, at): &(BranchId, Lsn)) -> bool {
    history.iter().any(|(known, upto)| known == branch && at <= upto)
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_restored_away_is_in_no_history() {
        let at = |branch: &str, raw: u64| (branch.parse().unwrap(), Lsn::from_raw(raw).unwrap());
        let history = [at("br-new-new-1", 30), at("br-old-old-1", 20)];
        for (place, there) in [
            (at("br-new-new-1", 30), true),
            (at("br-old-old-1", 20), true),
            (at("br-old-old-1", 21), false),
            (at("br-other-other-1", 5), false),
        ] {
            assert_eq!(is_in(&history, &place), there, "{place:?}");
        }
    }
}
