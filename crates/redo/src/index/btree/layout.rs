//! What B-tree pages hold: the special area, index tuples, posting lists.
//!
//! ```text
//!  special area: prev 4 | next 4 | level 4 | flags 2 | vacuum cycle id 2
//!  index tuple:  tid: block high 2, block low 2, item 2 | info 2 | key ...
//!  posting list: tid's block = where the list begins, tid's item = count with a mark | info 2 | key | tid 6, tid 6, ..
//! ```
//!
//! Follows `access/nbtree.h`, `access/itup.h` and `nbtdedup.c`.

use types::BLOCK_SIZE;

use crate::Fault;
use crate::bytes::{Done, array_at, array_at_mut, max_align, put, put_u16, shift, slice_at, u16_at};
use crate::index::tuple::{TID_SIZE, set_tid_block, tid_block, tuple_len};
use crate::page::{self, Numbering, PageBytes, add_item, normal_item};

/// Bytes of the special area (`BTPageOpaqueData`).
pub(crate) const SPECIAL_SIZE: usize = 16;
/// Item number of the high key (`P_HIKEY`).
pub(crate) const HIGH_KEY: u16 = 1;
/// Bytes of an index tuple's header (`IndexTupleData`).
const TUPLE_HEADER_SIZE: u16 = 8;

pub(crate) const LEAF: u16 = 0x0001;
pub(crate) const ROOT: u16 = 0x0002;
pub(crate) const DELETED: u16 = 0x0004;
pub(crate) const META: u16 = 0x0008;
pub(crate) const HALF_DEAD: u16 = 0x0010;
pub(crate) const SPLIT_END: u16 = 0x0020;
pub(crate) const HAS_GARBAGE: u16 = 0x0040;
pub(crate) const INCOMPLETE_SPLIT: u16 = 0x0080;
pub(crate) const HAS_FULL_XID: u16 = 0x0100;

/// `INDEX_SIZE_MASK`
const INFO_SIZE: u16 = 0x1FFF;
/// `INDEX_ALT_TID_MASK`: the tid field is not a plain tid.
const INFO_ALT_TID: u16 = 0x2000;
/// `BT_IS_POSTING`, in the tid's item number.
const IS_POSTING: u16 = 0x2000;
/// `BT_OFFSET_MASK`
const COUNT_MASK: u16 = 0x0FFF;

/// A page's special area, to change.
pub(crate) struct Opaque<'a>(&'a mut [u8; SPECIAL_SIZE]);

impl<'a> Opaque<'a> {
    /// The special area of `page`.
    pub(crate) fn of(page: &'a mut PageBytes) -> Result<Self, Fault> {
        let at = page::special(page);
        array_at_mut(page, at).map(Self)
    }

    pub(crate) fn next(&self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[12], self.0[13]])
    }

    pub(crate) fn set_prev(&mut self, block: u32) {
        [self.0[0], self.0[1], self.0[2], self.0[3]] = block.to_le_bytes();
    }

    pub(crate) fn set_next(&mut self, block: u32) {
        [self.0[4], self.0[5], self.0[6], self.0[7]] = block.to_le_bytes();
    }

    pub(crate) fn set_level(&mut self, level: u32) {
        [self.0[8], self.0[9], self.0[10], self.0[11]] = level.to_le_bytes();
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        [self.0[12], self.0[13]] = flags.to_le_bytes();
    }

    pub(crate) fn set_cycle_id(&mut self, id: u16) {
        [self.0[14], self.0[15]] = id.to_le_bytes();
    }
}

/// Number of the first item that is not the high key (`P_FIRSTDATAKEY`); a rightmost page has no high key.
pub(crate) fn first_data_item(page: &mut PageBytes) -> Result<u16, Fault> {
    Ok(if Opaque::of(page)?.next() == 0 { HIGH_KEY } else { HIGH_KEY + 1 })
}

/// An empty page with links, level and flags (`_bt_pageinit`).
pub(crate) fn init_linked(page: &mut PageBytes, prev: u32, next: u32, level: u32, flags: u16) -> Done {
    page::init(page, SPECIAL_SIZE);
    let mut opaque = Opaque::of(page)?;
    opaque.set_prev(prev);
    opaque.set_next(next);
    opaque.set_level(level);
    opaque.set_flags(flags);
    Ok(())
}

