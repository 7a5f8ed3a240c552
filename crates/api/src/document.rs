//! The list of routes, and the document made of it.

pub(crate) mod openapi;
pub mod routes;
