//! The processes of endpoints: how one starts, stops, is looked at and is never forgotten.
//!
//! Not here: which branch one is for and what a user may ask of it (`control`).

pub(crate) mod endpoints;
pub(crate) mod flushed;
pub(crate) mod last_run;
pub(crate) mod places;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod quarantine;
pub(crate) mod reconcile;
pub(crate) mod runtime;
pub(crate) mod temporary;
pub(crate) mod watch;
