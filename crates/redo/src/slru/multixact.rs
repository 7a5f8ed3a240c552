//! `pg_multixact`: where each multixact's members begin, and the members.
//!
//! Follows `multixact_redo` and `RecordNewMultiXact` in `multixact.c`, as of the minor releases that also store where
//! the next multixact will begin (15.16, 16.12, 17.8, 18.2 and later). In WAL of older ones, a new offsets page is zeroed
//! after its first entry was set from the page before it; zeroing leaves that entry alone. In WAL of newer ones the page
//! is zeroed first and the entry is zero.
//!
//! ```text
//!  offsets page: 2048 x [offset 4]
//!  members page:  409 x [flags 4 x 1 | xid 4 x 4], 12 bytes unused
//! ```

use wal::multixact::{CreateId, FIRST_MULTI, MEMBERS_PER_PAGE, OFFSETS_PER_PAGE};
use wal::{Record, RmgrId};

use crate::bytes::{Done, put_u32};
use crate::page::PageBytes;
use crate::slru::clog;
use crate::{Fault, RedoContext, bytes};

const ZERO_OFFSETS_PAGE: u8 = 0x00;
const ZERO_MEMBERS_PAGE: u8 = 0x10;
const CREATE_ID: u8 = 0x20;

/// Members in one group.
const GROUP_MEMBERS: u32 = 4;
/// Bytes of one group: a flag byte for each member, then their transaction ids.
const GROUP_SIZE: usize = 20;

/// Applies a record to page `number` of `pg_multixact/offsets`.
pub(crate) fn apply_offsets(
    cx: &RedoContext,
    number: u32,
    page: &mut PageBytes,
    record: &Record<'_>,
) -> Done {
    if !is_create(record)? {
        clog::check_zeroed(cx, number, record, ZERO_OFFSETS_PAGE)?;
        return zero_but_first(number, page);
    }
    let created = parse(record)?;
    for (multi, offset) in [(created.multi, created.offset), (created.next_multi(), created.next_offset())] {
        if multi / OFFSETS_PER_PAGE == number {
            put_u32(page, (multi % OFFSETS_PER_PAGE) as usize * 4, offset)?;
        }
    }
    Ok(())
}

/// Zeroes an offsets page but for the entry of its first multixact.
fn zero_but_first(number: u32, page: &mut PageBytes) -> Done {
    let at = if number == 0 { FIRST_MULTI as usize * 4 } else { 0 };
    let first: [u8; 4] = bytes::array_at(page, at)?;
    page.fill(0);
    bytes::put(page, at, &first)
}

/// Applies a record to page `number` of `pg_multixact/members`.
pub(crate) fn apply_members(
    cx: &RedoContext,
    number: u32,
    page: &mut PageBytes,
    record: &Record<'_>,
) -> Done {
    if !is_create(record)? {
        clog::check_zeroed(cx, number, record, ZERO_MEMBERS_PAGE)?;
        page.fill(0);
        return Ok(());
    }
    let created = parse(record)?;
    for (index, (xid, status)) in (0u32..).zip(created.members()) {
        let offset = created.offset.wrapping_add(index);
        if offset / MEMBERS_PER_PAGE == number {
            let in_page = offset % MEMBERS_PER_PAGE;
            let group = (in_page / GROUP_MEMBERS) as usize * GROUP_SIZE;
            let member = (in_page % GROUP_MEMBERS) as usize;
            bytes::put(page, group + member, &[status as u8])?;
            put_u32(page, group + 4 + member * 4, xid.get())?;
        }
    }
    Ok(())
}

fn is_create(record: &Record<'_>) -> Result<bool, Fault> {
    if record.rmgr == RmgrId::MULTIXACT { Ok(record.op() == CREATE_ID) } else { Err(Fault::Untouched) }
}

fn parse<'r>(record: &Record<'r>) -> Result<CreateId<'r>, Fault> {
    CreateId::parse(record).map_err(|_| Fault::Malformed("shorter than its members"))?.ok_or(Fault::Untouched)
}
