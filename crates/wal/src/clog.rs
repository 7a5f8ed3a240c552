//! `pg_xact` and `pg_commit_ts`: where a transaction's entry is, and which pages come and go.
//!
//! Follows `clog_redo` in `clog.c` and `commit_ts_redo` in `commit_ts.c`. A clog page has two bits a transaction, a
//! commit timestamp page ten bytes.
//!
//! Not here: which pages a commit touches (`xact`), what their bytes become (`redo`).

use types::{BLOCK_SIZE, SlruKind};

use crate::bytes::u32_at;
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
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    let page = || u32_at(record.main, 0).ok_or_else(|| record.malformed("no page number"));
    match record.op() {
        ZERO_PAGE => sink(Change::Slru { kind, page: page()?, how: BlockChange::Rebuilds }),
        TRUNCATE => sink(Change::SlruTruncated { kind, cutoff: page()? }),
        _ => return Err(record.unknown()),
    }
    Ok(())
}
