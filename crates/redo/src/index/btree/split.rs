//! Page splits.
//!
//! Follows `btree_xlog_split` in `nbtxlog.c`. Main data: level 4, first item that went right 2, new item's number 2,
//! place in a posting list 2 (0: none). The right half's data are its tuples. The left half is rebuilt from the old
//! page; its data: `[new item] high key`, the new item only if it went left or split a posting list.

use crate::Fault;
use crate::bytes::{Done, array_at, max_align, put, slice_at, u16_at, u32_at};
use crate::index::btree::layout::{
    HIGH_KEY, INCOMPLETE_SPLIT, LEAF, Opaque, first_data_item, init_like, init_linked, restore_items,
    swap_posting,
};
use crate::index::tuple::{TID_SIZE, tuple_len};
use crate::page::{self, Numbering, PageBytes, add_item, line_pointer, max_offset};
use crate::step::Step;

/// The old page after the split.
pub(crate) fn left_half(step: &mut Step<'_, '_>, new_is_left: bool) -> Done {
    let main = step.record.main;
    let level = u32_at(main, 0)?;
    let (first_right, new_number, posting_index) = (u16_at(main, 4)?, u16_at(main, 6)?, u16_at(main, 8)?);
    let right = block_number(step, 1)?;

    let mut old = *step.page;
    let first = first_data_item(step.page)?;
    let mut rest = step.block.data;
    let mut new_item: &[u8] = &[];
    let mut new_tid: Option<[u8; TID_SIZE]> = None;
    if new_is_left || posting_index != 0 {
        (new_item, rest) = split_tuple(rest)?;
    }
    if posting_index != 0 {
        let posting =
            new_number.checked_sub(1).ok_or(Fault::Malformed("no posting list before the new item"))?;
        new_tid = Some(swap_posting(&mut old, posting, posting_index, array_at(new_item, 0)?)?);
    }
    let (high_key, _) = split_tuple(rest)?;

    init_like(step.page, &old)?;
    append(step.page, high_key)?;
    debug_assert_eq!(max_offset(step.page), HIGH_KEY, "the high key is the first item");
    for number in first..first_right {
        if new_is_left && number == new_number {
            append_new(step.page, new_item, new_tid)?;
        }
        let pointer = line_pointer(&old, number)?;
        append(step.page, slice_at(&old, pointer.start(), usize::from(pointer.len))?)?;
    }
    if new_is_left && first_right.max(first) == new_number {
        append_new(step.page, new_item, new_tid)?;
    }

    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(INCOMPLETE_SPLIT | leaf_flag(level));
    opaque.set_next(right);
    opaque.set_cycle_id(0);
    Ok(())
}

/// The new page with the upper half of the items.
pub(crate) fn right_half(step: &mut Step<'_, '_>) -> Done {
    let level = u32_at(step.record.main, 0)?;
    let prev = block_number(step, 0)?;
    let next = step.record.block(2).map_or(0, |next| next.block.get());
    init_linked(step.page, prev, next, level, leaf_flag(level))?;
    restore_items(step.page, step.block.data)
}

/// The page to the right of both.
pub(crate) fn next_page(step: &mut Step<'_, '_>) -> Done {
    let right = block_number(step, 1)?;
    Opaque::of(step.page)?.set_prev(right);
    Ok(())
}

fn leaf_flag(level: u32) -> u16 {
    if level == 0 { LEAF } else { 0 }
}

fn block_number(step: &Step<'_, '_>, id: u8) -> Result<u32, Fault> {
    let block = step.record.block(id).ok_or(Fault::Malformed("a split without both halves"))?;
    Ok(block.block.get())
}

/// The tuple at the start of `data` with its padding, and what follows.
fn split_tuple(data: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    data.split_at_checked(max_align(tuple_len(data)?)).ok_or(Fault::Malformed("an index tuple is cut off"))
}

fn append(page: &mut PageBytes, item: &[u8]) -> Result<usize, Fault> {
    let next = page::max_offset(page) + 1;
    add_item(page, next, item, Numbering::Index)
}

fn append_new(page: &mut PageBytes, item: &[u8], tid: Option<[u8; TID_SIZE]>) -> Done {
    let at = append(page, item)?;
    tid.map_or(Ok(()), |tid| put(page, at, &tid))
}
