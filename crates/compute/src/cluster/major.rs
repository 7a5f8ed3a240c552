//! What differs between major versions of Postgres in what this crate does with a data directory and its server.
//!
//! Not here: what differs in the log and in `pg_control` (`wal::major`), what records do to pages (`redo`).

use wal::Major;

/// The name of a prepared transaction's file begins with its epoch.
pub fn two_phase_names_have_epoch(major: &Major) -> bool {
    major.number >= 17
}

/// A role with CREATEROLE may give membership in every role that is not a superuser.
pub fn createrole_reaches_all(major: &Major) -> bool {
    major.number < 16
}

/// Defaults of settings that other majors do not have.
pub fn defaults(major: &Major) -> &'static [(&'static str, &'static str)] {
    // Its workers read for all sessions: three reads that wait for the store would hold up everybody's scans.
    if major.number >= 18 { &[("io_method", "sync")] } else { &[] }
}
