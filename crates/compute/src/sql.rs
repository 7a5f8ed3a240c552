//! What scion says to a server of its own: its connections, and what it does over them before clients come.
//!
//! Not here: the log that is streamed over one (`shipping`).

pub(crate) mod passwords;
pub(crate) mod pg_client;
pub(crate) mod pg_message;
pub(crate) mod predefined;
pub(crate) mod quarantine;
pub(crate) mod replication;
pub(crate) mod session;
