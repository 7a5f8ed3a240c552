//! Pages of the SLRUs: what became of transactions, and when. They have no LSN, so a record is applied as often as it comes.

pub(crate) mod clog;
pub(crate) mod commit_ts;
pub(crate) mod multixact;
