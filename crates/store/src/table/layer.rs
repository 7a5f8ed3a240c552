//! Immutable files of versions sorted by key and LSN.
//!
//! ```text
//!  [data block | index block]...   blocks in the order they filled up
//!  [top index] [waypoints] [footer]
//! ```
//!
//! Invariants
//! - Entries are sorted by (key, LSN), entries of one key and LSN in the order they were made.
//! - Every byte is under a CRC that also covers the block's position; a mismatch is `Corrupt`, never served.
//! - A record's bytes are stored once, beside the first page they touch.
//!
//! Not here: which layers exist (`manifest`), in which order they are asked (`branch`).

mod format;
mod reader;
#[cfg(any(test, fuzzing))]
pub(crate) mod sections;
mod writer;

pub(crate) use reader::Layer;
pub(crate) use writer::{LayerWriter, ValueRef};

#[cfg(test)]
mod tests;

/// The object's name.
pub(crate) fn object_name(id: u64) -> String {
    format!("layers/{id:016x}.layer")
}

/// The layer with that object name.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("layers/")?.strip_suffix(".layer")?, 16).ok()
}
