//! `pg_multixact`: where each multixact's members begin, and the members.
//!
//! Follows `multixact_redo` and `RecordNewMultiXact` in `multixact.c`, as of the minor releases that also store where
//! the next multixact will begin (15.16 and later).
//!
//! ```text
//!  offsets page: 2048 x [offset 4]
//!  members page:  409 x [flags 4 x 1 | xid 4 x 4], 12 bytes unused
//! ```

use wal::multixact::{CreateId, MEMBERS_PER_PAGE, OFFSETS_PER_PAGE};
use wal::{Record, RmgrId};

use crate::bytes::{Done, put_u32};
use crate::page::PageBytes;
use crate::{Fault, bytes, clog};

const ZERO_OFFSETS_PAGE: u8 = 0x00;
const ZERO_MEMBERS_PAGE: u8 = 0x10;
const CREATE_ID: u8 = 0x20;

/// Members in one group.
const GROUP_MEMBERS: u32 = 4;
/// Bytes of one group: a flag byte for each member, then their transaction ids.
const GROUP_SIZE: usize = 20;

/// Applies a record to page `number` of `pg_multixact/offsets`.
pub(crate) fn apply_offsets(number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    if !is_create(record)? {
        return clog::zero(number, page, record, ZERO_OFFSETS_PAGE);
    }
    let created = parse(record)?;
    for (multi, offset) in [(created.multi, created.offset), (created.next_multi(), created.next_offset())] {
        if multi / OFFSETS_PER_PAGE == number {
            put_u32(page, (multi % OFFSETS_PER_PAGE) as usize * 4, offset)?;
        }
    }
    Ok(())
}

/// Applies a record to page `number` of `pg_multixact/members`.
pub(crate) fn apply_members(number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    if !is_create(record)? {
        return clog::zero(number, page, record, ZERO_MEMBERS_PAGE);
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
