//! Snapshots.

pub(crate) mod create;
pub(crate) mod finalize;
pub(crate) mod size;
