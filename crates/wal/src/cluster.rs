//! The cluster's state at each record boundary: what a checkpoint there would say.
//!
//! Follows `StartupXLOG`, `ApplyWalRecord`, `xlog_redo`, `xact_redo`, `multixact_redo`, `clog_redo`, `commit_ts_redo`.
//!
//! | field                     | changed by                                                                       |
//! |---------------------------|----------------------------------------------------------------------------------|
//! | next xid                  | every record's xid, subxids of commit, abort, prepare, assignment, members of     |
//! |                           | multixacts, running transactions; checkpoints: at least (online), exactly (else) |
//! | next OID                  | NEXTOID and shutdown checkpoints, exactly                                        |
//! | next multixact and offset | CREATE_ID; checkpoints as for the next xid                                       |
//! | oldest xid                | CLOG TRUNCATE, checkpoints                                                       |
//! | oldest multixact          | MultiXact TRUNCATE_ID, checkpoints                                               |
//! | commit timestamp range    | commits, CommitTs TRUNCATE, PARAMETER_CHANGE, shutdown checkpoints               |
//! | full page writes          | FPW_CHANGE, checkpoints                                                          |
//! | timeline                  | END_OF_RECOVERY, shutdown checkpoints                                            |
//! | limits                    | PARAMETER_CHANGE                                                                 |
//!
//! Not here: everything that is in a page (`interpret`).

use types::{ClusterState, TimelineId, Xid};

use crate::bytes::{i32_at, u8_at, u32_at};
use crate::major::{self, Major};
use crate::rmgr::multixact::{self, CreateId};
use crate::rmgr::xact::{self, ParsedXact};
use crate::rmgr::{clog, xlog};
use crate::{CheckPoint, RawRecord, Record, RmgrId, WalError, WalFormat};

const RUNNING_XACTS: u8 = 0x10;

/// Brings `state` from the boundary before `record` to the one after it.
///
/// # Errors
/// `Malformed` if the record is shorter than its fields; `Unsupported` if it turns `wal_level` to minimal.
pub fn advance(
    state: &mut ClusterState,
    format: &WalFormat,
    record: &Record<'_>,
    raw: &RawRecord<'_>,
) -> Result<(), WalError> {
    let major = major::of(format.major)
        .ok_or_else(|| WalError::Unsupported(format!("PostgreSQL {}", format.major)))?;
    next_xid_past(state, record.xid);
    let short = || record.malformed("shorter than its fields");
    match record.rmgr {
        RmgrId::XLOG => advance_xlog(state, record)?,
        RmgrId::XACT => advance_xact(state, major, record, raw)?,
        RmgrId::CLOG if record.op() == clog::TRUNCATE => {
            let (xid, database) = clog_truncate(major, record.main).ok_or_else(short)?;
            oldest_xid_at_least(state, xid, database);
        }
        RmgrId::COMMIT_TS if record.op() == clog::TRUNCATE => {
            let xid = Xid::new(u32_at(record.main, major.slru_page_bytes).ok_or_else(short)?);
            let oldest = Xid::new(state.oldest_commit_ts_xid);
            if oldest.get() != 0 && oldest.precedes(xid) {
                state.oldest_commit_ts_xid = xid.get();
            }
        }
        RmgrId::MULTIXACT => advance_multixact(state, record)?,
        RmgrId::STANDBY if record.op() == RUNNING_XACTS => {
            let next = u32_at(record.main, 12).ok_or_else(short)?;
            next_xid_past(state, Xid::new(next.wrapping_sub(1)));
        }
        _ => {}
    }
    state.lsn = raw.end;
    state.last_record = raw.start;
    Ok(())
}

/// Makes the next xid follow `xid` (`AdvanceNextFullTransactionIdPastXid`).
fn next_xid_past(state: &mut ClusterState, xid: Xid) {
    let next = Xid::new(state.next_xid as u32);
    if !xid.is_normal() || xid.precedes(next) {
        return;
    }
    let mut epoch = state.next_xid >> 32;
    let after = xid.get().wrapping_add(1).max(Xid::FIRST_NORMAL.get());
    if after < next.get() {
        epoch = epoch.wrapping_add(1);
    }
    state.next_xid = epoch << 32 | u64::from(after);
}

