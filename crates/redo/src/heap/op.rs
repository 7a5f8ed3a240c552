//! Which record of the `Heap` resource manager it is.
//!
//! Follows `heapam_xlog.h`.

/// Bits of `info` that say which record it is (`XLOG_HEAP_OPMASK`).
pub(crate) const OP_MASK: u8 = 0x70;
/// The record begins a new page (`XLOG_HEAP_INIT_PAGE`).
pub(crate) const INIT_PAGE: u8 = 0x80;

pub(crate) const INSERT: u8 = 0x00;
pub(crate) const DELETE: u8 = 0x10;
pub(crate) const UPDATE: u8 = 0x20;
pub(crate) const HOT_UPDATE: u8 = 0x40;
pub(crate) const CONFIRM: u8 = 0x50;
pub(crate) const LOCK: u8 = 0x60;
pub(crate) const INPLACE: u8 = 0x70;
