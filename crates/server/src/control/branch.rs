//! Branches.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod expiry;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod point;
pub(crate) mod restore;
pub(crate) mod schema_only;
