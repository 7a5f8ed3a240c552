//! scion store.
