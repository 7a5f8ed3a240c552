//! Whose turn it is to look at the catalog of a branch or to change it.
//!
//! What must hold: so many are remembered at most beside those that somebody holds. One that is forgotten costs a look at a
//! catalog that was known.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use types::Lsn;

use crate::limits::CATALOGS_REMEMBERED;

/// The turns of all branches.
#[derive(Default)]
pub struct Catalogs(Mutex<HashMap<String, Arc<Mutex<CatalogTurn>>>>);

impl Catalogs {
    /// The turn of a branch.
    pub fn turn_of(&self, branch: &str) -> Arc<Mutex<CatalogTurn>> {
        let mut turns = self.0.lock();
        if turns.len() >= CATALOGS_REMEMBERED && !turns.contains_key(branch) {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(branch.to_owned()).or_default())
    }
}

/// One at a time on a branch, and the head at which its catalog was last read while nothing wrote it.
#[derive(Default)]
pub struct CatalogTurn {
    /// That head.
    pub read_at: Option<Lsn>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_that_somebody_holds_are_remembered_and_of_the_others_only_so_many() {
        let catalogs = Catalogs::default();
        let held = catalogs.turn_of("br-held");
        held.lock().read_at = Lsn::from_raw(7);
        for number in 0..3 * CATALOGS_REMEMBERED {
            catalogs.turn_of(&format!("br-{number}"));
            assert!(catalogs.0.lock().len() <= CATALOGS_REMEMBERED);
        }
        assert!(Arc::ptr_eq(&held, &catalogs.turn_of("br-held")));
    }
}
