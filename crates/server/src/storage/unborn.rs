//! Branches of stores that requests are making and no row names yet.
//!
//! What must hold: such a branch is not swept, and nothing begins on it before it is made whole.

use std::collections::HashSet;

use parking_lot::{Mutex, MutexGuard};
use types::BranchId;

use crate::error::{Error, Result};
use crate::metadata::branch::BranchRow;

/// Branches of stores that requests are making and no row names yet.
#[derive(Default)]
pub struct Unborn(Mutex<HashSet<String>>);

/// One such branch, until this is dropped.
pub struct Making<'a> {
    unborn: &'a Unborn,
    id: String,
}

impl Unborn {
    /// Their ids. None is added or goes while the answer lives.
    pub fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock()
    }

    /// Keeps `id` from being removed.
    pub fn make(&self, id: &BranchId) -> Making<'_> {
        self.0.lock().insert(id.to_string());
        Making { unborn: self, id: id.to_string() }
    }

    /// Checks that a branch is made whole: one that does not start is undone, and nothing may have begun on it then.
    ///
    /// # Errors
    /// `Busy` while it is being made.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::metadata::tests::branch_row;

    #[test]
    fn nothing_begins_on_a_branch_that_is_being_made() {
        let (unborn, row) = (Unborn::default(), branch_row("br-a-a-a", "dev"));
        let making = unborn.make(&"br-a-a-a".parse().unwrap());
        assert_eq!(unborn.check_made(&row).unwrap_err().kind, Kind::Busy);
        drop(making);
        assert_eq!(unborn.check_made(&row), Ok(()));
    }
}
