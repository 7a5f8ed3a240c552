//! Where layers and manifests are kept: a map from names to immutable bytes.
//!
//! Contract, checked by `object::contract::suite` for every implementation:
//! - `put_if_absent` and `put_file_if_absent` are all or nothing, durable on return, and lose to any earlier put;
//! - a `get` begun after a put returned sees its bytes;
//! - a put that returns an error may have taken place: `settle` tells, and once it has, the answer stays;
//! - deleting what is absent succeeds.
//!
//! Not here: WAL files, which grow (`log::segments`); what the bytes mean (`layer`, `manifest`).

#[cfg(test)]
pub(crate) mod contract;
mod local;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "fuzzers use the map alone"))]
pub(crate) mod memory;
mod open_files;

use std::path::Path;

pub(crate) use local::Local;

use crate::error::Result;

/// Outcome of a put that must not overwrite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// The bytes are durable under that name.
    Stored,
    /// Something was there already and still is.
    Taken,
}

/// A place for immutable objects. Names are `/`-separated words of `[a-z0-9.]`.
pub(crate) trait ObjectStore: Send + Sync {
    /// The whole object, or `None` if it is absent.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Exactly `len` bytes at `at`; fewer bytes or no object is an error.
    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>>;
    /// Length of the object, or `None` if it is absent.
    fn len(&self, name: &str) -> Result<Option<u64>>;
    /// Stores `bytes` unless the name is taken.
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put>;
    /// Stores the content of a local file, which is consumed, unless the name is taken. After an error the file is still
    /// there, and the same call can be made again, whether the first took place or not.
    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put>;
    /// Names that begin with `prefix`, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;
    /// Removes an object; fine if it is absent.
    fn delete(&self, name: &str) -> Result<()>;
    /// The whole object, or `None` if it is absent, as `get`; if a put of it returned an error, it is as durable after
    /// this as if that put had succeeded.
    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>>;
}
