//! Whose turn it is to look at the catalog of a branch or to change it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use types::Lsn;

/// The turns of all branches.
#[derive(Default)]
pub struct Catalogs(Mutex<HashMap<String, Arc<Mutex<CatalogTurn>>>>);

impl Catalogs {
    /// The turn of a branch.
    pub fn turn_of(&self, branch: &str) -> Arc<Mutex<CatalogTurn>> {
        Arc::clone(self.0.lock().entry(branch.to_owned()).or_default())
    }
}

/// One at a time on a branch, and the head at which its catalog was last read while nothing wrote it.
#[derive(Default)]
pub struct CatalogTurn {
    /// That head.
    pub read_at: Option<Lsn>,
}
