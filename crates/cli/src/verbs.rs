//! The verbs, one file each; those about the server itself are in a folder.

pub mod branch;
pub mod connection_string;
pub mod database;
pub mod endpoint;
pub mod operation;
pub mod project;
pub mod psql;
pub mod role;
pub mod schedule;
pub mod schema_diff;
pub mod server;
pub mod snapshot;
