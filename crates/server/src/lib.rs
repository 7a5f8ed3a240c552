//! `scion serve`: the HTTP API, the control plane, and the page service over the stores.
//!
//! ```text
//!   http  --> projects, branches, endpoints --> metadata (SQLite)     what should be
//!                     |            |
//!                     v            v
//!                  store        scion compute, one process an endpoint
//!                     ^            |
//!                     +-- page_service (DIR/serve.sock)
//!   reconcile: looks every second and when a compute ends (`watch`), starts what died, removes what should be gone
//! ```
//!
//! What must hold
//! - Whatever is killed, whenever: the next start finishes or undoes it (`recover`), and running endpoints go on.
//! - A client that saw its COMMIT return finds that row in a branch it creates next.
//! - A request that fails leaves nothing behind.
//!
//! Not here: what a page held (`store`), how an endpoint runs (`compute`), the wire shapes (`api`).

mod backups;
mod branch_log;
mod branch_schedules;
mod branches;
mod catalog;
mod clock;
mod data_dir;
mod deletion;
mod endpoint_options;
mod endpoints;
mod error;
mod expiry;
mod failpoint;
mod finalize;
mod flushed;
mod history;
mod http;
pub mod installed;
mod keys;
mod last_run;
mod limits;
mod locks;
mod metadata;
mod names;
mod operations;
mod page_service;
mod places;
mod plan;
mod ports;
mod postgres;
mod process;
mod programs;
mod project_deletion;
mod projects;
mod quarantine;
mod reconcile;
mod recover;
mod restore;
mod runtime;
mod schema;
mod schema_code;
mod schema_only;
mod serve;
mod settings;
mod settings_trial;
mod slots;
mod snapshot_size;
mod snapshots;
mod sql;
mod state;
mod stores;
mod sweep;
mod temporary;
mod threads;
mod timetable;
mod tls;
pub mod users;
mod watch;
mod work;

pub use compute::entry_options;
pub use limits::{ANSWERED_WITHIN, OPEN_FILES_WANTED};
pub use names::uuid;
pub use serve::{ServeError, ServeOptions, serve};
pub use sql::database_argument;
