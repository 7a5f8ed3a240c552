//! What resource managers of extensions wrote, which nobody can replay: which of them, where, and since when.
//!
//! A block that their record names is filed as unreadable (`ingest::filing`). A record may also change what it does not name,
//! as some of Postgres's own do. So both are remembered under keys of their own: a resource manager from its first
//! record on, a fork from the first of its blocks on until it is gone or empty. The version's LSN is "since when".
//!
//! Not here: whether a block can be read, which its own versions say (`read::pages`).

use std::collections::{BTreeSet, HashMap};

use types::{Fork, Key, RelFork, RelTag};

use crate::error::{Result, StoreError};
use crate::table::value::{Newest, Version};

const MAX_REL: RelTag = RelTag { tablespace: u32::MAX, database: u32::MAX, relation: u32::MAX };
/// The first and the last of the keys under which it is remembered.
pub(crate) const FIRST: Key = Key::Extension(0);
pub(crate) const LAST: Key = Key::Unreadable(RelFork { rel: MAX_REL, fork: Fork::Init });

/// What is remembered at the end of a branch.
pub(crate) struct Extensions {
    managers: BTreeSet<u8>,
    forks: HashMap<RelFork, u8>,
}

impl Extensions {
    /// What versions of the keys `FIRST` to `LAST` say.
    pub(crate) fn new(found: Newest) -> Result<Self> {
        let mut known = Self { managers: BTreeSet::new(), forks: HashMap::new() };
        for (key, version) in found {
            match key {
                Key::Extension(rmgr) => {
                    known.managers.insert(rmgr);
                }
                Key::Unreadable(rel) => {
                    known.forks.insert(rel, rmgr_in(&version)?);
                }
                _ => {}
            }
        }
        Ok(known)
    }

    /// True for the first record of `rmgr`.
    pub(crate) fn is_first_of(&mut self, rmgr: u8) -> bool {
        self.managers.insert(rmgr)
    }

    /// True for the first block of `rel`.
    pub(crate) fn is_first_in(&mut self, rel: RelFork, rmgr: u8) -> bool {
        self.forks.insert(rel, rmgr).is_none()
    }

    /// True if `rel` was known; it no longer is.
    pub(crate) fn forget(&mut self, rel: RelFork) -> bool {
        self.forks.remove(&rel).is_some()
    }

    /// The forks of a database.
    pub(crate) fn of_database(&self, (tablespace, database): (u32, u32)) -> Vec<(RelFork, u8)> {
        let its = |rel: &RelFork| (rel.rel.tablespace, rel.rel.database) == (tablespace, database);
        self.forks.iter().filter(|(rel, _)| its(rel)).map(|(rel, rmgr)| (*rel, *rmgr)).collect()
    }
}

/// The resource manager in an `Unreadable` value.
pub(crate) fn rmgr_in(version: &Version) -> Result<u8> {
    let bytes: &[u8] = &version.bytes;
    let [rmgr] = bytes else { return Err(StoreError::corrupt("an unreadable fork", 0, "not one byte")) };
    Ok(*rmgr)
}
