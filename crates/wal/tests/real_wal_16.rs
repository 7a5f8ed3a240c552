//! The comparisons with PostgreSQL 16.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod comparisons;
mod recorded;
mod server;

/// The release whose programs are used.
const RELEASE: &str = "16";
