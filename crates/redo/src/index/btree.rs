//! Records of the `Btree` resource manager: dispatch, insertion, deduplication, new roots, the metapage.
//!
//! Follows `nbtxlog.c`. Which block a reference's id means differs by record:
//!
//! | record                    | 0             | 1            | 2            | 3            | 4        |
//! |---------------------------|---------------|--------------|--------------|--------------|----------|
//! | INSERT_*                  | page          | split child  | metapage     |              |          |
//! | SPLIT_L, SPLIT_R          | left half     | right half   | next page    | split child  |          |
//! | NEWROOT                   | root          | split child  | metapage     |              |          |
//! | VACUUM, DELETE, DEDUP     | page          |              |              |              |          |
//! | MARK_PAGE_HALFDEAD        | leaf          | parent       |              |              |          |
//! | UNLINK_PAGE(_META)        | deleted page  | left sibling | right sibling| leaf         | metapage |
//! | META_CLEANUP              | metapage      |              |              |              |          |
//!
//! Not here: splits (`split`), deletion (`delete`). REUSE_PAGE changes no page.

mod delete;
pub(crate) mod layout;
mod split;

use crate::Fault;
use crate::bytes::{Done, array_at, put, put_u32, slice_at, u8_at, u16_at, u32_at};
use crate::index::btree::layout::{
    HAS_GARBAGE, HIGH_KEY, INCOMPLETE_SPLIT, LEAF, LeafTuple, META, Opaque, ROOT, first_data_item,
    form_header, init_like, init_linked, posting_len, restore_items, swap_posting,
};
use crate::index::tuple::{TID_SIZE, tuple_len};
use crate::page::{self, Numbering, PageBytes, add_item, max_offset, reserve_item};
use crate::step::{Effect, Step};

const INSERT_LEAF: u8 = 0x00;
const INSERT_UPPER: u8 = 0x10;
const INSERT_META: u8 = 0x20;
const SPLIT_L: u8 = 0x30;
const SPLIT_R: u8 = 0x40;
const INSERT_POST: u8 = 0x50;
const DEDUP: u8 = 0x60;
const DELETE: u8 = 0x70;
const UNLINK_PAGE: u8 = 0x80;
const UNLINK_PAGE_META: u8 = 0x90;
const NEWROOT: u8 = 0xA0;
const MARK_PAGE_HALFDEAD: u8 = 0xB0;
const VACUUM: u8 = 0xC0;
const META_CLEANUP: u8 = 0xE0;

/// `BTREE_MAGIC`
const META_MAGIC: u32 = 0x0005_3162;
/// Bytes of `BTMetaPageData`.
const META_SIZE: usize = 48;
/// Bytes a posting list tuple may take (`BTMaxItemSize`).
const TUPLE_LEN_MAX: usize = 2704;

/// Applies a `Btree` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match (step.record.op(), step.block.id) {
        (INSERT_LEAF | INSERT_UPPER | INSERT_META, 0) => insert(step),
        (INSERT_POST, 0) => insert_into_posting(step),
        (INSERT_UPPER | INSERT_META | NEWROOT, 1) | (SPLIT_L | SPLIT_R, 3) => clear_incomplete_split(step),
        (INSERT_META | NEWROOT, 2) | (UNLINK_PAGE_META, 4) | (META_CLEANUP, 0) => restore_meta(step),
        (SPLIT_L | SPLIT_R, 0) => split::left_half(step, step.record.op() == SPLIT_L),
        (SPLIT_L | SPLIT_R, 1) => split::right_half(step),
        (SPLIT_L | SPLIT_R, 2) => split::next_page(step),
        (NEWROOT, 0) => new_root(step),
        (DEDUP, 0) => deduplicate(step),
        (DELETE, 0) => delete::delete_items(step, 4),
        (VACUUM, 0) => delete::vacuum(step),
        (MARK_PAGE_HALFDEAD, 0) => delete::half_dead_leaf(step),
        (MARK_PAGE_HALFDEAD, 1) => delete::half_dead_parent(step),
        (UNLINK_PAGE | UNLINK_PAGE_META, 0) => delete::unlinked_page(step),
        (UNLINK_PAGE | UNLINK_PAGE_META, 1) => delete::left_sibling(step),
        (UNLINK_PAGE | UNLINK_PAGE_META, 2) => delete::right_sibling(step),
        (UNLINK_PAGE | UNLINK_PAGE_META, 3) => delete::unlinked_leaf(step),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

fn insert(step: &mut Step<'_, '_>) -> Done {
    let number = u16_at(step.record.main, 0)?;
    add_item(step.page, number, step.block.data, Numbering::Index).map(|_| ())
}

