//! WAL comes in: durable first, then acknowledged, then understood.
//!
//! Invariants
//! - What was acknowledged is on disk, whatever the record is; a record that cannot be understood stops reads above
//!   it, not the WAL.
//! - Only the branch's newest timeline is written; beginning one fences the others.
//! - Bytes sent again change nothing.

use std::sync::Arc;

use types::{Lsn, TimelineId};

use crate::answer::{StateAt, TailProgress, Unread};
use crate::branch::Branch;
use crate::branch::tip::Tip;
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
    Remains,
}

/// Takes WAL of a running server; durable up to the position returned.
pub(crate) fn append(
    core: &Core,
    branch: &Arc<Branch>,
    timeline: TimelineId,
    at: Lsn,
    bytes: &[u8],
) -> Result<Lsn> {
    let mut writer = branch.writer.lock();
    let tip = writable(branch, &mut writer, timeline)?;
    take_pieces(core, branch, tip, (at, bytes), Sender::Server)?;
    Ok(tip.durable)
}

/// Takes WAL that a crashed server left.
pub(crate) fn append_tail(
    core: &Core,
    branch: &Arc<Branch>,
    timeline: TimelineId,
    at: Lsn,
    bytes: &[u8],
) -> Result<TailProgress> {
    let mut writer = branch.writer.lock();
    let tip = writable(branch, &mut writer, timeline)?;
    let ended = take_pieces(core, branch, tip, (at, bytes), Sender::Remains)?;
    Ok(TailProgress { head: tip.framed(), ended })
}

fn writable<'a>(branch: &Branch, writer: &'a mut Option<Tip>, timeline: TimelineId) -> Result<&'a mut Tip> {
    let current = branch.timelines().last().map(|(timeline, _)| *timeline);
    match writer {
        Some(tip) if current == Some(timeline) => Ok(tip),
        _ => Err(StoreError::Fenced { branch: branch.id.clone(), timeline, current }),
    }
}

/// True if the log ended within `bytes`.
fn take_pieces(
    core: &Core,
    branch: &Arc<Branch>,
    tip: &mut Tip,
    (at, bytes): (Lsn, &[u8]),
    sender: Sender,
) -> Result<bool> {
    if at > tip.durable {
        return Err(StoreError::Gap { branch: branch.id.clone(), expected: tip.durable, at });
    }
    if sender == Sender::Remains && tip.log_ended() {
        return Ok(true);
    }
    // Bytes of a running server that were no WAL: what it left in its directory says where its log ends.
    if sender == Sender::Remains && tip.is_broken() && !tip.is_torn() {
        return cut_tail(core, branch, tip).map(|()| true);
    }
    if tip.is_torn() {
        core.wal.truncate(&branch.id, tip.timeline_written()?, tip.durable)?;
        tip.mend();
        branch.show(tip.stuck());
    }
    // What a fault that passed held up comes before what is sent now; if it cannot, the WAL is taken all the same.
    let _ = catch_up(core, branch, tip, Retry::Passing);
    let held = usize::try_from(tip.durable.bytes_since(at).unwrap_or(0)).unwrap_or(usize::MAX);
    for piece in bytes.get(held..).unwrap_or(&[]).chunks(PIECE_BYTES) {
        core.flushes.wait_for_room(branch)?;
        let room = room(core, branch, tip, piece.len())?;
        let begin = tip.durable;
        // Before, or an older process would write into what a newer one reads; and after, or it would acknowledge
        // what the newer one may not have found.
        core.manifests.check_epoch()?;
        core.wal.write(&branch.id, tip.timeline_written()?, begin, piece)?;
        core.manifests.check_epoch()?;
        tip.durable = begin.advanced(piece.len() as u64);
        if sender == Sender::Server {
            branch.publish(tip.durable);
        }
        take(core, branch, tip, begin, piece)?;
        drop(room);
        if !branch.view.read().frozen.is_empty() {
            core.flushes.submit(branch);
        }
        if sender == Sender::Remains && tip.is_broken() {
            return cut_tail(core, branch, tip).map(|()| true);
        }
        branch.publish(tip.durable);
    }
    Ok(false)
}

