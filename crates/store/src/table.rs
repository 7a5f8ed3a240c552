//! Sorted versions of pages and values: in memory, and in files that never change.

pub(crate) mod layer;
pub(crate) mod memtable;
pub(crate) mod unlisted;
pub(crate) mod value;
