//! What the writer of a branch remembers of the records it filed.
//!
//! Not here: what a record becomes (`ingest::filing`), where the log ends (`writer`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use types::{ClusterState, Key, Lsn, RelFork};
use wal::BlockChange;

use super::extension::Extensions;
use super::view::View;

/// What a remembered length costs, roughly.
const SIZE_COST: usize = 64;

/// What a record does to one key.
pub(crate) enum Put {
    /// The record itself is the version.
    Record(BlockChange),
    /// A page of zeros.
    Zero,
    /// A value.
    Meta(Vec<u8>),
    /// The key is gone.
    Tombstone,
    /// A resource manager of an extension wrote the page.
    Unreadable(u8),
}

/// Where filing is, and what it knows there.
pub(crate) struct Filed {
    /// The state at the end of the last record filed.
    pub(crate) state: ClusterState,
    /// Lengths of forks at `state.lsn`; `None` if they do not exist.
    pub(crate) sizes: HashMap<RelFork, Option<u32>>,
    /// Where the last waypoint is.
    pub(crate) waypoint: Lsn,
    /// Where the last memtable was frozen.
    pub(crate) frozen: Lsn,
    /// What the record at hand does, in order.
    pub(crate) puts: Vec<(Key, Put)>,
    /// Where in `puts` the length of a fork is: one a record, its last.
    pub(crate) resized: HashMap<RelFork, usize>,
    /// Pages whose chains became too long with it.
    pub(crate) long: Vec<Key>,
    /// What extensions' records left; loaded with the first record.
    pub(crate) extensions: Option<Extensions>,
}

impl Filed {
    /// Nothing but `state`.
    pub(crate) fn new(state: ClusterState) -> Self {
        let at = state.lsn;
        Self {
            state,
            sizes: HashMap::new(),
            waypoint: at,
            frozen: at,
            puts: Vec::new(),
            resized: HashMap::new(),
            long: Vec::new(),
            extensions: None,
        }
    }

    /// Counts what the open memtable and what is remembered hold by now.
    pub(crate) fn count(&self, view: &RwLock<View>) {
        view.write().active.count(self.sizes.len() * SIZE_COST);
    }

    /// Freezes the open memtable, so that it is written as a layer.
    pub(crate) fn freeze(&mut self, view: &RwLock<View>) {
        self.sizes = HashMap::new();
        let mut view = view.write();
        view.active.count(0);
        if view.active.is_empty() && self.state.lsn == self.frozen {
            return;
        }
        if view.active.waypoints.last().is_none_or(|last| last.lsn < self.state.lsn) {
            view.active.waypoints.push(self.state.clone());
        }
        self.waypoint = self.state.lsn;
        self.frozen = self.state.lsn;
        let next = view.active.successor();
        let table = std::mem::replace(&mut view.active, next);
        view.frozen.push_back(Arc::new(table));
    }
}
