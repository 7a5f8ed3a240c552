//! What is in a data directory: its files as Postgres reads them.
//!
//! Not here: the bytes of `pg_control` and of the checkpoint it begins at (`wal`), how files are served (`fs`), settings
//! (`config`).

pub(crate) mod datadir;
pub(crate) mod libraries;
pub(crate) mod major;
