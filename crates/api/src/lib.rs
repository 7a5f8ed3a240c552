//! The HTTP interface as types: what a client sends and what it gets back, and the document that says so.
//!
//! Shapes are those of Neon's API v2 wherever it has a word for the thing, so that its published clients work
//! unchanged; what is ours is an extra field or an extra route, and its documentation says "ours".
//!
//! What must hold
//! - One file per resource. Times are RFC 3339 text, LSNs are text as Postgres prints them.
//! - [`routes::ROUTES`] is the only list of routes: the document is made from it, and the server is tested against it.
//! - `openapi.json` beside this crate is the document as last reviewed; a test compares.
//!
//! Not here: who answers (`server`), who asks (`cli`).

pub mod account;
pub mod api_key;
pub mod branch;
pub mod connection;
pub mod database;
pub mod endpoint;
pub mod error;
pub mod log;
mod openapi;
pub mod operation;
pub mod platform;
pub mod project;
pub mod role;
pub mod routes;
pub mod schedule;
pub mod schema;
pub mod snapshot;
pub mod status;

pub use openapi::openapi;

/// What every path of the interface starts with.
pub const PREFIX: &str = "/api/v2";
