//! What is held becomes readable: records are filed as they come, and again from the WAL files if they could not be then.
//!
//! Invariants
//! - A record that could not be filed is not consumed. It and those after it are filed later, from the WAL files.
//! - What a passing fault held up is tried again with every append and every question; what only another program or
//!   a person can mend is tried again at the next open and when asked (`Retry::Everything`).
//!
//! Not here: what a record does (`filing`), where the log ends (`branch::writer`), durability of the WAL (`append`).

use std::sync::Arc;

use types::{Lsn, TimelineId};
use wal::RecordReader;

use crate::branch::filed::Filed;
use crate::branch::view::{Stuck, View};
use crate::branch::writer::BranchWriter;
use crate::branch::{Branch, lineage};
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::filing::Filing;
use crate::limits::{FROZEN_AT_OPEN_MAX, REPLAY_BYTES};
use crate::log::segments::Missing;
use crate::memory::{Charge, room};

/// Which faults are worth another attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Those that pass by themselves.
    Passing,
    /// All: a person asked.
    Everything,
}

/// What files records of `branch` where `filed` is.
fn filing<'a>(core: &Core, branch: &'a Branch, filed: &'a mut Filed) -> Filing<'a> {
    let (format, redo, memtable_bytes) = (core.wal.format(), core.redo, core.options.memtable_bytes);
    Filing { format, redo, memtable_bytes, branch, filed }
}

/// Takes the bytes at `at`, which follow what was taken before. Whatever becomes of them, the writer's `stuck` and `framed`
/// say it.
///
/// # Errors
/// `Fenced` if no timeline is being written.
pub(crate) fn take(
    core: &Core,
    branch: &Branch,
    writer: &mut BranchWriter,
    at: Lsn,
    bytes: &[u8],
) -> Result<()> {
    if !writer.take(at, bytes, &mut |filed, raw| filing(core, branch, filed).record(raw)) {
        let timeline = TimelineId::new(0);
        return Err(StoreError::Fenced { branch: branch.id.clone(), timeline, current: None });
    }
    writer.filed.count(&branch.view);
    branch.show(writer.stuck());
    Ok(())
}

/// Sets memory aside for `bytes` of WAL that are about to be taken. If there is none the branch's own memtable is frozen:
/// nobody who waits holds what cannot be written.
pub(crate) fn room(
    core: &Core,
    branch: &Arc<Branch>,
    writer: &mut BranchWriter,
    bytes: usize,
) -> Result<Charge> {
    if let Some(room) = room::take(core, &branch.id, bytes)? {
        return Ok(room);
    }
    writer.filed.freeze(&branch.view);
    core.flushes.submit(branch);
    room::wait(core, &branch.id, bytes)
}

/// Takes what the WAL files hold of the current timeline from `begin` to `end`.
pub(crate) fn replay(
    core: &Core,
    branch: &Arc<Branch>,
    writer: &mut BranchWriter,
    begin: Lsn,
    end: Lsn,
) -> Result<()> {
    let mut at = begin;
    while at < end && !writer.has_damage() {
        // What cannot be filed for want of room is still looked through for its end.
        let room = if writer.behind.is_none() { Some(make_room(core, branch, writer)) } else { None };
        let room = room.transpose().map_err(|error| writer.behind = Some(Stuck::on(&error)));
        let to = at.advanced(REPLAY_BYTES).min(end);
        let mut bytes = vec![0; usize::try_from(to.bytes_since(at).unwrap_or(0)).unwrap_or(0)];
        core.wal.read(&branch.id, writer.timeline_written()?, at, &mut bytes, Missing::IsZeros)?;
        take(core, branch, writer, at, &bytes)?;
        drop(room);
        at = to;
    }
    Ok(())
}

/// Files the records that could not be filed when they came, if that is worth trying.
///
/// # Errors
/// `Stuck` or `Behind` if some are still not filed.
pub(crate) fn catch_up(
    core: &Core,
    branch: &Arc<Branch>,
    writer: &mut BranchWriter,
    retry: Retry,
) -> Result<()> {
    let Some(stuck) = writer.behind.clone() else { return Ok(()) };
    let outcome = if stuck.lasting && retry == Retry::Passing {
        Err(stuck)
    } else {
        file_held(core, branch, writer).map_err(|error| Stuck::on(&error))
    };
    writer.behind = outcome.err();
    branch.show(writer.stuck());
    writer.behind.as_ref().map_or(Ok(()), |stuck| Err(stuck.error(&branch.id, writer.state().lsn)))
}

fn file_held(core: &Core, branch: &Arc<Branch>, writer: &mut BranchWriter) -> Result<()> {
    let expected = writer.framed();
    let (from, mut prev) = (writer.state().lsn, Some(writer.state().last_record));
    for (timeline, begin, end) in branch.spans(from, expected) {
        let mut reader = RecordReader::new(core.wal.format(), timeline, begin, prev.take());
        let mut at = begin;
        while at < end {
            let room = make_room(core, branch, writer)?;
            let to = at.advanced(REPLAY_BYTES).min(end);
            reader.feed(at, &lineage::read_wal(&core.wal, branch, at, to)?)?;
            at = to;
            while let Some(raw) = reader.next_record()? {
                filing(core, branch, &mut writer.filed).record(&raw)?;
            }
            writer.filed.count(&branch.view);
            drop(room);
        }
        prev = Some(writer.state().last_record);
    }
    let found = writer.state().lsn;
    if found == expected {
        return Ok(());
    }
    let reason = format!("its records end at {found}, not at {expected} as when they came");
    Err(StoreError::corrupt(format!("the WAL of branch {}", branch.id), found.raw(), reason))
}

/// Waits until few memtables of `branch` wait for the disk, and until there is memory for as much as is read at once. A
/// memtable that cannot be written is left for later, as long as there are not many.
fn make_room(core: &Core, branch: &Arc<Branch>, writer: &mut BranchWriter) -> Result<Charge> {
    if !branch.view.read().frozen.is_empty() {
        core.flushes.submit(branch);
        if let Err(error) = core.flushes.wait_for_room(branch)
            && branch.view.read().frozen.len() >= FROZEN_AT_OPEN_MAX
        {
            return Err(error);
        }
    }
    room(core, branch, writer, REPLAY_BYTES as usize)
}

/// Waits for the writer and files what a fault that passed held up; nothing of what is held is said.
pub(crate) fn bring_up_to_date(core: &Core, branch: &Arc<Branch>) {
    // What is durable may be on its way into the memtable: the writer has it.
    if let Some(writer) = branch.writer.lock().as_mut() {
        // Why not is in the view.
        let _ = catch_up(core, branch, writer, Retry::Passing);
    }
}

/// Refuses positions that this branch cannot answer.
///
/// # Errors
/// `BeforeStart`; `Stuck`, `Behind` or `Ahead` beyond the head.
pub(crate) fn check_position(core: &Core, branch: &Arc<Branch>, asked: Lsn) -> Result<()> {
    if asked < branch.start {
        return Err(StoreError::BeforeStart {
            branch: branch.id.clone(),
            asked,
            start: branch.start,
            parent: branch.origin.clone(),
        });
    }
    let ahead = |view: &View| asked > view.head;
    if !ahead(&branch.view.read()) {
        return Ok(());
    }
    bring_up_to_date(core, branch);
    let view = branch.view.read();
    if !ahead(&view) {
        return Ok(());
    }
    match &view.stuck {
        Some(stuck) if asked <= branch.durable() => Err(stuck.error(&branch.id, view.head)),
        _ => Err(StoreError::Ahead { branch: branch.id.clone(), asked, head: view.head }),
    }
}
