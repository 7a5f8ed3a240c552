//! The HTTP interface as types: what a client sends and what it gets back, and the document that says so.
//!
//! Shapes are those of Neon's API v2 wherever it has a word for the thing, so that its published clients work
//! unchanged; what is ours is an extra field or an extra route, and its documentation says "ours".
//!
//! What must hold
//! - One file per resource, and `percent` for names in addresses. Times are RFC 3339 text, LSNs are text as Postgres
//!   prints them.
//! - [`routes::ROUTES`] is the only list of routes: the document is made from it, and the server is tested against it.
//! - `openapi.json` beside this crate is the document as last reviewed; a test compares.
//!
//! Not here: who answers (`server`), who asks (`cli`).

pub mod branch;
pub mod database;
mod document;
pub mod endpoint;
pub mod error;
pub mod log;
pub mod operation;
pub mod pagination;
pub mod percent;
pub mod project;
pub mod role;
pub mod schedule;
mod service;
pub mod snapshot;

pub use branch::schema;
pub use document::openapi::openapi;
pub use document::routes;
pub use endpoint::connection;
pub use service::{account, api_key, platform, status};

/// What every path of the interface starts with.
pub const PREFIX: &str = "/api/v2";
