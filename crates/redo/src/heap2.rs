//! Records of the `Heap2` resource manager.
//!
//! Follows `heap2_redo` in `heapam.c` and `heap_page_prune_execute` in `pruneheap.c`, as of 14 and 15: from 17 on
//! PRUNE, VACUUM and FREEZE_PAGE are one record with another layout. NEW_CID and REWRITE change no page.
//!
//! | record       | main data                        | block 0's data                                      |
//! |--------------|----------------------------------|-----------------------------------------------------|
//! | PRUNE        | xid 4, redirected 2, dead 2      | redirected pairs, dead, then unused items; 2 each   |
//! | VACUUM       | unused 2                         | unused items, 2 each                                |
//! | FREEZE_PAGE  | xid 4, tuples 2                  | xmax 4, item 2, infomask2 2, infomask 2, flags 1, pad 1 |
//! | VISIBLE      | xid 4, flags 1                   | (block 0 is the map, block 1 the heap)              |
//! | MULTI_INSERT | flags 1, pad 1, tuples 2, items  | aligned to 2: length 2, header 5, data              |
//! | LOCK_UPDATED | xmax 4, item 2, infobits 1, flags 1 |                                                  |

use crate::Fault;
use crate::block::{Effect, Step};
use crate::bytes::{Done, slice_at, u8_at, u16_at, u32_at};
use crate::compact::{repair_fragmentation, truncate_line_pointers};
use crate::heap::{INIT_PAGE, OP_MASK, add_tuple, clear_all_visible_if};
use crate::heap_tuple::TupleHeader;
use crate::page::{self, ALL_VISIBLE, ItemState, LinePointer, set_line_pointer};

const PRUNE: u8 = 0x10;
const VACUUM: u8 = 0x20;
const FREEZE_PAGE: u8 = 0x30;
pub(crate) const VISIBLE: u8 = 0x40;
pub(crate) const MULTI_INSERT: u8 = 0x50;
pub(crate) const LOCK_UPDATED: u8 = 0x60;

/// `XLH_INSERT_ALL_VISIBLE_CLEARED`
const ALL_VISIBLE_CLEARED: u8 = 0x01;
/// `XLH_INSERT_ALL_FROZEN_SET`
const ALL_FROZEN_SET: u8 = 0x20;
/// `XLH_FREEZE_XVAC`
const FREEZE_XVAC: u8 = 0x02;
/// `XLH_INVALID_XVAC`
const INVALID_XVAC: u8 = 0x04;
/// `FrozenTransactionId`
const FROZEN_XID: u32 = 2;
/// Bytes of `xl_heap_freeze_tuple`, padding included.
const FREEZE_TUPLE_SIZE: usize = 12;

/// Applies a `Heap2` record to its heap page.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match step.record.info & OP_MASK {
        PRUNE => prune(step)?,
        VACUUM => vacuum(step)?,
        FREEZE_PAGE => freeze_page(step)?,
        VISIBLE => return Ok(visible(step)),
        MULTI_INSERT => multi_insert(step)?,
        LOCK_UPDATED => lock_updated(step)?,
        _ => return Err(Fault::Unsupported),
    }
    Ok(Effect::Changed)
}

fn prune(step: &mut Step<'_, '_>) -> Done {
    let (main, data) = (step.record.main, step.block.data);
    let dead_from = usize::from(u16_at(main, 4)?) * 2;
    let unused_from = dead_from + usize::from(u16_at(main, 6)?);
    let count = data.len() / 2;
    if unused_from > count {
        return Err(Fault::Malformed("fewer items than the record says"));
    }
    for index in (0..dead_from).step_by(2) {
        let (from, to) = (u16_at(data, index * 2)?, u16_at(data, index * 2 + 2)?);
        set_line_pointer(step.page, from, LinePointer { offset: to, state: ItemState::Redirect, len: 0 })?;
    }
    for index in dead_from..unused_from {
        set_line_pointer(step.page, u16_at(data, index * 2)?, LinePointer::DEAD)?;
    }
    for index in unused_from..count {
        set_line_pointer(step.page, u16_at(data, index * 2)?, LinePointer::UNUSED)?;
    }
    repair_fragmentation(step.page)
}

fn vacuum(step: &mut Step<'_, '_>) -> Done {
    for index in 0..usize::from(u16_at(step.record.main, 0)?) {
        set_line_pointer(step.page, u16_at(step.block.data, index * 2)?, LinePointer::UNUSED)?;
    }
    truncate_line_pointers(step.page)
}

fn freeze_page(step: &mut Step<'_, '_>) -> Done {
    for index in 0..usize::from(u16_at(step.record.main, 4)?) {
        let frozen = slice_at(step.block.data, index * FREEZE_TUPLE_SIZE, FREEZE_TUPLE_SIZE)?;
        let pointer = page::line_pointer(step.page, u16_at(frozen, 4)?)?;
        let flags = u8_at(frozen, 10)?;
        let mut tuple = TupleHeader::at(step.page, pointer.start())?;
        tuple.set_xmax(u32_at(frozen, 0)?);
        if flags & FREEZE_XVAC != 0 {
            tuple.set_xvac(FROZEN_XID);
        }
        if flags & INVALID_XVAC != 0 {
            tuple.set_xvac(0);
        }
        tuple.set_infomask2(u16_at(frozen, 6)?);
        tuple.set_infomask(u16_at(frozen, 8)?);
    }
    Ok(())
}

/// The heap page's part; the map's is `heap_vm`'s. Without checksums the page keeps its LSN: it may be torn then,
/// which is harmless for one bit.
fn visible(step: &mut Step<'_, '_>) -> Effect {
    page::set_flags(step.page, ALL_VISIBLE, 0);
    if step.cx.checksums { Effect::Changed } else { Effect::HintOnly }
}

fn multi_insert(step: &mut Step<'_, '_>) -> Done {
    let (main, data) = (step.record.main, step.block.data);
    let flags = u8_at(main, 0)?;
    let is_init = step.record.info & INIT_PAGE != 0;
    if is_init {
        page::init(step.page, 0);
    }
    let mut at = 0usize;
    for index in 0..u16_at(main, 2)? {
        let item = if is_init { index.saturating_add(1) } else { u16_at(main, 4 + usize::from(index) * 2)? };
        at = at.next_multiple_of(2);
        let body_len = usize::from(u16_at(data, at)?);
        let logged_len = crate::heap_tuple::LoggedHeader::SIZE + body_len;
        add_tuple(step, item, slice_at(data, at + 2, logged_len)?)?;
        at += 2 + logged_len;
    }
    if at != data.len() {
        return Err(Fault::Malformed("total tuple length mismatch"));
    }
    clear_all_visible_if(step.page, flags & ALL_VISIBLE_CLEARED != 0);
    if flags & ALL_FROZEN_SET != 0 {
        page::set_flags(step.page, ALL_VISIBLE, 0);
    }
    Ok(())
}

fn lock_updated(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (xmax, item, infobits) = (u32_at(main, 0)?, u16_at(main, 4)?, u8_at(main, 6)?);
    let mut tuple = TupleHeader::of_item(step.page, item)?;
    tuple.replace_xmax_bits(infobits);
    tuple.set_xmax(xmax);
    Ok(())
}
