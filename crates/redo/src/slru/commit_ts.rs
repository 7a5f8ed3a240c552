//! `pg_commit_ts`: commit time and replication origin of each transaction, ten bytes.
//!
//! Follows `commit_ts_redo` and `TransactionTreeSetCommitTsData` in `commit_ts.c`. Whether the cluster keeps commit
//! timestamps at all is known to the one who lists the pages a commit touches (`wal`).

use wal::clog::COMMIT_TS_PER_PAGE;
use wal::{Record, RmgrId};

use crate::bytes::{Done, put, put_u16};
use crate::page::PageBytes;
use crate::slru::clog;
use crate::{Fault, RedoContext};

/// Bytes of one entry: time 8, origin 2.
const ENTRY_SIZE: usize = 10;

/// Applies a record to page `number` of `pg_commit_ts`.
pub(crate) fn apply(cx: &RedoContext, number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    match record.rmgr {
        RmgrId::COMMIT_TS => clog::zero(cx, number, page, record),
        RmgrId::XACT => set_times(cx, number, page, record),
        _ => Err(Fault::Untouched),
    }
}

fn set_times(cx: &RedoContext, number: u32, page: &mut PageBytes, record: &Record<'_>) -> Done {
    let xact = clog::parse_xact(cx, record)?;
    if !xact.kind.is_commit() {
        return Err(Fault::Untouched);
    }
    let time = xact.commit_ts().pg_us().to_le_bytes();
    for xid in xact.all_xids() {
        if xid.get() / COMMIT_TS_PER_PAGE == number {
            let at = (xid.get() % COMMIT_TS_PER_PAGE) as usize * ENTRY_SIZE;
            put(page, at, &time)?;
            put_u16(page, at + time.len(), xact.origin)?;
        }
    }
    Ok(())
}
