//! Which branches of a store nobody needs any more.
//!
//! A branch of a store is needed while a row of a branch or of a snapshot names it, a request is making it, or another
//! branch of the store begins on it. All others are removed: at the start, and whenever a row has let one go. That is the only place where data
//! is removed, so a change of rows is all that a restore or a deletion has to make durable.

use std::collections::HashSet;

use parking_lot::Mutex;
use store::StoreError;
use types::BranchId;

use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::metadata::{branch, snapshot};
use crate::state::Server;

/// Branches of stores that requests are making and no row names yet.
#[derive(Default)]
pub struct Unborn(Mutex<HashSet<String>>);

/// One such branch, until this is dropped.
pub struct Making<'a> {
    unborn: &'a Unborn,
    id: String,
}

impl Unborn {
    /// Keeps `id` from being removed.
    pub fn make(&self, id: &BranchId) -> Making<'_> {
        self.0.lock().insert(id.to_string());
        Making { unborn: self, id: id.to_string() }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.unborn.0.lock().remove(&self.id);
    }
}

impl Server {
    /// Removes what nobody needs from the store of a project. What cannot be removed is logged and left for the next
    /// sweep.
    ///
    /// # Errors
    /// Those of SQLite, and of opening and listing the store.
    pub fn sweep(&self, project: &str) -> Result<()> {
        let store = self.store(project)?;
        // Once a branch is nobody's it stays so: what is made gets a new name. So only the decision needs the lock.
        let mut strangers: Vec<BranchId> = self.in_tree(project, || {
            let named: HashSet<String> = self.metadata.read(|connection| {
                let branches = branch::all(connection, project)?.into_iter().map(|row| row.store_id);
                let snapshots = snapshot::all(connection, project)?.into_iter().map(|row| row.store_id);
                Ok(branches.chain(snapshots).collect())
            })?;
            let unborn = self.unborn.0.lock();
            let needed = |id: &str| unborn.contains(id) || named.contains(id);
            let ids = store.branches()?.into_iter().map(|info| info.id);
            Ok(ids.filter(|id| !needed(id.as_str())).collect())
        })?;
        // Children before parents, without asking who is whose.
        loop {
            let before = strangers.len();
            strangers.retain(|id| match store.delete_branch(id) {
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
            if strangers.is_empty() || strangers.len() == before {
                return Ok(());
            }
        }
    }

    /// `sweep` for a request that is done already: what fails is logged.
    pub fn sweep_after(&self, project: &str) {
        if let Err(error) = self.sweep(project) {
            tracing::error!(project, %error, "cannot look for data to remove; the next start will");
        }
    }
}
