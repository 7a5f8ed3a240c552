//! Little-endian fields at an offset: read, `None` past the end; and written.
//!
//! Postgres writes its structs as the CPU lays them out; every platform it is built for here is little-endian.
//!
//! Not here: reading on from a moving position (`record`, `xact`).

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array_at(bytes, at).map(i32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array_at(bytes, at).map(i64::from_le_bytes)
}

/// Writes `bytes` at an offset; what would be past the end is left out.
pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    for (slot, byte) in out.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}
