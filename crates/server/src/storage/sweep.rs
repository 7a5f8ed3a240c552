//! Which branches of a store nobody needs any more.
//!
//! A branch of a store is needed while a row of a branch or of a snapshot names it, a request is making it, or another
//! branch of the store begins on it. All others are removed: at the start, and whenever a row has let one go. That is the only place where data
//! is removed, so a change of rows is all that a restore or a deletion has to make durable.

use store::StoreError;
use types::BranchId;

use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::metadata::branch::{self};
use crate::storage::Storage;

/// Removes what nobody needs from the store of a project. What cannot be removed is logged and left for the next
/// sweep.
///
/// # Errors
/// Those of SQLite, and of opening and listing the store.
pub fn sweep(storage: &Storage, project: &str) -> Result<()> {
    let store = storage.store(project)?;
    // Once a branch is nobody's it stays so: what is made gets a new name. So only the decision needs the lock.
    let mut unneeded: Vec<BranchId> = storage.in_tree(project, || {
        let named = storage.metadata.read(|connection| branch::data_of_all(connection, project))?;
        let unborn = storage.unborn.ids();
        let needed = |id: &str| unborn.contains(id) || named.contains(id);
        Ok(store.branch_ids().into_iter().filter(|id| !needed(id.as_str())).collect())
    })?;
    // Children before parents, without asking who is whose.
    loop {
        let before = unneeded.len();
        unneeded.retain(|id| match store.delete_branch(id) {
            Ok(()) => {
                tracing::info!(project, branch = %id, "data removed");
                failpoint::passed(Step::BranchRemoved);
                false
            }
            // Another sweep was faster.
            Err(StoreError::NotFound { .. }) => false,
            Err(StoreError::HasChildren { .. }) => true,
            Err(error) => {
                tracing::error!(project, branch = %id, error = %Error::from(error), "data not removed");
                false
            }
        });
        if unneeded.is_empty() || unneeded.len() == before {
            return Ok(());
        }
    }
}

/// `sweep` for a request that is done already: what fails is logged.
pub fn sweep_after(storage: &Storage, project: &str) {
    if let Err(error) = sweep(storage, project) {
        tracing::error!(project, %error, "cannot look for data to remove; the next start will");
    }
}
