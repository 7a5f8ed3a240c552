//! WAL comes in: durable first, then acknowledged, then understood.
//!
//! Invariants
//! - What was acknowledged is on disk, whatever the record is; a record that cannot be understood stops reads above
//!   it, not the WAL.
//! - Only the branch's newest timeline is written; beginning one fences the others.
//! - Bytes sent again change nothing.

use std::sync::Arc;

use types::{Lsn, StateAt, TimelineId};

use crate::answer::{TailProgress, Unread};
use crate::branch::Branch;
use crate::branch::writer::BranchWriter;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::catch_up::{Retry, catch_up, room, take};
use crate::limits::PIECE_BYTES;
use crate::log::segments::Missing;
use crate::manifest::Position;
use crate::read::{cluster, walk};

/// Who is writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A running server: all it sends is WAL.
    Server,
    /// A directory a server left behind: its end is found by reading.
    Tail,
}

/// Takes WAL of a running server; durable up to the position returned.
pub(crate) fn append(
    core: &Core,
    branch: &Arc<Branch>,
    timeline: TimelineId,
    at: Lsn,
    bytes: &[u8],
) -> Result<Lsn> {
    let mut slot = branch.writer.lock();
    let writer = writable(branch, &mut slot, timeline)?;
    take_pieces(core, branch, writer, (at, bytes), Sender::Server)?;
    Ok(writer.durable)
}

/// Takes WAL that a crashed server left.
pub(crate) fn append_tail(
    core: &Core,
    branch: &Arc<Branch>,
    timeline: TimelineId,
    at: Lsn,
    bytes: &[u8],
) -> Result<TailProgress> {
    let mut slot = branch.writer.lock();
    let writer = writable(branch, &mut slot, timeline)?;
    let ended = take_pieces(core, branch, writer, (at, bytes), Sender::Tail)?;
    Ok(TailProgress { head: writer.framed(), ended })
}

fn writable<'a>(
    branch: &Branch,
    slot: &'a mut Option<BranchWriter>,
    timeline: TimelineId,
) -> Result<&'a mut BranchWriter> {
    let current = branch.timelines().last().map(|(timeline, _)| *timeline);
    match slot {
        Some(writer) if current == Some(timeline) => Ok(writer),
        _ => Err(StoreError::Fenced { branch: branch.id.clone(), timeline, current }),
    }
}

/// True if the log ended within `bytes`.
fn take_pieces(
    core: &Core,
    branch: &Arc<Branch>,
    writer: &mut BranchWriter,
    (at, bytes): (Lsn, &[u8]),
    sender: Sender,
) -> Result<bool> {
    if at > writer.durable {
        return Err(StoreError::Gap { branch: branch.id.clone(), expected: writer.durable, at });
    }
    if sender == Sender::Tail && writer.log_ended() {
        return Ok(true);
    }
    // Bytes of a running server that were no WAL: what it left in its directory says where its log ends.
    if sender == Sender::Tail && writer.is_broken() && !writer.is_torn() {
        return cut_tail(core, branch, writer).map(|()| true);
    }
    if writer.is_torn() {
        core.wal.truncate(&branch.id, writer.timeline_written()?, writer.durable)?;
        writer.clear_torn_end();
        branch.show(writer.stuck());
    }
    // What a fault that passed held up comes before what is sent now; if it cannot, the WAL is taken all the same.
    let _ = catch_up(core, branch, writer, Retry::Passing);
    let held = usize::try_from(writer.durable.bytes_since(at).unwrap_or(0)).unwrap_or(usize::MAX);
    for piece in bytes.get(held..).unwrap_or(&[]).chunks(PIECE_BYTES) {
        core.flushes.wait_for_room(branch)?;
        let room = room(core, branch, writer, piece.len())?;
        let begin = writer.durable;
        // Before, or an older process would write into what a newer one reads; and after, or it would acknowledge
        // what the newer one may not have found.
        core.manifests.check_epoch()?;
        core.wal.write(&branch.id, writer.timeline_written()?, begin, piece)?;
        core.manifests.check_epoch()?;
        writer.durable = begin.advanced(piece.len() as u64);
        if sender == Sender::Server {
            branch.publish(writer.durable);
        }
        take(core, branch, writer, begin, piece)?;
        drop(room);
        if !branch.view.read().frozen.is_empty() {
            core.flushes.submit(branch);
        }
        if sender == Sender::Tail && writer.is_broken() {
            return cut_tail(core, branch, writer).map(|()| true);
        }
        branch.publish(writer.durable);
    }
    Ok(false)
}

/// Forgets what follows the last whole record.
fn cut_tail(core: &Core, branch: &Branch, writer: &mut BranchWriter) -> Result<()> {
    let end = writer.framed();
    core.wal.truncate(&branch.id, writer.timeline_written()?, end)?;
    writer.end_log();
    branch.show(writer.stuck());
    branch.publish(end);
    Ok(())
}

