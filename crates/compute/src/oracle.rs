//! Tests with real Postgres as the judge: does it start on what we write, and is everything there?
//!
//! They need the Debian packages of PostgreSQL 15 and, for endpoints, root and `/dev/fuse`.

mod cluster;
mod endpoint;
mod service;
mod synthesis;
