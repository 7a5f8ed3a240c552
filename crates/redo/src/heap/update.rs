//! UPDATE and HOT_UPDATE: the old tuple gets an xmax and a forward link, the new one is added.
//!
//! Follows `heap_xlog_update` in `heapam.c`. Block 0 is the new tuple's page; block 1 the old tuple's, absent if
//! both are on one page. Main data: old xmax 4, old item 2, old infobits 1, flags 1, new xmax 4, new item 2.
//! Block 0's data: `[prefix length 2] [suffix length 2] header 5 | bitmap and padding | changed data`. Prefix and
//! suffix are taken from the old tuple, which is then on the same page.

use crate::Fault;
use crate::bytes::{Done, put, shift, u8_at, u16_at, u32_at};
use crate::heap::op::INIT_PAGE;
use crate::heap::page_bits::{clear_all_visible_if, set_prunable};
use crate::heap::tuple::{HEADER_SIZE, LoggedHeader, TupleHeader};
use crate::page::{self, LinePointer, Numbering, normal_item, reserve_item};
use crate::step::Step;

/// `XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED`
pub(crate) const OLD_ALL_VISIBLE_CLEARED: u8 = 0x01;
/// `XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED`
pub(crate) const NEW_ALL_VISIBLE_CLEARED: u8 = 0x02;
/// `XLH_UPDATE_PREFIX_FROM_OLD`
const PREFIX_FROM_OLD: u8 = 0x20;
/// `XLH_UPDATE_SUFFIX_FROM_OLD`
const SUFFIX_FROM_OLD: u8 = 0x40;

struct UpdateRecord {
    old_xmax: u32,
    old_item: u16,
    old_infobits: u8,
    flags: u8,
    new_xmax: u32,
    new_item: u16,
}

/// Applies an update to the page of its old tuple, of its new tuple, or of both.
pub(crate) fn apply(step: &mut Step<'_, '_>, hot: bool) -> Done {
    let main = step.record.main;
    let update = UpdateRecord {
        old_xmax: u32_at(main, 0)?,
        old_item: u16_at(main, 4)?,
        old_infobits: u8_at(main, 6)?,
        flags: u8_at(main, 7)?,
        new_xmax: u32_at(main, 8)?,
        new_item: u16_at(main, 12)?,
    };
    let one_page = step.record.block(1).is_none();
    let mut old = None;
    if one_page || step.block.id == 1 {
        old = Some(normal_item(step.page, update.old_item)?);
        mark_old(step, &update, hot)?;
    }
    if step.block.id == 0 {
        if !one_page && step.record.info & INIT_PAGE != 0 {
            page::init(step.page, 0);
        }
        add_new(step, &update, old)?;
    }
    Ok(())
}

fn mark_old(step: &mut Step<'_, '_>, update: &UpdateRecord, hot: bool) -> Done {
    let new_block = step.record.block(0).ok_or(Fault::Malformed("an update without its new page"))?.block;
    let mut tuple = TupleHeader::of_item(step.page, update.old_item)?;
    tuple.set_hot_updated(hot);
    tuple.replace_xmax_bits(update.old_infobits);
    tuple.set_xmax(update.old_xmax);
    tuple.clear_command_id();
    tuple.set_ctid(new_block.get(), update.new_item);
    set_prunable(step.page, step.record.xid);
    clear_all_visible_if(step.page, update.flags & OLD_ALL_VISIBLE_CLEARED != 0);
    Ok(())
}

fn add_new(step: &mut Step<'_, '_>, update: &UpdateRecord, old: Option<LinePointer>) -> Done {
    let data = step.block.data;
    let mut at = 0;
    let mut optional_len = |flag: u8| -> Result<usize, Fault> {
        if update.flags & flag == 0 {
            return Ok(0);
        }
        let len = u16_at(data, at)?;
        at += 2;
        Ok(usize::from(len))
    };
    let prefix_len = optional_len(PREFIX_FROM_OLD)?;
    let suffix_len = optional_len(SUFFIX_FROM_OLD)?;
    let header = LoggedHeader::at(data, at)?;
    let logged = data.get(at + LoggedHeader::SIZE..).unwrap_or_default();

    let len = HEADER_SIZE + logged.len() + prefix_len + suffix_len;
    let start = reserve_item(step.page, update.new_item, len, Numbering::Heap)?;
    let mut to = start + HEADER_SIZE;
    if prefix_len > 0 {
        let old = old.ok_or(NO_OLD)?;
        let bitmap_len = usize::from(header.hoff).checked_sub(HEADER_SIZE).ok_or(BAD_HOFF)?;
        let (bitmap, changed) = logged.split_at_checked(bitmap_len).ok_or(BAD_HOFF)?;
        put(step.page, to, bitmap)?;
        let old_hoff = usize::from(u8_at(step.page, old.start() + 22)?);
        shift(step.page, old.start() + old_hoff, prefix_len, to + bitmap_len)?;
        put(step.page, to + bitmap_len + prefix_len, changed)?;
    } else {
        put(step.page, to, logged)?;
    }
    to += logged.len() + prefix_len;
    if suffix_len > 0 {
        let old = old.ok_or(NO_OLD)?;
        let from = (old.start() + usize::from(old.len)).checked_sub(suffix_len).ok_or(NO_OLD)?;
        shift(step.page, from, suffix_len, to)?;
    }
    header.write(step.page, start, step.record.xid.get(), (step.block.block.get(), update.new_item))?;
    TupleHeader::at(step.page, start)?.set_xmax(update.new_xmax);
    clear_all_visible_if(step.page, update.flags & NEW_ALL_VISIBLE_CLEARED != 0);
    Ok(())
}

const NO_OLD: Fault = Fault::Malformed("the old tuple has no such prefix or suffix");
const BAD_HOFF: Fault = Fault::Malformed("the tuple's data begins within its header");