/// An empty page with a copy of `old`'s special area (`PageGetTempPageCopySpecial`).
pub(crate) fn init_like(page: &mut PageBytes, old: &PageBytes) -> Done {
    let special = page::special(old);
    let area: [u8; SPECIAL_SIZE] = array_at(old, special)?;
    if special != BLOCK_SIZE - SPECIAL_SIZE {
        return Err(Fault::Malformed("not a B-tree page"));
    }
    page::init(page, SPECIAL_SIZE);
    put(page, special, &area)
}

/// Fills an empty page with `tuples`, which are the upper part of another page (`_bt_restore_page`).
///
/// The first tuple lies lowest and has the highest number. Postgres adds them one by one from the last to the first;
/// as they are in page order already, that puts down the same bytes as one copy does.
pub(crate) fn restore_items(page: &mut PageBytes, tuples: &[u8]) -> Done {
    let mut count = 0u16;
    let mut at = 0;
    while at < tuples.len() {
        at += checked_tuple_step(tuples, at)?;
        count += 1;
    }
    let mut at = tuples.len();
    let base = page::upper(page).checked_sub(at).ok_or(Fault::Malformed("more tuples than fit on a page"))?;
    let lower = page::lower(page) + usize::from(count) * page::LINE_POINTER_SIZE;
    if lower > base {
        return Err(Fault::Malformed("more tuples than fit on a page"));
    }
    put(page, base, tuples)?;
    page::set_lower(page, lower);
    page::set_upper(page, base);
    at = 0;
    for number in (1..=count).rev() {
        let step = checked_tuple_step(tuples, at)?;
        let pointer = page::LinePointer {
            offset: (base + at) as u16,
            state: page::ItemState::Normal,
            len: step as u16,
        };
        page::set_line_pointer(page, number, pointer)?;
        at += step;
    }
    Ok(())
}

fn checked_tuple_step(tuples: &[u8], at: usize) -> Result<usize, Fault> {
    let step = max_align(tuple_len(tuples.get(at..).unwrap_or_default())?);
    if step == 0 || at + step > tuples.len() {
        return Err(Fault::Malformed("an index tuple's length is wrong"));
    }
    Ok(step)
}

/// Adds a high key without key columns that only names the subtree's top parent (`BTreeTupleSetTopParent`).
pub(crate) fn add_top_parent(page: &mut PageBytes, top_parent: u32) -> Done {
    let mut tuple = [0; TUPLE_HEADER_SIZE as usize];
    set_tid_block(&mut tuple, 0, top_parent)?;
    put_u16(&mut tuple, 6, TUPLE_HEADER_SIZE | INFO_ALT_TID)?;
    add_item(page, HIGH_KEY, &tuple, Numbering::Index).map(|_| ())
}

/// The tids of a leaf tuple, and its key.
pub(crate) struct LeafTuple<'a> {
    /// Header and key, without a posting list.
    pub(crate) key: &'a [u8],
    /// One tid, or the posting list.
    pub(crate) tids: &'a [u8],
    /// The tids are a posting list.
    pub(crate) is_posting: bool,
}

impl<'a> LeafTuple<'a> {
    /// The tuple of item `number`.
    pub(crate) fn of_item(page: &'a PageBytes, number: u16) -> Result<Self, Fault> {
        // Any state: a leaf's items may be marked dead, which is a hint.
        let at = page::line_pointer(page, number)?.start();
        let rest = page.get(at..).unwrap_or_default();
        let len = tuple_len(rest)?;
        let tuple = slice_at(rest, 0, len)?;
        if u16_at(tuple, 6)? & INFO_ALT_TID == 0 || u16_at(tuple, 4)? & IS_POSTING == 0 {
            return Ok(Self { key: tuple, tids: slice_at(tuple, 0, TID_SIZE)?, is_posting: false });
        }
        let list_at = tid_block(tuple, 0)? as usize;
        let count = usize::from(u16_at(tuple, 4)? & COUNT_MASK);
        let tids = slice_at(tuple, list_at, count * TID_SIZE)?;
        Ok(Self { key: slice_at(tuple, 0, list_at)?, tids, is_posting: true })
    }
}