/// The new tuple's tid belongs inside the posting list before it: it goes in there, the list's last tid comes out
/// and is what the new tuple gets. Block data: place in the list 2, then the new tuple.
fn insert_into_posting(step: &mut Step<'_, '_>) -> Done {
    let number = u16_at(step.record.main, 0)?;
    let index = u16_at(step.block.data, 0)?;
    let new = step.block.data.get(2..).unwrap_or_default();
    let before = number.checked_sub(1).ok_or(Fault::Malformed("no posting list before the first item"))?;
    let last = swap_posting(step.page, before, index, array_at(new, 0)?)?;
    let at = add_item(step.page, number, new, Numbering::Index)?;
    put(step.page, at, &last)
}

fn clear_incomplete_split(step: &mut Step<'_, '_>) -> Done {
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(opaque.flags() & !INCOMPLETE_SPLIT);
    Ok(())
}

/// Rebuilds the metapage (`_bt_restore_meta`). Block data: version, root, level, fast root, fast level, pages
/// deleted by the last cleanup, 4 each; all keys are equal as images 1.
fn restore_meta(step: &mut Step<'_, '_>) -> Done {
    let data = step.block.data;
    init_linked(step.page, 0, 0, 0, META)?;
    let at = types::PAGE_HEADER_SIZE;
    put_u32(step.page, at, META_MAGIC)?;
    for field in 0..6 {
        put_u32(step.page, at + 4 + field * 4, u32_at(data, field * 4)?)?;
    }
    put(step.page, at + 32, &(-1.0f64).to_le_bytes())?; // heap tuples at the last cleanup: no longer kept
    put(step.page, at + 40, &[u8_at(data, 24)?])?;
    page::set_lower(step.page, at + META_SIZE);
    Ok(())
}

/// Main data: root block 4, level 4.
fn new_root(step: &mut Step<'_, '_>) -> Done {
    let level = u32_at(step.record.main, 4)?;
    let flags = if level == 0 { ROOT | LEAF } else { ROOT };
    init_linked(step.page, 0, 0, level, flags)?;
    if level > 0 { restore_items(step.page, step.block.data) } else { Ok(()) }
}

/// Merges runs of equal tuples into posting lists (`btree_xlog_dedup`). Main data: count 2; block data: for each run
/// the number of its first item 2, its items 2.
fn deduplicate(step: &mut Step<'_, '_>) -> Done {
    let old = *step.page;
    let first = first_data_item(step.page)?;
    init_like(step.page, &old)?;
    if first > HIGH_KEY {
        copy_item(step, &old, HIGH_KEY, true)?;
    }
    let mut runs_left = usize::from(u16_at(step.record.main, 0)?);
    let mut run_at = 0;
    let mut number = first;
    while number <= max_offset(&old) {
        if runs_left > 0 && u16_at(step.block.data, run_at)? == number {
            let items = u16_at(step.block.data, run_at + 2)?;
            merge_run(step, &old, number, items)?;
            number = number.saturating_add(items);
            run_at += 4;
            runs_left -= 1;
        } else {
            copy_item(step, &old, number, false)?;
            number += 1;
        }
    }
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(opaque.flags() & !HAS_GARBAGE);
    Ok(())
}

/// Adds item `number` of `old` at the end of the page, as normal whatever its state was. A high key's length is its
/// line pointer's, that of other items their own, as in Postgres.
fn copy_item(step: &mut Step<'_, '_>, old: &PageBytes, number: u16, is_high_key: bool) -> Done {
    let pointer = page::line_pointer(old, number)?;
    let rest = old.get(pointer.start()..).unwrap_or_default();
    let len = if is_high_key { usize::from(pointer.len) } else { tuple_len(rest)? };
    let next = max_offset(step.page) + 1;
    add_item(step.page, next, slice_at(rest, 0, len)?, Numbering::Index).map(|_| ())
}

/// Adds one tuple with all tids of `items` items of `old`, from `first` on, at the end of the page.
fn merge_run(step: &mut Step<'_, '_>, old: &PageBytes, first: u16, items: u16) -> Done {
    let last = first.checked_add(items).filter(|_| items >= 2).ok_or(BAD_RUN)? - 1;
    let mut count = 0;
    for number in first..=last {
        count += LeafTuple::of_item(old, number)?.tids.len() / TID_SIZE;
    }
    let key = LeafTuple::of_item(old, first)?.key;
    let len = posting_len(key.len(), count);
    if len > TUPLE_LEN_MAX {
        return Err(BAD_RUN);
    }
    let next = max_offset(step.page) + 1;
    let at = reserve_item(step.page, next, len, Numbering::Index)?;
    put(step.page, at, key)?;
    let mut to = form_header(step.page, at, key.len(), count, len)?;
    for number in first..=last {
        let tids = LeafTuple::of_item(old, number)?.tids;
        put(step.page, to, tids)?;
        to += tids.len();
    }
    Ok(())
}

const BAD_RUN: Fault = Fault::Malformed("a run of equal items does not make a posting list");
