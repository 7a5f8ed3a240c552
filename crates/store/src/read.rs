//! Answers out of the tables of a branch: pages, whole states, positions.

pub(crate) mod cluster;
pub(crate) mod pages;
pub(crate) mod unreadable;
pub(crate) mod walk;
