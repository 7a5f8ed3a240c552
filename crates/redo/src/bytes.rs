//! Little-endian fields at offsets that come from disk: every access is checked, nothing panics.
//!
//! Not here: what the fields mean (`page`, `tuple`, `page`).

use crate::Fault;

/// What a step that only changes the page returns.
pub(crate) type Done = Result<(), Fault>;

const SHORT: Fault = Fault::Malformed("a field lies outside its record or page");

/// Bytes as Postgres aligns them (`MAXALIGN`). Lengths here are far below `usize::MAX`.
pub(crate) const fn max_align(len: usize) -> usize {
    (len + 7) & !7
}

/// The `N` bytes at `at`.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(SHORT)
}

/// The `N` bytes at `at`, to change.
#[inline]
pub(crate) fn array_at_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Result<&mut [u8; N], Fault> {
    bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()).ok_or(SHORT)
}

/// The byte at `at`.
#[inline]
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Result<u8, Fault> {
    bytes.get(at).copied().ok_or(SHORT)
}

/// The `uint16` at `at`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Fault> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// The `uint32` at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// The `len` bytes at `at`.
#[inline]
pub(crate) fn slice_at(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Fault> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(SHORT)
}

/// The `len` bytes at `at`, to change.
#[inline]
pub(crate) fn slice_at_mut(bytes: &mut [u8], at: usize, len: usize) -> Result<&mut [u8], Fault> {
    at.checked_add(len).and_then(|end| bytes.get_mut(at..end)).ok_or(SHORT)
}

/// Writes `value` at `at`.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Done {
    slice_at_mut(bytes, at, value.len())?.copy_from_slice(value);
    Ok(())
}

/// Writes a `uint16` at `at`.
#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) -> Done {
    put(bytes, at, &value.to_le_bytes())
}

/// Writes a `uint32` at `at`.
#[inline]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) -> Done {
    put(bytes, at, &value.to_le_bytes())
}

/// Moves `len` bytes within `bytes`; the ranges may overlap (`memmove`).
#[inline]
pub(crate) fn shift(bytes: &mut [u8], from: usize, len: usize, to: usize) -> Done {
    let from_end = from.checked_add(len).filter(|&end| end <= bytes.len()).ok_or(SHORT)?;
    to.checked_add(len).filter(|&end| end <= bytes.len()).ok_or(SHORT)?;
    bytes.copy_within(from..from_end, to);
    Ok(())
}
