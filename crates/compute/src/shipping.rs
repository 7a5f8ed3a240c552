//! The log on its way to the store: its files, its stream, how much of it waits.
//!
//! Not here: the connection to the store (`client`).

pub(crate) mod pace;
pub(crate) mod room;
pub(crate) mod segment;
pub(crate) mod stream;
pub(crate) mod synced;
pub(crate) mod tail;
