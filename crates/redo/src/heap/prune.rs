//! Items of a heap page redirected, made dead or unused, and tuples frozen.
//!
//! Follows `heap_xlog_prune`, `heap_xlog_vacuum` and `heap_xlog_freeze_page` in `heapam.c` of 15 and 16,
//! `heap_xlog_prune_freeze` of 17 (`heapam_xlog.c` in 18) and `heap_page_prune_execute` in `pruneheap.c`.
//!
//! | record             | main data                                  | block 0's data                                   |
//! |--------------------|--------------------------------------------|--------------------------------------------------|
//! | 15, 16 PRUNE       | xid 4, redirected 2, dead 2, [catalog 1]   | redirected pairs, dead, then unused items; 2 each |
//! | 15, 16 VACUUM      | unused 2                                   | unused items, 2 each                             |
//! | 15 FREEZE_PAGE     | xid 4, tuples 2                            | xmax 4, item 2, infomask2 2, infomask 2, flags 1, pad 1 |
//! | 16 FREEZE_PAGE     | xid 4, plans 2, catalog 1                  | plans, then the items of each plan, 2 each       |
//! | 17, 18, all three  | reason 1, flags 1, [xid 4]                 | what the flags say, in the order below           |
//!
//! A plan is xmax 4, infomask2 2, infomask 2, flags 1, pad 1, tuples 2. From 17 on the data is: plans' count 2, pad 2,
//! plans; redirected count 2, pairs; dead count 2, items; unused count 2, items; items of each plan.

use crate::Fault;
use crate::bytes::{Done, slice_at, u8_at, u16_at, u32_at};
use crate::heap::op::OP_MASK;
use crate::heap::tuple::TupleHeader;
use crate::page::compact::{repair_fragmentation, truncate_line_pointers};
use crate::page::{self, ItemState, LinePointer, PageBytes, set_line_pointer};
use crate::step::Step;

/// PRUNE, from 17 on PRUNE_ON_ACCESS.
pub(crate) const FIRST_OP: u8 = 0x10;
const PRUNE: u8 = FIRST_OP;
const VACUUM: u8 = 0x20;
/// FREEZE_PAGE, from 17 on PRUNE_VACUUM_CLEANUP.
pub(crate) const LAST_OP: u8 = 0x30;

/// `XLHP_CLEANUP_LOCK`: tuples may be moved.
const MAY_MOVE: u8 = 1 << 2;
/// `XLHP_HAS_FREEZE_PLANS`
const HAS_PLANS: u8 = 1 << 4;
/// `XLHP_HAS_REDIRECTIONS`
const HAS_REDIRECTED: u8 = 1 << 5;
/// `XLHP_HAS_DEAD_ITEMS`
const HAS_DEAD: u8 = 1 << 6;
/// `XLHP_HAS_NOW_UNUSED_ITEMS`
const HAS_UNUSED: u8 = 1 << 7;

/// `XLH_FREEZE_XVAC`
const FREEZE_XVAC: u8 = 0x02;
/// `XLH_INVALID_XVAC`
const INVALID_XVAC: u8 = 0x04;
/// `FrozenTransactionId`
const FROZEN_XID: u32 = 2;
/// Bytes of `xl_heap_freeze_tuple` (15) and of a plan, padding included.
const FREEZE_SIZE: usize = 12;

/// Applies one of the records to its heap page.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Done {
    match (step.cx.major, step.record.info & OP_MASK) {
        (17.., _) => prune_freeze(step),
        (_, PRUNE) => prune(step),
        (_, VACUUM) => vacuum(step),
        (15, _) => freeze_tuples(step),
        _ => {
            let plans = usize::from(u16_at(step.record.main, 4)?);
            let items_at = plans * FREEZE_SIZE;
            freeze_by_plans(step.page, slice_at(step.block.data, 0, items_at)?, step.block.data, items_at)
        }
    }
}

fn prune(step: &mut Step<'_, '_>) -> Done {
    let (main, data) = (step.record.main, step.block.data);
    let dead_at = usize::from(u16_at(main, 4)?) * 4;
    let unused_at = dead_at + usize::from(u16_at(main, 6)?) * 2;
    redirect(step.page, slice_at(data, 0, dead_at)?)?;
    let dead = data.get(dead_at..unused_at).ok_or(TOO_FEW)?;
    set_all(step.page, dead, LinePointer::DEAD)?;
    set_all(step.page, data.get(unused_at..).unwrap_or_default(), LinePointer::UNUSED)?;
    repair_fragmentation(step.page)
}

const TOO_FEW: Fault = Fault::Malformed("fewer items than the record says");

