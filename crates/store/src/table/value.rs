//! One version of one key, and the question asked for it.
//!
//! A page is its newest full version at or below an LSN and the records after it. A `Lookup` collects them newest
//! first and is done at the first full version; tables (memtables, layers) are visited newest first.
//!
//! Not here: where versions are kept (`memtable`, `layer`), how they become a page (`read::pages`).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use types::{Key, Lsn};

/// Bytes shared with the block or chunk they lie in.
#[derive(Clone)]
pub(crate) struct Slice {
    owner: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl Slice {
    /// Bytes `from..from + len` of `owner`; `None` if they are not all there.
    pub(crate) fn new(owner: Arc<Vec<u8>>, from: usize, len: usize) -> Option<Self> {
        let to = from.checked_add(len)?;
        (to <= owner.len()).then_some(Self { owner, from, to })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        Self { owner: Arc::new(bytes.to_vec()), from: 0, to: bytes.len() }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.owner.get(self.from..self.to).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}

/// What a version is, as stored: the number is the format's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A page.
    Image = 1,
    /// A page of zeros; no bytes.
    Zero = 2,
    /// A record that makes the page from nothing.
    Rebuild = 3,
    /// A record that changes the page.
    Modify = 4,
    /// The value of a key that is not a page.
    Meta = 5,
    /// The key is gone.
    Tombstone = 6,
    /// An extension wrote the page; `aux` is its resource manager.
    Unreadable = 7,
}

impl Kind {
    /// The kind with that number.
    pub(crate) fn from_raw(raw: u8) -> Option<Self> {
        [Self::Image, Self::Zero, Self::Rebuild, Self::Modify, Self::Meta, Self::Tombstone, Self::Unreadable]
            .into_iter()
            .find(|&kind| kind as u8 == raw)
    }

    /// True if nothing older is needed.
    pub(crate) fn is_full(self) -> bool {
        self != Self::Modify
    }
}

/// One version of a key.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The key it is filed under; an aliased page's source.
    pub(crate) key: Key,
    /// End of the record that made it.
    pub(crate) lsn: Lsn,
    /// What it is.
    pub(crate) kind: Kind,
    /// The resource manager of `Unreadable`.
    pub(crate) aux: u8,
    /// Page, value, or the record's start LSN (8 bytes, little-endian) and bytes.
    pub(crate) bytes: Slice,
}

impl Version {
    /// That there is a version, and not what it is.
    pub(crate) fn without_bytes(key: Key, lsn: Lsn, kind: Kind) -> Self {
        Self { key, lsn, kind, aux: 0, bytes: Slice::copy(&[]) }
    }
}

/// A key's versions at or below an LSN, as far as needed.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// The key.
    pub(crate) key: Key,
    /// Newest LSN wanted.
    pub(crate) cap: Lsn,
    /// Versions at or below this do not belong to the key's present life.
    pub(crate) floor: Option<Lsn>,
    /// What was found, newest first.
    pub(crate) found: Vec<Version>,
    /// Nothing older is needed.
    pub(crate) done: bool,
}

impl Lookup {
    /// The question for `key` at `cap`.
    pub(crate) fn new(key: Key, cap: Lsn) -> Self {
        Self { key, cap, floor: None, found: Vec::new(), done: false }
    }

    /// True if a version at `lsn` is too old to be wanted; then the question is done.
    pub(crate) fn stops_at(&mut self, lsn: Lsn) -> bool {
        self.done |= self.floor.is_some_and(|floor| lsn <= floor);
        self.done
    }

    /// Takes the next older version.
    pub(crate) fn push(&mut self, version: Version) {
        self.done |= version.kind.is_full();
        self.found.push(version);
    }
}

/// The newest version of every key in a range, by key.
pub(crate) type Newest = BTreeMap<Key, Version>;