fn advance_xlog(state: &mut ClusterState, record: &Record<'_>) -> Result<(), WalError> {
    let short = || record.malformed("shorter than its fields");
    match record.op() {
        xlog::CHECKPOINT_SHUTDOWN => {
            believe(state, &CheckPoint::parse(record.main).ok_or_else(short)?);
        }
        xlog::CHECKPOINT_ONLINE => {
            at_least(state, &CheckPoint::parse(record.main).ok_or_else(short)?);
        }
        xlog::NEXT_OID => state.next_oid = u32_at(record.main, 0).ok_or_else(short)?,
        xlog::FPW_CHANGE => state.full_page_writes = u8_at(record.main, 0).ok_or_else(short)? != 0,
        xlog::END_OF_RECOVERY => {
            state.timeline = TimelineId::new(u32_at(record.main, 8).ok_or_else(short)?);
        }
        xlog::PARAMETER_CHANGE => {
            if let Some(limits) = xlog::parameter_change(record)? {
                commit_ts_switched(state, limits.track_commit_timestamp);
                state.limits = limits;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A shutdown checkpoint says everything exactly: nothing runs when it is written.
fn believe(state: &mut ClusterState, checkpoint: &CheckPoint) {
    state.timeline = checkpoint.timeline;
    state.full_page_writes = checkpoint.full_page_writes;
    state.next_xid = checkpoint.next_xid;
    state.next_oid = checkpoint.next_oid;
    state.next_multi = checkpoint.next_multi;
    state.next_multi_offset = checkpoint.next_multi_offset;
    state.oldest_xid = checkpoint.oldest_xid;
    state.oldest_xid_database = checkpoint.oldest_xid_database;
    state.oldest_multi = checkpoint.oldest_multi;
    state.oldest_multi_database = checkpoint.oldest_multi_database;
    state.oldest_commit_ts_xid = checkpoint.oldest_commit_ts_xid;
    state.newest_commit_ts_xid = checkpoint.newest_commit_ts_xid;
}

/// An online checkpoint was gathered while others went on: its counters are minimums, its next OID is stale.
fn at_least(state: &mut ClusterState, checkpoint: &CheckPoint) {
    state.full_page_writes = checkpoint.full_page_writes;
    state.next_xid = state.next_xid.max(checkpoint.next_xid);
    next_multi_at_least(state, checkpoint.next_multi, checkpoint.next_multi_offset);
    oldest_multi_at_least(state, checkpoint.oldest_multi, checkpoint.oldest_multi_database);
    oldest_xid_at_least(state, Xid::new(checkpoint.oldest_xid), checkpoint.oldest_xid_database);
}

/// Postgres's order of multixact ids and offsets, circular without special values (`MultiXactIdPrecedes`).
fn precedes(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn next_multi_at_least(state: &mut ClusterState, multi: u32, offset: u32) {
    if precedes(state.next_multi, multi) {
        state.next_multi = multi;
    }
    if precedes(state.next_multi_offset, offset) {
        state.next_multi_offset = offset;
    }
}

fn oldest_multi_at_least(state: &mut ClusterState, multi: u32, database: u32) {
    if precedes(state.oldest_multi, multi) {
        state.oldest_multi = multi;
        state.oldest_multi_database = database;
    }
}

fn oldest_xid_at_least(state: &mut ClusterState, xid: Xid, database: u32) {
    if Xid::new(state.oldest_xid).precedes(xid) {
        state.oldest_xid = xid.get();
        state.oldest_xid_database = database;
    }
}

/// `| page 4 or 8 | oldest xid 4 | its database 4 |`
fn clog_truncate(major: &Major, main: &[u8]) -> Option<(Xid, u32)> {
    let at = major.slru_page_bytes;
    Some((Xid::new(u32_at(main, at)?), u32_at(main, at + 4)?))
}

/// `track_commit_timestamp` becomes `on` (`CommitTsParameterChange`).
fn commit_ts_switched(state: &mut ClusterState, on: bool) {
    if !on {
        state.oldest_commit_ts_xid = 0;
        state.newest_commit_ts_xid = 0;
    } else if !state.limits.track_commit_timestamp && state.oldest_commit_ts_xid == 0 {
        state.oldest_commit_ts_xid = state.next_xid as u32;
        state.newest_commit_ts_xid = state.next_xid as u32;
    }
}

fn advance_xact(
    state: &mut ClusterState,
    major: &Major,
    record: &Record<'_>,
    raw: &RawRecord<'_>,
) -> Result<(), WalError> {
    let Some(xact) = ParsedXact::parse(major.number, record)? else {
        let newest = match xact::op(record) {
            xact::PREPARE => prepared_latest(record.main),
            xact::ASSIGNMENT => assigned_latest(record.main),
            _ => return Ok(()),
        };
        next_xid_past(state, newest.ok_or_else(|| record.malformed("shorter than its fields"))?);
        return Ok(());
    };
    next_xid_past(state, xact::latest(xact.xid, xact.subxids()));
    state.latest_xact_time = state.latest_xact_time.max(Some(xact.time));
    if xact.kind.is_commit() {
        state.last_commit = Some((xact.time, raw.end));
        if state.limits.track_commit_timestamp {
            let newest = xact.subxids().last().unwrap_or(xact.xid);
            if Xid::new(state.newest_commit_ts_xid).precedes(newest) {
                state.newest_commit_ts_xid = newest.get();
            }
        }
    }
    Ok(())
}

/// `| subtransactions' top 4 | n 4 | subxid 4 * n |`
fn assigned_latest(main: &[u8]) -> Option<Xid> {
    latest_of(Xid::new(u32_at(main, 0)?), main.get(8..)?, i32_at(main, 4)?)
}

/// The subtransactions of a prepared transaction follow its 72 bytes of header and its name, each 8-aligned.
fn prepared_latest(main: &[u8]) -> Option<Xid> {
    const HEADER: usize = 72;
    let name = usize::from(crate::bytes::u16_at(main, 54)?).next_multiple_of(8);
    latest_of(Xid::new(u32_at(main, 8)?), main.get(HEADER + name..)?, i32_at(main, 28)?)
}

fn latest_of(top: Xid, bytes: &[u8], count: i32) -> Option<Xid> {
    let subxids = bytes.get(..usize::try_from(count).ok()?.checked_mul(4)?)?;
    let subxids = subxids.chunks_exact(4).map(|raw| Xid::new(u32_at(raw, 0).unwrap_or(0)));
    Some(xact::latest(top, subxids))
}

fn advance_multixact(state: &mut ClusterState, record: &Record<'_>) -> Result<(), WalError> {
    if let Some(create) = CreateId::parse(record)? {
        next_multi_at_least(state, create.multi.wrapping_add(1), create.end_offset());
        next_xid_past(state, xact::latest(record.xid, create.members().map(|(xid, _)| xid)));
    } else if record.op() == multixact::TRUNCATE_ID {
        let field = |at| u32_at(record.main, at).ok_or_else(|| record.malformed("shorter than its fields"));
        // `SetMultiXactIdLimit` takes the record at its word.
        (state.oldest_multi_database, state.oldest_multi) = (field(0)?, field(8)?);
    }
    Ok(())
}
