//! scion fs.
