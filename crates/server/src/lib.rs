//! scion server.
