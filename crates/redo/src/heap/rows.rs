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
//! Not here: UPDATE and HOT_UPDATE (`update`), the visibility map (`visibility_map`).

use crate::Fault;
use crate::bytes::{Done, put, u8_at, u16_at, u32_at};
use crate::heap::op::{CONFIRM, DELETE, HOT_UPDATE, INIT_PAGE, INPLACE, INSERT, LOCK, OP_MASK, UPDATE};
use crate::heap::page_bits::{clear_all_visible_if, set_prunable};
use crate::heap::tuple::{HEADER_SIZE, LoggedHeader, TupleHeader};
use crate::heap::update;
use crate::page::{self, Numbering, normal_item, reserve_item};
use crate::step::{Effect, Step};

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
        UPDATE => update::apply(step, false),
        HOT_UPDATE => update::apply(step, true),
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
    let at = reserve_item(step.page, item, HEADER_SIZE + body.len(), Numbering::Heap)?;
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
