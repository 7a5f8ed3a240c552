//! What differs between major versions, one file each.

pub(crate) mod pg15;
