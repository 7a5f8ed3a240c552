//! What comes into a branch: WAL that is appended, where it ends, and what its records become.

pub(crate) mod append;
pub(crate) mod extension;
pub(crate) mod filing;
pub(crate) mod import;
pub(crate) mod slru;
pub(crate) mod tip;
