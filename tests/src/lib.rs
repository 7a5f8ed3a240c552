//! What the whole-system tests share: a scion server of their own, SQL on its endpoints, stock Postgres as oracle.
//!
//! Every test enters through the doors users have: the `scion` binary, its HTTP API, and connections to Postgres.
//! Nothing is mocked. A `Scion` owns a data directory and every process in it; dropping it ends them all.
//!
//! Not here: the stories themselves, one file each beside `src/`.

pub mod api;
pub mod clock;
pub mod files;
pub mod process;
pub mod server;
pub mod sql;
pub mod stock;

pub use api::{Api, ApiError};
pub use server::{Endpoint, Scion};
