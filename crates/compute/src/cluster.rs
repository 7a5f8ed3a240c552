//! What is in a data directory: its files as Postgres reads them, and the checkpoint it begins at.
//!
//! Not here: how they are served (`fs`), settings (`config`).

pub(crate) mod checkpoint;
pub(crate) mod control_file;
pub(crate) mod datadir;
pub(crate) mod libraries;
pub(crate) mod major;
