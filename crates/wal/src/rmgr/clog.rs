//! `pg_xact` and `pg_commit_ts`: where a transaction's entry is, and which pages come and go.
//!
//! Follows `clog_redo` in `clog.c` and `commit_ts_redo` in `commit_ts.c`. A clog page has two bits a transaction, a
//! commit timestamp page ten bytes.
//!
//! ```text
//! ZEROPAGE           | page 4 or, from 17 on, 8 |
//! CLOG TRUNCATE      | page 4 or 8 | oldest xid 4 | its database 4 |
//! CommitTs TRUNCATE  | page 4 or 8 | oldest xid 4 |
//! ```
//!
//! Not here: which pages a commit touches (`xact`), what their bytes become (`redo`).

use types::{BLOCK_SIZE, SlruKind};

use crate::bytes::{u32_at, u64_at};
use crate::major::Major;
use crate::{BlockChange, Change, Record, WalError};

/// Transactions on one page of `pg_xact` (`CLOG_XACTS_PER_PAGE`).
pub const XACTS_PER_PAGE: u32 = BLOCK_SIZE as u32 * 4;
/// Transactions on one page of `pg_commit_ts` (`COMMIT_TS_XACTS_PER_PAGE`); 2 bytes at its end are unused.
pub const COMMIT_TS_PER_PAGE: u32 = BLOCK_SIZE as u32 / 10;

pub(crate) const ZERO_PAGE: u8 = 0x00;
pub(crate) const TRUNCATE: u8 = 0x10;

/// Reports what a `CLOG` or `CommitTs` record changes; both kinds have the same two types with the page in front.
pub(crate) fn changes<'a>(
    kind: SlruKind,
    major: &Major,
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    let page = || page_number(major, record);
    match record.op() {
        ZERO_PAGE => sink(Change::Slru { kind, page: page()?, how: BlockChange::Rebuilds }),
        TRUNCATE => sink(Change::SlruTruncated { kind, cutoff: page()? }),
        _ => return Err(record.unknown()),
    }
    Ok(())
}

/// The page number that `record`, which zeroes or truncates an SLRU, begins with.
pub(crate) fn page_number(major: &Major, record: &Record<'_>) -> Result<u32, WalError> {
    let page = match major.slru_page_bytes {
        8 => u64_at(record.main, 0).and_then(|page| u32::try_from(page).ok()),
        _ => u32_at(record.main, 0),
    };
    page.ok_or_else(|| record.malformed("no page number"))
}
