//! The resources of the interface, one file each: what a request reads, what it calls, what it answers.
//!
//! Not here: anything decided about them (`control`).

pub mod api_keys;
mod branch_list;
pub mod branch_log;
pub mod branches;
pub mod databases;
pub mod endpoints;
pub mod fixed;
pub mod projects;
pub mod roles;
pub mod schedules;
pub mod schema;
pub mod snapshots;
pub mod status;
mod view;
