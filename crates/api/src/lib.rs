//! scion api.
