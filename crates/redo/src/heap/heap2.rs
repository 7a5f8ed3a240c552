//! Records of the `Heap2` resource manager.
//!
//! Follows `heap2_redo` in `heapam.c` (`heapam_xlog.c` from 18 on). NEW_CID and REWRITE change no page.
//!
//! | record       | main data                        | block 0's data                                      |
//! |--------------|----------------------------------|-----------------------------------------------------|
//! | VISIBLE      | xid 4, flags 1                   | (block 0 is the map, block 1 the heap)              |
//! | MULTI_INSERT | flags 1, pad 1, tuples 2, items  | aligned to 2: length 2, header 5, data              |
//! | LOCK_UPDATED | xmax 4, item 2, infobits 1, flags 1 |                                                  |
//!
//! Not here: PRUNE, VACUUM and FREEZE_PAGE (`prune`).

use crate::Fault;
use crate::bytes::{Done, slice_at, u8_at, u16_at, u32_at};
use crate::heap::op::{INIT_PAGE, OP_MASK};
use crate::heap::page_bits::clear_all_visible_if;
use crate::heap::prune;
use crate::heap::rows::add_tuple;
use crate::heap::tuple::TupleHeader;
use crate::page::{self, ALL_VISIBLE};
use crate::step::{Effect, Step};

pub(crate) const VISIBLE: u8 = 0x40;
pub(crate) const MULTI_INSERT: u8 = 0x50;
pub(crate) const LOCK_UPDATED: u8 = 0x60;

/// `XLH_INSERT_ALL_VISIBLE_CLEARED`
const ALL_VISIBLE_CLEARED: u8 = 0x01;
/// `XLH_INSERT_ALL_FROZEN_SET`
const ALL_FROZEN_SET: u8 = 0x20;
/// Applies a `Heap2` record to its heap page.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match step.record.info & OP_MASK {
        prune::FIRST_OP..=prune::LAST_OP => prune::apply(step)?,
        VISIBLE => return Ok(visible(step)),
        MULTI_INSERT => multi_insert(step)?,
        LOCK_UPDATED => lock_updated(step)?,
        _ => return Err(Fault::Unsupported),
    }
    Ok(Effect::Changed)
}

/// The heap page's part; the map's is `visibility_map`'s. Without checksums the page keeps its LSN: it may be torn then,
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
        let logged_len = crate::heap::tuple::LoggedHeader::SIZE + body_len;
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
