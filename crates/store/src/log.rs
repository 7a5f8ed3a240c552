//! The raw log: its files, and the state of the cluster at some of its positions.

pub(crate) mod segments;
pub(crate) mod waypoint;