fn vacuum(step: &mut Step<'_, '_>) -> Done {
    let unused = usize::from(u16_at(step.record.main, 0)?) * 2;
    set_all(step.page, slice_at(step.block.data, 0, unused)?, LinePointer::UNUSED)?;
    truncate_line_pointers(step.page)
}

/// Each pair of `items`: the first becomes a redirection to the second.
fn redirect(page: &mut PageBytes, items: &[u8]) -> Done {
    for at in (0..items.len()).step_by(4) {
        let pointer = LinePointer { offset: u16_at(items, at + 2)?, state: ItemState::Redirect, len: 0 };
        set_line_pointer(page, u16_at(items, at)?, pointer)?;
    }
    Ok(())
}

fn set_all(page: &mut PageBytes, items: &[u8], to: LinePointer) -> Done {
    for at in (0..items.len()).step_by(2) {
        set_line_pointer(page, u16_at(items, at)?, to)?;
    }
    Ok(())
}

/// What happens to a frozen tuple's header.
struct Freeze {
    xmax: u32,
    infomask2: u16,
    infomask: u16,
    flags: u8,
}

impl Freeze {
    fn apply(&self, page: &mut PageBytes, item: u16) -> Done {
        let pointer = page::line_pointer(page, item)?;
        let mut tuple = TupleHeader::at(page, pointer.start())?;
        tuple.set_xmax(self.xmax);
        if self.flags & FREEZE_XVAC != 0 {
            tuple.set_xvac(FROZEN_XID);
        }
        if self.flags & INVALID_XVAC != 0 {
            tuple.set_xvac(0);
        }
        tuple.set_infomask2(self.infomask2);
        tuple.set_infomask(self.infomask);
        Ok(())
    }
}

/// 15: an entry for each tuple.
fn freeze_tuples(step: &mut Step<'_, '_>) -> Done {
    for index in 0..usize::from(u16_at(step.record.main, 4)?) {
        let entry = slice_at(step.block.data, index * FREEZE_SIZE, FREEZE_SIZE)?;
        let freeze = Freeze {
            xmax: u32_at(entry, 0)?,
            infomask2: u16_at(entry, 6)?,
            infomask: u16_at(entry, 8)?,
            flags: u8_at(entry, 10)?,
        };
        freeze.apply(step.page, u16_at(entry, 4)?)?;
    }
    Ok(())
}

/// From 16 on: tuples frozen alike share a plan. Their items begin at `items_at` of `data`.
fn freeze_by_plans(page: &mut PageBytes, plans: &[u8], data: &[u8], mut items_at: usize) -> Done {
    for plan in plans.chunks_exact(FREEZE_SIZE) {
        let freeze = Freeze {
            xmax: u32_at(plan, 0)?,
            infomask2: u16_at(plan, 4)?,
            infomask: u16_at(plan, 6)?,
            flags: u8_at(plan, 8)?,
        };
        for _ in 0..u16_at(plan, 10)? {
            freeze.apply(page, u16_at(data, items_at)?)?;
            items_at += 2;
        }
    }
    Ok(())
}

/// 17 and 18.
fn prune_freeze(step: &mut Step<'_, '_>) -> Done {
    let flags = u8_at(step.record.main, 1)?;
    let mut parts = Parts { data: step.block.data, at: 0 };
    let plans = parts.take(flags & HAS_PLANS != 0, FREEZE_SIZE)?;
    let redirected = parts.take(flags & HAS_REDIRECTED != 0, 4)?;
    let dead = parts.take(flags & HAS_DEAD != 0, 2)?;
    let unused = parts.take(flags & HAS_UNUSED != 0, 2)?;
    redirect(step.page, redirected)?;
    set_all(step.page, dead, LinePointer::DEAD)?;
    set_all(step.page, unused, LinePointer::UNUSED)?;
    if flags & MAY_MOVE != 0 && flags & (HAS_REDIRECTED | HAS_DEAD | HAS_UNUSED) != 0 {
        repair_fragmentation(step.page)?;
    } else if flags & HAS_UNUSED != 0 {
        truncate_line_pointers(step.page)?;
    }
    freeze_by_plans(step.page, plans, step.block.data, parts.at)
}

/// The counted parts of a record's data, one after the other.
struct Parts<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    /// The items of the next part, if it is there: a count, padded to the items' alignment, then the items.
    fn take(&mut self, is_there: bool, item_size: usize) -> Result<&'a [u8], Fault> {
        if !is_there {
            return Ok(&[]);
        }
        let len = usize::from(u16_at(self.data, self.at)?) * item_size;
        let from = self.at + if item_size == FREEZE_SIZE { 4 } else { 2 };
        self.at = from + len;
        slice_at(self.data, from, len)
    }
}
