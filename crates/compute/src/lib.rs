//! scion compute.
