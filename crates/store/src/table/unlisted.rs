//! A layer that was made of a memtable and is in no manifest yet.
//!
//! While it cannot be listed it stays with its branch, so that the next attempt goes on with it.
//!
//! Not here: who makes and lists it (`core::flush`).

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use crate::table::memtable::Memtable;

/// A layer that no manifest lists yet.
pub(crate) struct Unlisted {
    /// Its number, which nothing else will have.
    pub(crate) id: u64,
    table: Weak<Memtable>,
    /// The file it was written to, until that is stored under the layer's name.
    pub(crate) file: Option<PathBuf>,
}

impl Unlisted {
    /// Layer `id`, which `file` holds, made of `table`.
    pub(crate) fn new(id: u64, table: &Arc<Memtable>, file: PathBuf) -> Self {
        Self { id, table: Arc::downgrade(table), file: Some(file) }
    }

    /// True if it was made of that memtable.
    pub(crate) fn is_of(&self, table: &Arc<Memtable>) -> bool {
        std::ptr::eq(self.table.as_ptr(), Arc::as_ptr(table))
    }
}
