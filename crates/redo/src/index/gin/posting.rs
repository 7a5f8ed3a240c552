//! Posting lists of GIN: ascending tuple ids, each stored as the difference to the one before.
//!
//! ```text
//!  segment: first tid 6 | bytes that follow 2 | varint, varint, .. | pad to 2
//!  tid:     block high 2, block low 2, item 2        as a number: block << 11 | item
//! ```
//!
//! A varint has 7 bits a byte, lowest first; all bytes but the last have the highest bit set.
//!
//! Follows `ginpostinglist.c`. Postgres unpacks lists into arrays; here they are read and written one tid at a time,
//! which gives the same bytes and needs no memory.

use crate::Fault;
use crate::bytes::{array_at, put, put_u16, slice_at, u16_at};

/// Bytes of a tid (`ItemPointerData`).
pub(crate) const TID_SIZE: usize = 6;
/// Bytes of a segment before its varints.
const HEADER_SIZE: usize = 8;
/// Bits of an item number (`MaxHeapTuplesPerPageBits`).
const ITEM_BITS: u32 = 11;
/// Bits of a tid as a number.
const TID_BITS: u32 = 32 + ITEM_BITS;
/// Bytes of the longest varint (`MaxBytesPerInteger`).
const VARINT_BYTES_MAX: u32 = 7;

const BAD_LIST: Fault = Fault::Malformed("a posting list holds no valid tuple ids");
const BAD_ORDER: Fault = Fault::Malformed("tuple ids of a posting list are not in order");

/// A tid as a number that sorts as tids do.
type Tid = u64;

/// Bytes of the segment at `at` (`SizeOfGinPostingList`).
pub(crate) fn segment_len(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    Ok(HEADER_SIZE + usize::from(u16_at(bytes, at + TID_SIZE)?).next_multiple_of(2))
}

/// The tids of an array of them, as it is in records and on pages of before 9.4.
pub(crate) fn tids(array: &[u8]) -> impl Iterator<Item = Result<Tid, Fault>> {
    array.chunks_exact(TID_SIZE).map(|raw| tid_at(raw, 0))
}

fn tid_at(bytes: &[u8], at: usize) -> Result<Tid, Fault> {
    let [b0, b1, b2, b3, i0, i1] = array_at(bytes, at)?;
    let block = u64::from(u16::from_le_bytes([b0, b1])) << 16 | u64::from(u16::from_le_bytes([b2, b3]));
    let item = u64::from(u16::from_le_bytes([i0, i1]));
    if item >> ITEM_BITS == 0 { Ok(block << ITEM_BITS | item) } else { Err(BAD_LIST) }
}

fn tid_bytes(tid: Tid) -> [u8; TID_SIZE] {
    let block = (tid >> ITEM_BITS) as u32;
    let item = tid as u16 & ((1 << ITEM_BITS) - 1);
    let ([b0, b1], [b2, b3], [i0, i1]) =
        (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes(), item.to_le_bytes());
    [b0, b1, b2, b3, i0, i1]
}

/// The tids of one segment (`ginPostingListDecode`). The first that cannot be is an error, and the last item.
pub(crate) struct Segment<'a> {
    tid: Option<Tid>,
    rest: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment at `at`.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Result<Self, Fault> {
        let len = usize::from(u16_at(bytes, at + TID_SIZE)?);
        Ok(Self { tid: Some(tid_at(bytes, at)?), rest: slice_at(bytes, at + HEADER_SIZE, len)? })
    }

    fn step(&mut self, tid: Tid) -> Result<Option<Tid>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut delta = 0;
        for place in 0..VARINT_BYTES_MAX {
            let (&byte, rest) = self.rest.split_first().ok_or(BAD_LIST)?;
            self.rest = rest;
            delta |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                let next = tid + delta;
                return if next >> TID_BITS == 0 { Ok(Some(next)) } else { Err(BAD_LIST) };
            }
        }
        Err(BAD_LIST)
    }
}

impl Iterator for Segment<'_> {
    type Item = Result<Tid, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let tid = self.tid?;
        match self.step(tid) {
            Ok(next) => {
                self.tid = next;
                Some(Ok(tid))
            }
            Err(fault) => {
                self.tid = None;
                Some(Err(fault))
            }
        }
    }
}

