//! What the server needs of this machine: its directory, users, threads, and the programs of Postgres.
//!
//! Not here: endpoints that run (`fleet`).

pub(crate) mod data_dir;
pub mod installed;
pub(crate) mod life;
pub(crate) mod permits;
pub(crate) mod postgres;
pub(crate) mod programs;
pub(crate) mod settings;
pub(crate) mod sql;
pub(crate) mod threads;
pub mod users;
pub(crate) mod work;
