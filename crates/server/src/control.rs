//! What a user asks for, a folder for each kind of object: what is decided, the one transaction that writes it, and what is
//! done then.
//!
//! Not here: HTTP (`http`), rows (`metadata`), processes (`fleet`), stores (`storage`).

pub(crate) mod branch;
pub(crate) mod catalog;
pub(crate) mod endpoint;
pub(crate) mod locks;
pub(crate) mod operations;
pub(crate) mod project;
pub(crate) mod schedule;
pub(crate) mod snapshot;