/// All tids of two ascending lists in order, those in both once (`ginMergeItemPointers`).
pub(crate) fn merged(
    a: impl Iterator<Item = Result<Tid, Fault>>,
    b: impl Iterator<Item = Result<Tid, Fault>>,
) -> impl Iterator<Item = Result<Tid, Fault>> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(Ok(left)), Some(Ok(right))) if left == right => {
            a.next();
            b.next()
        }
        (Some(Ok(left)), Some(Ok(right))) if left > right => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

/// Writes `tids` as one segment to the start of `out`; returns its length (`ginCompressPostingList`).
pub(crate) fn encode(tids: impl Iterator<Item = Result<Tid, Fault>>, out: &mut [u8]) -> Result<usize, Fault> {
    let mut len = 0;
    let mut before = None;
    for tid in tids {
        let tid = tid?;
        match before {
            None => {
                put(out, 0, &tid_bytes(tid))?;
                len = HEADER_SIZE;
            }
            Some(before) => {
                let delta = tid.checked_sub(before).filter(|&delta| delta > 0).ok_or(BAD_ORDER)?;
                len = put_varint(out, len, delta)?;
            }
        }
        before = Some(tid);
    }
    let bytes = len.checked_sub(HEADER_SIZE).ok_or(Fault::Malformed("a posting list without tuple ids"))?;
    put_u16(out, TID_SIZE, bytes as u16)?;
    if !len.is_multiple_of(2) {
        put(out, len, &[0])?;
    }
    Ok(len.next_multiple_of(2))
}

/// Writes `value` at `at`; returns where it ends.
fn put_varint(out: &mut [u8], mut at: usize, mut value: u64) -> Result<usize, Fault> {
    while value > 0x7F {
        put(out, at, &[0x80 | value as u8 & 0x7F])?;
        value >>= 7;
        at += 1;
    }
    put(out, at, &[value as u8])?;
    Ok(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(tids: &[Tid]) -> Vec<u8> {
        let mut out = [0xAA; 8192];
        let len = encode(tids.iter().copied().map(Ok), &mut out).unwrap();
        assert_eq!(out[len..], [0xAA; 8192][len..], "nothing is written past the segment");
        out[..len].to_vec()
    }

    #[test]
    fn a_segment_has_the_bytes_that_postgres_writes() {
        // (1,1), (1,2), (2,1): steps of 1 and of 2047; the third byte is padding.
        assert_eq!(
            written(&[1 << 11 | 1, 1 << 11 | 2, 2 << 11 | 1]),
            [0, 0, 1, 0, 1, 0, 3, 0, 0x01, 0xFF, 0x0F, 0]
        );
    }

    #[test]
    fn every_length_of_a_step_is_read_as_it_was_written() {
        let mut all = vec![1];
        all.extend((0..6).map(|n| (1u64 << (7 * n)) * 100 + 1));
        all.push((1 << TID_BITS) - 1);
        let bytes = written(&all);
        assert_eq!(segment_len(&bytes, 0).unwrap(), bytes.len());
        let read: Vec<_> = Segment::at(&bytes, 0).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, all);
    }

    #[test]
    fn merging_keeps_one_of_two_equal_tids() {
        let list = |tids: &'static [Tid]| tids.iter().copied().map(Ok::<_, Fault>);
        let of = |a, b| merged(list(a), list(b)).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(of(&[2, 4, 6], &[1, 4, 9]), [1, 2, 4, 6, 9]);
        assert_eq!(of(&[], &[1]), [1]);
        assert_eq!(of(&[1], &[]), [1]);
    }

    #[test]
    fn tids_out_of_order_too_large_or_cut_off_are_refused() {
        let mut out = [0; 64];
        assert!(encode([5, 5].into_iter().map(Ok), &mut out).is_err());
        assert!(encode([].into_iter(), &mut out).is_err());
        assert!(encode((1..100).map(Ok), &mut out).is_err(), "no room");
        assert!(tid_at(&[0, 0, 0, 0, 0, 8], 0).is_err());
        let of = |varints: &[u8]| {
            let bytes = [&[0xFF, 0xFF, 0xFF, 0xFF, 1, 0, varints.len() as u8, 0], varints].concat();
            Segment::at(&bytes, 0).unwrap().collect::<Vec<_>>()
        };
        assert_eq!(of(&[0x80]), [Err(BAD_LIST)], "a varint that does not end");
        assert_eq!(of(&[0xFF; 7]), [Err(BAD_LIST)], "a varint of eight bytes");
        assert_eq!(of(&[0xFF, 0x7F]), [Err(BAD_LIST)], "past the last block");
    }
}
