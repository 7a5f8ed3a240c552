//! What the records of each resource manager of Postgres change, where more than the blocks they refer to.
//!
//! Not here: which of them a record is asked (`interpret`), what becomes of the pages (`redo`).

pub mod clog;
pub(crate) mod dbase;
pub mod heap_vm;
pub mod multixact;
pub(crate) mod origin;
pub(crate) mod relmap;
pub(crate) mod smgr;
pub mod xact;
pub(crate) mod xlog;
