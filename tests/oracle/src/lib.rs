//! The judges of redo: stock PostgreSQL makes WAL, `redo` replays it, and PostgreSQL's own pages say who is right.
//!
//! ```text
//!  server, suites: a stock server and a load --> its data directory before and after
//!  replay:         every record between the two, page by page --> a judge's page for each step, and a comparison
//!  extensions:     the load that is the suites of extensions
//!  stock:          Postgres's own redo as a process, the strictest judge
//!  recovery:       stock recovery of a load, whole directories at an LSN
//!  files:          what no record shows --> the files of the stopped server
//!  minors:         what differs between minors of one major, and does not count
//!  skips:          what a machine lacks
//!  damage:         real records and pages with bits flipped --> no panic
//!  mutate:         samples of any bytes, changed --> no panic
//! ```
//!
//! Invariants
//! - Nothing of the judged code makes the page that it is judged by.
//! - A judge can fail: `inject` flips one bit, and that must be found.
//!
//! Not here: whole servers and branches (`scion-tests`).

pub mod churn;
pub mod damage;
mod extensions;
pub mod files;
mod gin;
pub mod inject;
pub mod minors;
pub mod mutate;
pub mod recovery;
pub mod replay;
pub mod results;
pub mod seeds;
pub mod server;
pub mod skips;
pub mod stock;
pub mod suites;
