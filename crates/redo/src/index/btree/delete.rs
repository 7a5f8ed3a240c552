//! Deletion of items and of whole pages.
//!
//! Follows `btree_xlog_vacuum`, `btree_xlog_delete`, `btree_xlog_mark_page_halfdead` and `btree_xlog_unlink_page` in
//! `nbtxlog.c`, and `_bt_update_posting` in `nbtdedup.c`. A page is deleted in two records: first its leaf becomes
//! half-dead and its parent forgets it, then its siblings do.
//!
//! | record             | main data                                                                          |
//! |--------------------|------------------------------------------------------------------------------------|
//! | VACUUM             | deleted 2, updated 2                                                               |
//! | DELETE             | xid 4, deleted 2, updated 2, [catalog 1, from 16 on]                               |
//! | MARK_PAGE_HALFDEAD | parent's item 2, pad 2, leaf 4, left 4, right 4, top parent 4                      |
//! | UNLINK_PAGE        | left 4, right 4, level 4, pad 4, full xid 8, leaf's left 4, right 4, top parent 4  |

use types::{BLOCK_SIZE, PAGE_HEADER_SIZE};

use crate::Fault;
use crate::bytes::{Done, put, slice_at, slice_at_mut, u16_at, u32_at};
use crate::index::btree::layout::{
    DELETED, HALF_DEAD, HAS_FULL_XID, HAS_GARBAGE, LEAF, LeafTuple, Opaque, add_top_parent, form_header,
    init_linked, posting_len,
};
use crate::index::tuple::{TID_SIZE, set_tid_block, tid_block};
use crate::page::compact::{delete_index_item, delete_index_items, overwrite_index_item};
use crate::page::{self, PageBytes, normal_item};
use crate::step::Step;

/// Deletes items, and single tids of posting lists. Both counts are at `counts_at` of the main data. Block data:
/// deleted items 2 each, updated items 2 each, then for each updated item the count and places of its dead tids.
pub(crate) fn delete_items(step: &mut Step<'_, '_>, counts_at: usize) -> Done {
    let data = step.block.data;
    let deleted = usize::from(u16_at(step.record.main, counts_at)?);
    let updated = usize::from(u16_at(step.record.main, counts_at + 2)?);
    let mut update_at = (deleted + updated) * 2;
    for index in 0..updated {
        let number = u16_at(data, (deleted + index) * 2)?;
        let dead = usize::from(u16_at(data, update_at)?);
        update_posting(step.page, number, slice_at(data, update_at + 2, dead * 2)?)?;
        update_at += 2 + dead * 2;
    }
    if deleted > 0 {
        delete_index_items(step.page, slice_at(data, 0, deleted * 2)?)?;
    }
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(opaque.flags() & !HAS_GARBAGE);
    Ok(())
}

/// Deletes what no transaction sees; from 18 on the page also forgets the vacuum that split it.
pub(crate) fn vacuum(step: &mut Step<'_, '_>) -> Done {
    delete_items(step, 0)?;
    if step.cx.major >= 18 {
        Opaque::of(step.page)?.set_cycle_id(0);
    }
    Ok(())
}

/// Takes the tids at the ascending places `dead` (2 bytes each) out of item `number`'s posting list.
fn update_posting(page: &mut PageBytes, number: u16, dead: &[u8]) -> Done {
    let mut new = [0; BLOCK_SIZE];
    let tuple = LeafTuple::of_item(page, number)?;
    let left = (tuple.tids.len() / TID_SIZE).checked_sub(dead.len() / 2).filter(|&left| left > 0);
    let left = left.filter(|_| tuple.is_posting).ok_or(BAD_UPDATE)?;
    let len = posting_len(tuple.key.len(), left);
    put(&mut new, 0, tuple.key)?;
    let mut to = form_header(&mut new, 0, tuple.key.len(), left, len)?;
    let mut dead = dead.as_chunks().0.iter().map(|raw| u16::from_le_bytes(*raw)).peekable();
    for (place, tid) in tuple.tids.chunks_exact(TID_SIZE).enumerate() {
        if dead.next_if(|&dead| usize::from(dead) == place).is_none() {
            put(&mut new, to, tid)?;
            to += TID_SIZE;
        }
    }
    if dead.next().is_some() {
        return Err(BAD_UPDATE);
    }
    overwrite_index_item(page, number, slice_at(&new, 0, len)?)
}

const BAD_UPDATE: Fault = Fault::Malformed("the tids to delete are not in the posting list");

/// The leaf that is to be deleted.
pub(crate) fn half_dead_leaf(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    init_linked(step.page, u32_at(main, 8)?, u32_at(main, 12)?, 0, HALF_DEAD | LEAF)?;
    add_top_parent(step.page, u32_at(main, 16)?)
}

/// The parent: the doomed child's link is replaced by its right sibling's, whose own item goes.
pub(crate) fn half_dead_parent(step: &mut Step<'_, '_>) -> Done {
    let number = u16_at(step.record.main, 0)?;
    let next = number.checked_add(1).ok_or(Fault::Malformed("the parent has no such item"))?;
    let right = tid_block(step.page, normal_item(step.page, next)?.start())?;
    let doomed = normal_item(step.page, number)?.start();
    set_tid_block(step.page, doomed, right)?;
    delete_index_item(step.page, next)
}

/// The page that is no longer in the tree (`BTPageSetDeleted`).
pub(crate) fn unlinked_page(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let level = u32_at(main, 8)?;
    let leaf = if level == 0 { LEAF } else { 0 };
    init_linked(step.page, u32_at(main, 0)?, u32_at(main, 4)?, level, DELETED | HAS_FULL_XID | leaf)?;
    let full_xid = slice_at(main, 16, 8)?;
    slice_at_mut(step.page, PAGE_HEADER_SIZE, 8)?.copy_from_slice(full_xid);
    page::set_lower(step.page, PAGE_HEADER_SIZE + 8);
    let special = page::special(step.page);
    page::set_upper(step.page, special);
    Ok(())
}

/// The page to the left of the deleted one.
pub(crate) fn left_sibling(step: &mut Step<'_, '_>) -> Done {
    let right = u32_at(step.record.main, 4)?;
    Opaque::of(step.page)?.set_next(right);
    Ok(())
}

/// The page to the right of the deleted one.
pub(crate) fn right_sibling(step: &mut Step<'_, '_>) -> Done {
    let left = u32_at(step.record.main, 0)?;
    Opaque::of(step.page)?.set_prev(left);
    Ok(())
}

/// The half-dead leaf below a deleted inner page: its top parent is now one level lower.
pub(crate) fn unlinked_leaf(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    init_linked(step.page, u32_at(main, 24)?, u32_at(main, 28)?, 0, HALF_DEAD | LEAF)?;
    add_top_parent(step.page, u32_at(main, 32)?)
}