/// Forgets what follows the last whole record.
fn cut_tail(core: &Core, branch: &Branch, tip: &mut Tip) -> Result<()> {
    let end = tip.framed();
    core.wal.truncate(&branch.id, tip.timeline_written()?, end)?;
    tip.end_log();
    branch.show(tip.stuck());
    branch.publish(end);
    Ok(())
}

/// Begins a timeline at the head and fences those before it. Gives its number and the state that it begins with.
pub(crate) fn begin_timeline(core: &Core, branch: &Arc<Branch>) -> Result<(TimelineId, StateAt)> {
    let mut writer = branch.writer.lock();
    let tip = writer.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    catch_up(core, branch, tip, Retry::Passing)?;
    if tip.is_torn() && !may_be_log(core, branch, tip)? {
        core.wal.truncate(&branch.id, tip.timeline_written()?, tip.durable)?;
        tip.mend();
        branch.show(tip.stuck());
    }
    if let Some(stuck) = tip.stuck() {
        return Err(stuck.error(&branch.id, tip.framed()));
    }
    let head = tip.framed();
    if branch.view.read().head < head {
        let reason = "its newest records are not filed yet".to_owned();
        return Err(StoreError::Behind { branch: branch.id.clone(), at: branch.view.read().head, reason });
    }
    // Read first: once the timeline is listed its predecessor is fenced, and nothing may fail any more.
    let state = cluster::state_at(&core.wal, core.redo, branch, head)?;
    let timeline = push_timeline(core, branch, head)?;
    tip.begin(timeline, head);
    tip.durable = head;
    branch.publish(head);
    Ok((timeline, state))
}

/// False if what follows the last whole record cannot have been written there by this log: then nobody will send
/// it again.
fn may_be_log(core: &Core, branch: &Branch, tip: &Tip) -> Result<bool> {
    let (timeline, end) = (tip.timeline_written()?, tip.framed());
    let extent = core.wal.extent(&branch.id, timeline)?.unwrap_or(end);
    let Some(len) = extent.bytes_since(end).and_then(|len| usize::try_from(len).ok()) else {
        return Ok(false);
    };
    if len > PIECE_BYTES {
        return Ok(true);
    }
    let mut bytes = vec![0; len];
    core.wal.read(&branch.id, timeline, end, &mut bytes, Missing::IsZeros)?;
    Ok(wal::may_follow(&core.wal.format(), timeline, (end, tip.last_record()), &bytes))
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
    let mut writer = branch.writer.lock();
    let tip = writer.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    let _ = catch_up(core, branch, tip, Retry::Passing);
    let Some(stuck) = tip.stuck() else { return Ok(None) };
    let (state, framed, durable) = (tip.state().clone(), tip.framed(), tip.durable);
    drop(writer);
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
    let mut writer = branch.writer.lock();
    let tip = writer.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    catch_up(core, branch, tip, Retry::Everything)?;
    match tip.stuck() {
        Some(stuck) => Err(stuck.error(&branch.id, tip.state().lsn)),
        None => Ok(tip.state().lsn),
    }
}

/// Ends the log at the last record that could be read, which must be at `at`: a timeline begins there, and what
/// is held of those before it is of no branch any more. The files stay.
pub(crate) fn end_log(core: &Core, branch: &Branch, at: Lsn) -> Result<()> {
    let mut writer = branch.writer.lock();
    let tip = writer.as_mut().ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })?;
    let head = tip.state().lsn;
    if tip.stuck().is_none() || head != at {
        return Err(StoreError::NotStuck { branch: branch.id.clone(), at, head });
    }
    let timeline = push_timeline(core, branch, head)?;
    tip.begin_at_head(timeline);
    branch.show(tip.stuck());
    branch.publish(head);
    Ok(())
}
