//! One record to the keys it changes.
//!
//! Most records change just the blocks they reference. The others are special: they end transactions, cut files, copy
//! databases, or change a page they do not reference. Each of those has a file of its own here.
//!
//! Invariants
//! - A key is reported once per record.
//! - A record type of Postgres itself that is not known is an error; one of an extension makes its blocks unreadable.
//! - Blocks of the free space map are dropped; so is a hint's block without an image, which changes nothing.
//!
//! Not here: counters that belong to no key (`cluster`).

use types::{Fork, Lsn, SlruKind};

use crate::major::{self, Major};
use crate::rmgr::{clog, dbase, heap_vm, multixact, origin, relmap, smgr, xact, xlog};
use crate::{BlockChange, BlockRef, Change, Record, RmgrId, WalError, WalFormat};

/// What the meaning of a record depends on besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterpretContext {
    /// The cluster's WAL.
    pub format: WalFormat,
    /// Whether commits are recorded in `pg_commit_ts`: `ClusterState::limits.track_commit_timestamp` before the
    /// record.
    pub track_commit_timestamp: bool,
}

/// Reports every change that `record`, which ends at `end`, makes. Each key is reported at most once.
///
/// The length of a visibility map after a truncation is the most it may have; a map that was shorter, or absent, is
/// reported as cut all the same, and its last page as modified.
///
/// # Errors
/// `Unknown` for a record type of Postgres itself that this version does not know, `Malformed` if the record is
/// shorter than its fields, `Unsupported` if it turns `wal_level` to minimal.
pub fn interpret<'a>(
    cx: &InterpretContext,
    record: &Record<'a>,
    end: Lsn,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    // The end is the version of every change; the caller, who files them, has it too.
    let _ = end;
    let major = major::of(cx.format.major).ok_or_else(|| {
        let (found, supported) = (cx.format.major, major::supported());
        WalError::Unsupported(format!("PostgreSQL {found}; supported are {supported}"))
    })?;
    if record.rmgr.0 >= RmgrId::FIRST_CUSTOM.0 {
        sink(Change::Extension { rmgr: record.rmgr.0 });
        for block in served(record) {
            sink(Change::Unreadable { rel: block.rel, block: block.block, rmgr: record.rmgr.0 });
        }
        return Ok(());
    }
    if !major.knows(record.rmgr, record.op()) {
        return Err(record.unknown());
    }
    referenced(record, sink)?;
    special(cx, major, record, sink)
}

fn served<'r, 'a>(record: &'r Record<'a>) -> impl Iterator<Item = &'r BlockRef<'a>> {
    record.blocks().filter(|block| block.rel.fork != Fork::FreeSpace)
}

fn referenced<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let (hint, image) = match (record.rmgr, record.op()) {
        (RmgrId::XLOG, xlog::FPI_FOR_HINT) => (true, false),
        (RmgrId::XLOG, xlog::FPI) => (false, true),
        _ => (false, false),
    };
    for block in served(record) {
        let how = if block.rebuilds_page() { BlockChange::Rebuilds } else { BlockChange::Modifies };
        if how == BlockChange::Modifies && hint {
            continue;
        }
        if how == BlockChange::Modifies && image {
            return Err(record.malformed("a full-page image record without its image"));
        }
        sink(Change::Block { rel: block.rel, block: block.block, how });
    }
    Ok(())
}

fn special<'a>(
    cx: &InterpretContext,
    major: &Major,
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    match record.rmgr {
        RmgrId::HEAP | RmgrId::HEAP2 => heap_vm::changes(record, sink),
        RmgrId::XACT => xact::changes(cx, major, record, sink),
        RmgrId::XLOG => xlog::parameter_change(record).map(|_| ()),
        RmgrId::SMGR => smgr::changes(record, sink),
        RmgrId::CLOG => clog::changes(SlruKind::Clog, major, record, sink),
        RmgrId::COMMIT_TS => clog::changes(SlruKind::CommitTs, major, record, sink),
        RmgrId::DBASE => dbase::changes(record, sink),
        RmgrId::TBLSPC => dbase::tablespace_changes(record, sink),
        RmgrId::MULTIXACT => multixact::changes(major, record, sink),
        RmgrId::RELMAP => relmap::changes(major, record, sink),
        RmgrId::REPLORIGIN => origin::changes(record, sink),
        _ => Ok(()),
    }
}
