//! One endpoint: a stock Postgres on a branch, its data directory, its WAL on the way to the store.
//!
//! ```text
//!   scion serve (store)                       scion compute (this crate, one process an endpoint)
//!   +--------------+  protocol over a unix  +------------------------------------------------------+
//!   | page service |<---------------------->| client --> cluster, wal, shipping ------------> fs   |
//!   |              |<------- WAL -----------| shipping <---- replication --+                       |
//!   +--------------+                        | agent: process, control      +-- postgres            |
//!                                           +------------------------------------------------------+
//! ```
//!
//! Invariants
//! - What a run wrote outside of WAL is never trusted by the next run: data files are thrown away, WAL is kept.
//! - `pg_wal` of an earlier run is deleted only after the store said it holds all of it.
//! - Postgres may recycle WAL only after the store acknowledged it (a physical slot holds it back).
//! - A compute process survives the death of `scion serve` and goes on when it comes back.
//!
//! Not here: what a branch is (`store`), how files are served (`fs`), which endpoints should run (`server`).

#![warn(clippy::indexing_slicing)]

mod agent;
mod client;
mod cluster;
mod config;
pub mod control;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limits;
mod postgres;
pub mod protocol;
mod shipping;
mod spec;
mod sql;
mod threads;
mod waiting;

#[cfg(test)]
mod oracle;

pub use agent::run;
pub use config::{is_fixed, trial_conf};
pub use error::Error;
pub use fs::{fusermount, unmount};
pub use postgres::confine::landlock_version;
pub use postgres::lock::lock_path;
pub use postgres::owner_extensions::{check as check_owner_extensions, control_files};
pub use postgres::process::wait_exit;
pub use postgres::shared_memory::release_shared_memory;
pub use spec::{Admission, EndpointSpec, Passwords, TlsFiles, TlsVersion, control_socket};
pub use sql::predefined::guard_of_roles;
pub use sql::quarantine::{Inherited, Quarantine, Undone};
pub use sql::session::{entry_options, session_options};
