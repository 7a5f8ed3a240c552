//! `pg_xact`: two bits a transaction.
//!
//! Follows `clog_redo` and `TransactionIdSetTreeStatus` in `clog.c`. Replay passes through "sub-committed" when a
//! commit spans pages; the state after the record is the same without it. SLRU pages have no LSN: applying a record
//! twice gives what applying it once gives.

use wal::clog::XACTS_PER_PAGE;
use wal::{ParsedXact, Record, RmgrId};

use crate::bytes::{Done, array_at, array_at_mut, u32_at};
use crate::page::PageBytes;
use crate::{Fault, RedoContext};

const ZERO_PAGE: u8 = 0x00;
const COMMITTED: u8 = 0x01;
const ABORTED: u8 = 0x02;
const STATUS_BITS: u8 = 0x03;

/// Applies a record to page `number` of `pg_xact`.
pub(crate) fn apply(cx: &RedoContext, number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    match record.rmgr {
        RmgrId::CLOG => zero(cx, number, page, record),
        RmgrId::XACT => set_status(cx, number, page, record),
        _ => Err(Fault::Untouched),
    }
}

/// Zeroes the page, if `record` is of type `ZERO_PAGE` and names it.
pub(crate) fn zero(cx: &RedoContext, number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    check_zeroed(cx, number, record, ZERO_PAGE)?;
    page.fill(0);
    Ok(())
}

/// Ok if `record` is of type `op` and names page `number`: in 4 bytes, from 17 on in 8.
pub(crate) fn check_zeroed(cx: &RedoContext, number: u32, record: &Record<'_>, op: u8) -> Done {
    if record.op() != op {
        return Err(Fault::Untouched);
    }
    let named = match cx.major {
        ..17 => u64::from(u32_at(record.main, 0)?),
        _ => u64::from_le_bytes(array_at(record.main, 0)?),
    };
    if named == u64::from(number) { Ok(()) } else { Err(Fault::Untouched) }
}

/// The commit or abort that `record` is.
pub(crate) fn parse_xact<'r>(cx: &RedoContext, record: &Record<'r>) -> Result<ParsedXact<'r>, Fault> {
    let parsed = ParsedXact::parse(cx.major, record);
    parsed.map_err(|_| Fault::Malformed("its parts do not fit"))?.ok_or(Fault::Untouched)
}

fn set_status(cx: &RedoContext, number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    let xact = parse_xact(cx, record)?;
    let status = if xact.kind.is_commit() { COMMITTED } else { ABORTED };
    for xid in xact.all_xids() {
        if xid.get() / XACTS_PER_PAGE == number {
            let in_page = xid.get() % XACTS_PER_PAGE;
            let shift = in_page % 4 * 2;
            let [byte] = array_at_mut::<1>(page, (in_page / 4) as usize)?;
            *byte = *byte & !(STATUS_BITS << shift) | status << shift;
        }
    }
    Ok(())
}
