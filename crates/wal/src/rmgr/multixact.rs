//! Multixact records: which pages of the offsets and members areas they touch.
//!
//! Follows `multixact_redo` and `RecordNewMultiXact` in `multixact.c` of 15.18: besides its own offset a new multixact
//! sets that of the next one, which may be on the next page. Minors before 15.16, 16.12, 17.8 and 18.2 zero that page
//! only when they make the next one; zeroing an offsets page therefore keeps its first entry. Members are in groups of four on 20 bytes, 409 groups a
//! page.
//!
//! ```text
//! CREATE_ID    | multi 4 | offset 4 | n 4 | (xid 4, status 4) * n |
//! ZERO_*       | page 4 or, from 17 on, 8 |
//! TRUNCATE_ID  | db 4 | first multi 4 | end multi 4 | first member 4 | end member 4 |
//! ```
//!
//! Not here: the bytes of those pages (`redo`).

use types::{BLOCK_SIZE, SlruKind, Xid};

use crate::bytes::{i32_at, u32_at};
use crate::major::Major;
use crate::rmgr::clog::page_number;
use crate::{BlockChange, Change, Record, RmgrId, WalError};

/// Multixacts on one page of `pg_multixact/offsets` (`MULTIXACT_OFFSETS_PER_PAGE`).
pub const OFFSETS_PER_PAGE: u32 = BLOCK_SIZE as u32 / 4;
/// Members on one page of `pg_multixact/members` (`MULTIXACT_MEMBERS_PER_PAGE`).
pub const MEMBERS_PER_PAGE: u32 = BLOCK_SIZE as u32 / 20 * 4;
/// The first multixact id ever given (`FirstMultiXactId`).
pub const FIRST_MULTI: u32 = 1;

const ZERO_OFFSETS_PAGE: u8 = 0x00;
const ZERO_MEMBERS_PAGE: u8 = 0x10;
pub(crate) const CREATE_ID: u8 = 0x20;
pub(crate) const TRUNCATE_ID: u8 = 0x30;

/// A new multixact, `XLOG_MULTIXACT_CREATE_ID`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateId<'a> {
    /// The multixact.
    pub multi: u32,
    /// Where its members begin in the members area.
    pub offset: u32,
    members: &'a [u8],
}

impl<'a> CreateId<'a> {
    /// Takes `record` apart; `None` if it does not create a multixact.
    ///
    /// # Errors
    /// `Malformed` if it is shorter than its members.
    pub fn parse(record: &Record<'a>) -> Result<Option<Self>, WalError> {
        if record.rmgr != RmgrId::MULTIXACT || record.op() != CREATE_ID {
            return Ok(None);
        }
        let body = || {
            let members = usize::try_from(i32_at(record.main, 8)?).ok()?.checked_mul(8)?;
            Some(Self {
                multi: u32_at(record.main, 0)?,
                offset: u32_at(record.main, 4)?,
                members: record.main.get(12..)?.get(..members)?,
            })
        };
        body().map(Some).ok_or_else(|| record.malformed("shorter than its members"))
    }

    /// Each member: its transaction and its status (`MultiXactStatus`).
    pub fn members(&self) -> impl ExactSizeIterator<Item = (Xid, u32)> + 'a {
        self.members
            .chunks_exact(8)
            .map(|raw| (Xid::new(u32_at(raw, 0).unwrap_or(0)), u32_at(raw, 4).unwrap_or(0)))
    }

    /// How many members it has.
    pub fn member_count(&self) -> u32 {
        u32::try_from(self.members.len() / 8).unwrap_or(u32::MAX)
    }

    /// The multixact that will be created next; ids start again at `FIRST_MULTI`.
    pub fn next_multi(&self) -> u32 {
        self.multi.wrapping_add(1).max(FIRST_MULTI)
    }

    /// The offset to store for `next_multi`: the end of these members; 0 means "not set", so 1 stands for it.
    pub fn next_offset(&self) -> u32 {
        self.end_offset().max(1)
    }

    /// The end of these members, 0 after the wrap.
    pub fn end_offset(&self) -> u32 {
        self.offset.wrapping_add(self.member_count())
    }
}

/// Reports what a `MultiXact` record changes.
pub(crate) fn changes<'a>(
    major: &Major,
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    let field = |at| u32_at(record.main, at).ok_or_else(|| record.malformed("shorter than its fields"));
    match record.op() {
        ZERO_OFFSETS_PAGE => {
            // Not from nothing: in WAL of older minors the page's first entry is set before the page is zeroed.
            let (kind, page) = (SlruKind::MultiXactOffsets, page_number(major, record)?);
            sink(Change::Slru { kind, page, how: BlockChange::Modifies });
        }
        ZERO_MEMBERS_PAGE => {
            let (kind, page) = (SlruKind::MultiXactMembers, page_number(major, record)?);
            sink(Change::Slru { kind, page, how: BlockChange::Rebuilds });
        }
        CREATE_ID => created(&CreateId::parse(record)?.ok_or_else(|| record.unknown())?, sink),
        TRUNCATE_ID => {
            let members = field(16)? / MEMBERS_PER_PAGE;
            sink(Change::SlruTruncated { kind: SlruKind::MultiXactMembers, cutoff: members });
            let offsets = previous_multi(field(8)?) / OFFSETS_PER_PAGE;
            sink(Change::SlruTruncated { kind: SlruKind::MultiXactOffsets, cutoff: offsets });
        }
        _ => return Err(record.unknown()),
    }
    Ok(())
}

/// Postgres steps back one so as not to name a page that is not made yet (`PerformOffsetsTruncation`).
fn previous_multi(multi: u32) -> u32 {
    if multi == FIRST_MULTI { u32::MAX } else { multi.wrapping_sub(1) }
}

fn created<'a>(create: &CreateId<'_>, sink: &mut dyn FnMut(Change<'a>)) {
    let mut report = |kind, page| sink(Change::Slru { kind, page, how: BlockChange::Modifies });
    let page = create.multi / OFFSETS_PER_PAGE;
    report(SlruKind::MultiXactOffsets, page);
    let next = create.next_multi() / OFFSETS_PER_PAGE;
    if next != page {
        report(SlruKind::MultiXactOffsets, next);
    }
    let mut left = create.member_count();
    let mut offset = create.offset;
    while left > 0 {
        report(SlruKind::MultiXactMembers, offset / MEMBERS_PER_PAGE);
        let to_page_end = MEMBERS_PER_PAGE - offset % MEMBERS_PER_PAGE;
        let to_wrap = (u32::MAX - offset).saturating_add(1);
        let step = left.min(to_page_end).min(to_wrap);
        left -= step;
        offset = offset.wrapping_add(step);
    }
}
