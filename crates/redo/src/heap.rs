//! Records of the `Heap` resource manager, except updates.
//!
//! Follows `heap_redo` in `heapam.c` and the structs of `heapam_xlog.h`. Main data, from offset 0:
//!
//! | record        | fields                                               |
//! |---------------|------------------------------------------------------|
//! | INSERT        | item 2, flags 1                                      |
//! | DELETE        | xmax 4, item 2, infobits 1, flags 1                  |
//! | LOCK          | xid 4, item 2, infobits 1, flags 1                   |
//! | CONFIRM       | item 2                                               |
//! | INPLACE       | item 2                                               |
//!
//! Not here: UPDATE and HOT_UPDATE (`heap_update`), the visibility map (`heap_vm`).

use types::Xid;

use crate::block::{Effect, Step};
use crate::bytes::{Done, put, u8_at, u16_at, u32_at};
use crate::heap_tuple::{HEADER_SIZE, LoggedHeader, TupleHeader};
use crate::page::{self, ALL_VISIBLE, PageBytes, Place, normal_item, reserve_item};
use crate::{Fault, heap_update};

/// Bits of `info` that say which record it is (`XLOG_HEAP_OPMASK`).
pub(crate) const OP_MASK: u8 = 0x70;
/// The record begins a new page (`XLOG_HEAP_INIT_PAGE`).
pub(crate) const INIT_PAGE: u8 = 0x80;

pub(crate) const INSERT: u8 = 0x00;
pub(crate) const DELETE: u8 = 0x10;
pub(crate) const UPDATE: u8 = 0x20;
pub(crate) const HOT_UPDATE: u8 = 0x40;
const CONFIRM: u8 = 0x50;
pub(crate) const LOCK: u8 = 0x60;
const INPLACE: u8 = 0x70;

/// `XLH_INSERT_ALL_VISIBLE_CLEARED` and its like in DELETE and UPDATE (old page).
const ALL_VISIBLE_CLEARED: u8 = 0x01;
/// `XLH_DELETE_IS_SUPER`
const DELETE_IS_SUPER: u8 = 0x08;
/// `XLH_DELETE_IS_PARTITION_MOVE`
const DELETE_IS_PARTITION_MOVE: u8 = 0x10;

/// Applies a `Heap` record to one of its heap pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match step.record.info & OP_MASK {
        INSERT => insert(step),
        DELETE => delete(step),
        UPDATE => heap_update::apply(step, false),
        HOT_UPDATE => heap_update::apply(step, true),
        CONFIRM => confirm(step),
        LOCK => lock(step),
        INPLACE => inplace(step),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

fn insert(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let item = u16_at(main, 0)?;
    let flags = u8_at(main, 2)?;
    if step.record.info & INIT_PAGE != 0 {
        page::init(step.page, 0);
    }
    add_tuple(step, item, step.block.data)?;
    clear_all_visible_if(step.page, flags & ALL_VISIBLE_CLEARED != 0);
    Ok(())
}

/// Adds the tuple in `logged` (header as logged, then bitmap and data) as item `item`.
pub(crate) fn add_tuple(step: &mut Step<'_, '_>, item: u16, logged: &[u8]) -> Done {
    let header = LoggedHeader::at(logged, 0)?;
    let body = logged.get(LoggedHeader::SIZE..).unwrap_or_default();
    let at = reserve_item(step.page, item, HEADER_SIZE + body.len(), Place::Heap)?;
    put(step.page, at + HEADER_SIZE, body)?;
    header.write(step.page, at, step.record.xid.get(), (step.block.block.get(), item))
}

fn delete(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (xmax, item, infobits, flags) =
        (u32_at(main, 0)?, u16_at(main, 4)?, u8_at(main, 6)?, u8_at(main, 7)?);
    let mut tuple = TupleHeader::of_item(step.page, item)?;
    tuple.set_hot_updated(false);
    tuple.replace_xmax_bits(infobits);
    if flags & DELETE_IS_SUPER == 0 {
        tuple.set_xmax(xmax);
    } else {
        tuple.set_xmin(0);
    }
    tuple.clear_command_id();
    if flags & DELETE_IS_PARTITION_MOVE != 0 {
        tuple.set_moved_partitions();
    } else {
        tuple.set_ctid(step.block.block.get(), item);
    }
    set_prunable(step.page, step.record.xid);
    clear_all_visible_if(step.page, flags & ALL_VISIBLE_CLEARED != 0);
    Ok(())
}

fn confirm(step: &mut Step<'_, '_>) -> Done {
    let item = u16_at(step.record.main, 0)?;
    TupleHeader::of_item(step.page, item)?.set_ctid(step.block.block.get(), item);
    Ok(())
}

fn lock(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (xmax, item, infobits) = (u32_at(main, 0)?, u16_at(main, 4)?, u8_at(main, 6)?);
    let mut tuple = TupleHeader::of_item(step.page, item)?;
    tuple.replace_xmax_bits(infobits);
    if tuple.is_locked_only() {
        tuple.set_hot_updated(false);
        tuple.set_ctid(step.block.block.get(), item);
    }
    tuple.set_xmax(xmax);
    tuple.clear_command_id();
    Ok(())
}

fn inplace(step: &mut Step<'_, '_>) -> Done {
    let item = normal_item(step.page, u16_at(step.record.main, 0)?)?;
    let hoff = usize::from(u8_at(step.page, item.start() + 22)?);
    let new = step.block.data;
    if usize::from(item.len).checked_sub(hoff) != Some(new.len()) {
        return Err(Fault::Malformed("the tuple's length would change in place"));
    }
    put(step.page, item.start() + hoff, new)
}

/// Notes that `xid` may leave something to prune (`PageSetPrunable`).
pub(crate) fn set_prunable(page: &mut PageBytes, xid: Xid) {
    let known = page::prune_xid(page);
    if known == 0 || xid.precedes(Xid::new(known)) {
        page::set_prune_xid(page, xid.get());
    }
}

/// Clears the page's all-visible flag, if the record says so.
pub(crate) fn clear_all_visible_if(page: &mut PageBytes, cleared: bool) {
    if cleared {
        page::set_flags(page, 0, ALL_VISIBLE);
    }
}
