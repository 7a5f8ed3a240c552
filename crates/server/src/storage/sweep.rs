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
use crate::metadata::branch::{self, BranchRow};
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

    /// Checks that a branch is made whole: one that does not start is undone, and nothing may have begun on it then.
    ///
    /// # Errors
    /// 423 while it is being made.
    pub fn check_made(&self, row: &BranchRow) -> Result<()> {
        if !self.0.lock().contains(&row.id) {
            return Ok(());
        }
        Err(Error::busy(format!("branch {} is being made; try again when it is", row.name)))
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
            let named = self.metadata.read(|connection| branch::data_of_all(connection, project))?;
            let unborn = self.unborn.0.lock();
            let needed = |id: &str| unborn.contains(id) || named.contains(id);
            Ok(store.branch_ids().into_iter().filter(|id| !needed(id.as_str())).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::branch_row;

    #[test]
    fn nothing_begins_on_a_branch_that_is_being_made() {
        let (unborn, row) = (Unborn::default(), branch_row("br-a-a-a", "dev"));
        let making = unborn.make(&"br-a-a-a".parse().unwrap());
        assert_eq!(unborn.check_made(&row).unwrap_err().status, 423);
        drop(making);
        assert_eq!(unborn.check_made(&row), Ok(()));
    }
}