/// Turns the `len` bytes at `at`, which hold a key with its header, into the tuple for `count` tids; returns where
/// the tids go (`_bt_form_posting`). `len` is [`posting_len`]'s.
pub(crate) fn form_header(
    bytes: &mut [u8],
    at: usize,
    key_len: usize,
    count: usize,
    len: usize,
) -> Result<usize, Fault> {
    let info = u16_at(bytes, at + 6)? & !INFO_SIZE | (len as u16 & INFO_SIZE);
    if count == 1 {
        put_u16(bytes, at + 6, info & !INFO_ALT_TID)?;
        return Ok(at);
    }
    put_u16(bytes, at + 6, info | INFO_ALT_TID)?;
    set_tid_block(bytes, at, key_len as u32)?;
    put_u16(bytes, at + 4, count as u16 & COUNT_MASK | IS_POSTING)?;
    Ok(at + key_len)
}

/// Bytes of a tuple with a key of `key_len` bytes and `count` tids.
pub(crate) fn posting_len(key_len: usize, count: usize) -> usize {
    if count > 1 { max_align(key_len + count * TID_SIZE) } else { key_len }
}

/// Puts `tid` at place `index` of item `number`'s posting list and moves later tids up; returns the last one, which
/// falls out (`_bt_swap_posting`).
pub(crate) fn swap_posting(
    page: &mut PageBytes,
    number: u16,
    index: u16,
    tid: [u8; TID_SIZE],
) -> Result<[u8; TID_SIZE], Fault> {
    let at = normal_or_dead_item(page, number)?;
    let tuple = LeafTuple::of_item(page, number)?;
    let (list_at, count) = (at + tuple.key.len(), tuple.tids.len() / TID_SIZE);
    let index = usize::from(index);
    if !tuple.is_posting || index == 0 || index >= count {
        return Err(Fault::Malformed("posting list cannot be split there"));
    }
    let last = array_at(page, list_at + (count - 1) * TID_SIZE)?;
    let gap = list_at + index * TID_SIZE;
    shift(page, gap, (count - 1 - index) * TID_SIZE, gap + TID_SIZE)?;
    put(page, gap, &tid)?;
    Ok(last)
}

fn normal_or_dead_item(page: &PageBytes, number: u16) -> Result<usize, Fault> {
    let pointer = page::line_pointer(page, number)?;
    if pointer.len == 0 {
        return normal_item(page, number).map(page::LinePointer::start);
    }
    Ok(pointer.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(len: u16, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; usize::from(len)];
        bytes[6..8].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    #[test]
    fn restored_items_are_numbered_from_the_last() {
        let mut page = [0; BLOCK_SIZE];
        page::init(&mut page, SPECIAL_SIZE);
        let tuples = [tuple(16, 1), tuple(24, 2), tuple(8, 3)].concat();
        restore_items(&mut page, &tuples).unwrap();
        let starts: Vec<_> = (1..=3).map(|n| page[normal_item(&page, n).unwrap().start()]).collect();
        assert_eq!(starts, [3, 2, 1]);
        assert_eq!(page::upper(&page), BLOCK_SIZE - SPECIAL_SIZE - 48);
    }

    #[test]
    fn a_tuple_of_no_length_does_not_loop_for_ever() {
        let mut page = [0; BLOCK_SIZE];
        page::init(&mut page, SPECIAL_SIZE);
        assert!(restore_items(&mut page, &[0; 16]).is_err());
    }

    #[test]
    fn a_new_tid_pushes_the_last_one_out_of_a_posting_list() {
        let mut page = [0; BLOCK_SIZE];
        page::init(&mut page, SPECIAL_SIZE);
        let len = posting_len(16, 3);
        let mut posting = tuple(len as u16, 0);
        let at = form_header(&mut posting, 0, 16, 3, len).unwrap();
        for n in 0..3 {
            posting[at + n * TID_SIZE] = 10 * (n as u8 + 1);
        }
        add_item(&mut page, 1, &posting, Numbering::Index).unwrap();
        let out = swap_posting(&mut page, 1, 1, [15, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(out[0], 30);
        let list: Vec<_> =
            LeafTuple::of_item(&page, 1).unwrap().tids.iter().step_by(TID_SIZE).copied().collect();
        assert_eq!(list, [10, 15, 20]);
        assert!(swap_posting(&mut page, 1, 3, [0; 6]).is_err());
    }
}
