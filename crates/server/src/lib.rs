//! `scion serve`: the HTTP API, the control plane, and the page service over the stores.
//!
//! ```text
//!   http  -->  control  -->  metadata (SQLite)              what should be
//!                |    |
//!                v    v
//!          storage <- fleet  -->  scion compute, one process an endpoint
//!                       ^              |
//!                       +-- its pages -+ (DIR/serve.sock)
//!   fleet::reconcile: looks every second and when a compute ends, starts what died, removes what should be gone
//! ```
//!
//! | room | what is in it | what it may touch |
//! |---|---|---|
//! | `http` | routes, limits on requests, one file for each resource: read, call, answer | `access`, `control`, `fleet`, `metadata`, `machine` |
//! | `control` | what a user asks for, a folder for each kind of object: decide, write in one transaction, do | `fleet` and all of what is below it |
//! | `fleet` | the processes of endpoints, and the service by which they reach their stores | `storage`, `operations`, `metadata`, `machine` |
//! | `storage` | the stores of projects | `metadata`, `machine` |
//! | `operations` | what is under way, and what failed | `metadata` |
//! | `access` | keys and certificates | `metadata`, `machine` |
//! | `metadata` | rows | |
//! | `machine` | what the server needs of this machine | |
//!
//! Each room has one object that holds what the room works with (`Control`, `Fleet`, `Storage`, `Metadata`); functions take
//! the one whose parts they use, so that imports say who needs whom. `cargo xtask tidy` holds the edges.
//!
//! What must hold
//! - Whatever is killed, whenever: the next start finishes or undoes it (`recover`), and running endpoints go on.
//! - A client that saw its COMMIT return finds that row in a branch it creates next.
//! - A request that fails leaves nothing behind.
//!
//! Not here: what a page held (`store`), how an endpoint runs (`compute`), the wire shapes (`api`).

mod access;
mod clock;
mod control;
mod error;
mod failpoint;
mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod limits;
mod machine;
mod metadata;
mod names;
mod operations;
mod recover;
mod serve;
mod storage;

pub use compute::entry_options;
pub use limits::{ANSWERED_WITHIN, OPEN_FILES_WANTED};
pub use machine::data_dir::ServerFile;
pub use machine::sql::database_argument;
pub use machine::{installed, users};
pub use names::uuid;
pub use serve::{ServeError, ServeOptions, serve};
