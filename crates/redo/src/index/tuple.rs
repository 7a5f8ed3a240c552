//! Tuples of indexes, as all access methods that have them store them.
//!
//! ```text
//!  tid: block high 2, block low 2, item 2 | info 2 | key ...
//! ```
//!
//! Follows `access/itup.h`.

use crate::Fault;
use crate::bytes::{Done, put_u16, u16_at};

/// Bytes of a tuple id (`ItemPointerData`).
pub(crate) const TID_SIZE: usize = 6;
/// Bits of `info` that are the tuple's length (`INDEX_SIZE_MASK`).
const INFO_SIZE: u16 = 0x1FFF;

/// Bytes of the tuple at the start of `bytes` (`IndexTupleSize`).
pub(crate) fn tuple_len(bytes: &[u8]) -> Result<usize, Fault> {
    Ok(usize::from(u16_at(bytes, 6)? & INFO_SIZE))
}

/// The block in the tid of the tuple at `at`: of a pivot tuple, its child (`BTreeTupleGetDownLink`).
pub(crate) fn tid_block(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    Ok(u32::from(u16_at(bytes, at)?) << 16 | u32::from(u16_at(bytes, at + 2)?))
}

/// Sets the block in the tid of the tuple at `at`.
pub(crate) fn set_tid_block(bytes: &mut [u8], at: usize, block: u32) -> Done {
    put_u16(bytes, at, (block >> 16) as u16)?;
    put_u16(bytes, at + 2, block as u16)
}
