//! What the routine of a record type is given, and what it says it did.
//!
//! Not here: which routine it is, and what comes before and after it (`block`).

use types::Lsn;
use wal::{BlockRef, Record};

use crate::RedoContext;
use crate::page::PageBytes;

/// One record about to change one page.
pub(crate) struct Step<'a, 'r> {
    pub(crate) cx: &'a RedoContext,
    pub(crate) record: &'a Record<'r>,
    /// The record's reference to this page.
    pub(crate) block: &'a BlockRef<'r>,
    pub(crate) page: &'a mut PageBytes,
    /// Where the record ends.
    pub(crate) end: Lsn,
}

/// Whether a routine's change moves the page's LSN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The page gets the record's end LSN.
    Changed,
    /// Only a hint was set; the page keeps its LSN.
    HintOnly,
    /// The record only had the page locked.
    Unchanged,
}
