//! The HTTP side: routes, the key, errors as JSON.
//!
//! Every handler hands its work to a blocking thread: stores and SQLite are synchronous. No handler decides anything;
//! it reads the request, calls the server, and shapes the answer.

mod access;
mod admitted;
mod answer;
mod connections;
mod context;
mod lanes;
mod repeats;
mod request_id;
mod requests;
mod resources;
mod routes;

pub use connections::Counting;
pub use context::Context;
pub use routes::router;
