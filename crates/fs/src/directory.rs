//! The entries of one directory, listed in an order that survives changes.
//!
//! Every entry gets a cookie when it is made; a listing goes on after the last cookie it returned. So a listing that
//! is interrupted by creations and removals returns every entry that was there throughout, once, without a snapshot.

use crate::tree::NodeId;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

/// First cookie of an entry; 1 and 2 are `.` and `..`.
const FIRST_COOKIE: u64 = 3;

/// Names in one directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The directory this one is in; the root's is itself.
    pub(crate) parent: NodeId,
    by_name: HashMap<OsString, (u64, NodeId)>,
    by_cookie: BTreeMap<u64, OsString>,
    next_cookie: u64,
}

impl Directory {
    pub(crate) fn new(parent: NodeId) -> Self {
        Self { parent, by_name: HashMap::new(), by_cookie: BTreeMap::new(), next_cookie: FIRST_COOKIE }
    }

    pub(crate) fn get(&self, name: &OsStr) -> Option<NodeId> {
        self.by_name.get(name).map(|&(_, node)| node)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Nodes in this directory, in no order.
    pub(crate) fn children(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.by_name.values().map(|&(_, node)| node)
    }

    /// Enters `node`; a node that had the name is gone from this directory.
    pub(crate) fn insert(&mut self, name: &OsStr, node: NodeId) {
        self.remove(name);
        self.by_name.insert(name.to_owned(), (self.next_cookie, node));
        self.by_cookie.insert(self.next_cookie, name.to_owned());
        self.next_cookie += 1;
    }

    pub(crate) fn remove(&mut self, name: &OsStr) -> Option<NodeId> {
        let (cookie, node) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(node)
    }

    /// Entries whose cookie is above `cookie`: (cookie, name, node).
    pub(crate) fn list_after(&self, cookie: u64) -> impl Iterator<Item = (u64, &OsStr, NodeId)> + '_ {
        self.by_cookie.range(cookie.saturating_add(1)..).filter_map(|(&cookie, name)| {
            let (_, node) = self.by_name.get(name)?;
            Some((cookie, name.as_os_str(), *node))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_interrupted_by_changes_returns_what_stayed_exactly_once() {
        let mut dir = Directory::new(1);
        for (i, name) in ["a", "b", "c", "d"].iter().enumerate() {
            dir.insert(OsStr::new(name), i as u64 + 10);
        }
        let (cookie, name, _) = dir.list_after(0).nth(1).unwrap();
        assert_eq!(name, "b");
        dir.remove(OsStr::new("a"));
        dir.remove(OsStr::new("b"));
        dir.insert(OsStr::new("e"), 20);
        let rest: Vec<_> = dir.list_after(cookie).map(|(_, name, node)| (name.to_owned(), node)).collect();
        assert_eq!(rest, [("c".into(), 12), ("d".into(), 13), ("e".into(), 20)]);
    }
}