/// Begins a timeline at the head and fences those before it. Gives its number and the state that it begins with.
pub(crate) fn begin_timeline(core: &Core, branch: &Arc<Branch>) -> Result<(TimelineId, StateAt)> {
    let mut slot = branch.writer.lock();
    let writer = slot.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    catch_up(core, branch, writer, Retry::Passing)?;
    if writer.is_torn() && !may_be_log(core, branch, writer)? {
        core.wal.truncate(&branch.id, writer.timeline_written()?, writer.durable)?;
        writer.clear_torn_end();
        branch.show(writer.stuck());
    }
    if let Some(stuck) = writer.stuck() {
        return Err(stuck.error(&branch.id, writer.framed()));
    }
    let head = writer.framed();
    if branch.view.read().head < head {
        let reason = "its newest records are not filed yet".to_owned();
        return Err(StoreError::Behind { branch: branch.id.clone(), at: branch.view.read().head, reason });
    }
    // Read first: once the timeline is listed its predecessor is fenced, and nothing may fail any more.
    let state = cluster::state_at(&core.wal, core.redo, branch, head)?;
    let timeline = push_timeline(core, branch, head)?;
    writer.begin(timeline, head);
    writer.durable = head;
    branch.publish(head);
    Ok((timeline, state))
}

/// False if what follows the last whole record cannot have been written there by this log: then nobody will send
/// it again.
fn may_be_log(core: &Core, branch: &Branch, writer: &BranchWriter) -> Result<bool> {
    let (timeline, end) = (writer.timeline_written()?, writer.framed());
    let extent = core.wal.extent(&branch.id, timeline)?.unwrap_or(end);
    let Some(len) = extent.bytes_since(end).and_then(|len| usize::try_from(len).ok()) else {
        return Ok(false);
    };
    if len > PIECE_BYTES {
        return Ok(true);
    }
    let mut bytes = vec![0; len];
    core.wal.read(&branch.id, timeline, end, &mut bytes, Missing::IsZeros)?;
    Ok(wal::may_follow(&core.wal.format(), timeline, (end, writer.last_record()), &bytes))
}

/// Lists a new timeline that begins at `begin`; those that began later are no longer listed.
fn push_timeline(core: &Core, branch: &Branch, begin: Lsn) -> Result<TimelineId> {
    let number = core.manifests.commit(|manifest| {
        let number = manifest.next_timeline;
        manifest.next_timeline = number.wrapping_add(1);
        let timelines = &mut manifest.branch_mut(&branch.id, branch.incarnation)?.timelines;
        timelines.retain(|(_, began)| began.0 <= begin);
        timelines.push((number, Position(begin)));
        Ok(number)
    })?;
    let timeline = TimelineId::new(number);
    branch.add_timeline(timeline, begin);
    Ok(timeline)
}

/// End of what the files of its newest timeline hold, whatever it is.
fn extent(core: &Core, branch: &Branch) -> Result<Lsn> {
    let Some((timeline, begin)) = branch.timelines().last().copied() else { return Ok(branch.start) };
    Ok(core.wal.extent(&branch.id, timeline)?.unwrap_or(begin).max(begin))
}

/// What is held and cannot be read, and why; `None` if there is nothing like that.
pub(crate) fn unread(core: &Core, branch: &Arc<Branch>) -> Result<Option<Unread>> {
    let mut slot = branch.writer.lock();
    let writer = slot.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    let _ = catch_up(core, branch, writer, Retry::Passing);
    let Some(stuck) = writer.stuck() else { return Ok(None) };
    let (state, framed, durable) = (writer.state().clone(), writer.framed(), writer.durable);
    drop(slot);
    let mut unread = Unread {
        at: state.lsn,
        reason: stuck.reason,
        lasting: stuck.lasting,
        held: extent(core, branch)?.max(durable),
        records: 0,
        transactions: 0,
        last_end: None,
    };
    // What is damaged ends the count.
    let _ = walk::count_records(&core.wal, branch, &state, framed, &mut |record| {
        unread.records += 1;
        if let Some((_, ended)) = wal::xact_time(record) {
            unread.transactions += 1;
            unread.last_end = unread.last_end.max(Some(ended));
        }
    });
    Ok(Some(unread))
}

/// Tries again to take what is held and could not be read, whatever the reason was.
pub(crate) fn retry(core: &Core, branch: &Arc<Branch>) -> Result<Lsn> {
    let mut slot = branch.writer.lock();
    let writer = slot.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    catch_up(core, branch, writer, Retry::Everything)?;
    match writer.stuck() {
        Some(stuck) => Err(stuck.error(&branch.id, writer.state().lsn)),
        None => Ok(writer.state().lsn),
    }
}

/// Ends the log at the last record that could be read, which must be at `at`: a timeline begins there, and what
/// is held of those before it is of no branch any more. The files stay.
pub(crate) fn end_log(core: &Core, branch: &Branch, at: Lsn) -> Result<()> {
    let mut slot = branch.writer.lock();
    let writer = slot.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    let head = writer.state().lsn;
    if writer.stuck().is_none() || head != at {
        return Err(StoreError::NotStuck { branch: branch.id.clone(), at, head });
    }
    let timeline = push_timeline(core, branch, head)?;
    writer.begin_at_head(timeline);
    branch.show(writer.stuck());
    branch.publish(head);
    Ok(())
}
