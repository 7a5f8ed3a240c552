//! States, boundaries and times inside a branch, found by walking raw WAL from the nearest waypoint.

use types::{ClusterState, Lsn, PgTime};
use wal::{Record, RecordReader};

use crate::answer::BranchPoint;
use crate::branch::{Branch, lineage};
use crate::error::{Result, StoreError};
use crate::limits::STEP_BYTES;
use crate::log::segments::WalFiles;

/// Brings `state` forward over the branch's own WAL to the last boundary at or below `upto`, or to the one before
/// the first record that `stop` says yes to, which is also told the state before the record.
fn walk(
    files: &WalFiles,
    branch: &Branch,
    mut state: ClusterState,
    upto: Lsn,
    stop: &mut dyn FnMut(&Record<'_>, &ClusterState) -> bool,
) -> Result<ClusterState> {
    for (timeline, begin, end) in branch.spans(state.lsn, upto) {
        let mut reader = RecordReader::new(files.format(), timeline, begin, Some(state.last_record));
        let mut at = begin;
        while at < end {
            let to = at.advanced(STEP_BYTES).min(end);
            reader.feed(at, &lineage::read_wal(files, branch, at, to)?)?;
            at = to;
            while let Some(raw) = reader.next_record()? {
                let record = Record::decode(raw.start, raw.bytes)?;
                if raw.end > upto || stop(&record, &state) {
                    return Ok(state);
                }
                wal::advance(&mut state, &files.format(), &record, &raw)?;
            }
        }
    }
    Ok(state)
}

/// Reads the records from `state` to `upto` and does nothing with them.
pub(crate) fn count_records(
    files: &WalFiles,
    branch: &Branch,
    state: &ClusterState,
    upto: Lsn,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<()> {
    let mut prev = Some(state.last_record);
    for (timeline, begin, end) in branch.spans(state.lsn, upto) {
        let mut reader = RecordReader::new(files.format(), timeline, begin, prev.take());
        let mut at = begin;
        while at < end {
            let to = at.advanced(STEP_BYTES).min(end);
            reader.feed(at, &lineage::read_wal(files, branch, at, to)?)?;
            at = to;
            while let Some(raw) = reader.next_record()? {
                each(&Record::decode(raw.start, raw.bytes)?);
            }
        }
    }
    Ok(())
}

/// The newest waypoint that `accept` says yes to; those it does come first. Few are in memory: those of memtables, and
/// the last of each layer once it was needed.
fn waypoint_before(branch: &Branch, accept: &dyn Fn(&ClusterState) -> bool) -> Result<Option<ClusterState>> {
    let (layers, start) = {
        let view = branch.view.read();
        let tables = std::iter::once(&view.active).chain(view.frozen.iter().rev().map(AsRef::as_ref));
        for waypoints in tables.map(|table| &table.waypoints) {
            let after = waypoints.partition_point(accept);
            if let Some(state) = after.checked_sub(1).and_then(|last| waypoints.get(last)) {
                return Ok(Some(state.clone()));
            }
        }
        (view.layers.clone(), view.start.clone())
    };
    // Layers before `low` are accepted whole, those from `high` on are not.
    let (mut low, mut high) = (0, layers.len());
    while low < high {
        let middle = (low + high) / 2;
        let Some(layer) = layers.get(middle) else { break };
        if accept(layer.last_waypoint()?) { low = middle + 1 } else { high = middle }
    }
    if let Some(layer) = layers.get(low)
        && let Some(state) = layer.waypoint_before(accept)?
    {
        return Ok(Some(state));
    }
    if let Some(layer) = low.checked_sub(1).and_then(|last| layers.get(last)) {
        return layer.last_waypoint().cloned().map(Some);
    }
    Ok(start.filter(accept))
}

/// The state at the last boundary at or below `lsn`, which this branch must hold.
pub(crate) fn cluster_state(files: &WalFiles, branch: &Branch, lsn: Lsn) -> Result<ClusterState> {
    let missing = || StoreError::corrupt(format!("branch {}", branch.id), lsn.raw(), "has no waypoint");
    let state = waypoint_before(branch, &|state| state.lsn <= lsn)?.ok_or_else(missing)?;
    walk(files, branch, state, lsn, &mut |_, _| false)
}

/// The state at exactly `lsn`, which this branch must hold.
pub(crate) fn exact_state(files: &WalFiles, branch: &Branch, lsn: Lsn) -> Result<ClusterState> {
    let state = cluster_state(files, branch, lsn)?;
    if state.lsn != lsn {
        return Err(StoreError::NotBoundary { branch: branch.id.clone(), asked: lsn, boundary: state.lsn });
    }
    Ok(state)
}

/// The end of the last commit or abort record at or before `time` in the log before the first one later than it.
///
/// # Errors
/// `BeforeHistory` if there is none and `time` is before `imported`, from when on the project has one; `Stuck` or `Behind` if
/// what cannot be read may be of before that time.
pub(crate) fn resolve_time(
    files: &WalFiles,
    branch: &Branch,
    time: PgTime,
    imported: PgTime,
) -> Result<BranchPoint> {
    let (head, stuck) = {
        let view = branch.view.read();
        (view.head, view.stuck.clone())
    };
    let (point, ended) = last_ended(files, branch, time, head)?;
    match (stuck, point) {
        // What is held beyond the head may be of before that time too.
        (Some(stuck), _) if !ended && head < branch.durable() => Err(stuck.error(&branch.id, head)),
        (_, Some(point)) => Ok(point),
        (_, None) if time < imported => {
            Err(StoreError::BeforeHistory { branch: branch.id.clone(), first: imported })
        }
        (_, None) => {
            let mut root = branch;
            while let Some((parent, _)) = root.parent() {
                root = parent;
            }
            let state = cluster_state(files, root, root.start)?;
            Ok(BranchPoint { branch: root.id.clone(), lsn: state.lsn, last_commit: state.last_commit })
        }
    }
}

/// Where the last transaction ended before the first one that ended later than `time`, up to `upto`; `None` if none
/// did in all of the history. True beside it if one ended later.
fn last_ended(
    files: &WalFiles,
    branch: &Branch,
    time: PgTime,
    upto: Lsn,
) -> Result<(Option<BranchPoint>, bool)> {
    let later = |state: &ClusterState| state.latest_xact_time.is_some_and(|latest| latest > time);
    // The first one that is later may be an ancestor's: then nothing after that counts.
    let (mut branch, mut upto) = (branch, upto);
    while let Some((parent, start)) = branch.parent()
        && later(&cluster_state(files, parent, start)?)
    {
        branch = parent;
        upto = start;
    }
    let (mut found, is_later) = last_ended_here(files, branch, time, upto)?;
    let mut holder = branch;
    while found.is_none()
        && let Some((parent, start)) = holder.parent()
    {
        found = last_ended_here(files, parent, time, start)?.0;
        holder = parent;
    }
    // Where a branch begins is a position of the branch too.
    let mut begun = branch;
    while let Some(point) = &mut found
        && !std::ptr::eq(begun, holder)
    {
        if begun.start == point.lsn {
            point.branch = begun.id.clone();
            break;
        }
        begun = begun.parent().map_or(holder, |(parent, _)| parent);
    }
    Ok((found, is_later))
}

/// As `last_ended`, of what is the branch's own.
fn last_ended_here(
    files: &WalFiles,
    branch: &Branch,
    time: PgTime,
    upto: Lsn,
) -> Result<(Option<BranchPoint>, bool)> {
    let later = |state: &ClusterState| state.latest_xact_time.is_some_and(|latest| latest > time);
    let missing =
        || StoreError::corrupt(format!("branch {}", branch.id), branch.start.raw(), "has no waypoint");
    let near = waypoint_before(branch, &|state| !later(state) && state.lsn <= upto)?.ok_or_else(missing)?;
    // Nothing before it is later. The last commit before it is known; aborts after that are found on the way.
    let commit = near.last_commit.map_or(branch.start, |(_, lsn)| lsn.max(branch.start));
    let from = waypoint_before(branch, &|state| state.lsn <= commit)?.ok_or_else(missing)?;
    let is_commit = from.lsn > branch.start && from.last_commit.is_some_and(|(_, lsn)| lsn == from.lsn);
    let mut found = is_commit.then(|| from.clone());
    let (mut has_ended, mut is_later) = (false, false);
    let end = walk(files, branch, from, upto, &mut |record, before| {
        if has_ended {
            found = Some(before.clone());
        }
        let time_of = wal::xact_time(record).map(|(_, ended)| ended);
        has_ended = time_of.is_some();
        is_later = time_of.is_some_and(|ended| ended > time);
        is_later
    })?;
    if has_ended && !is_later {
        found = Some(end);
    }
    let point = found.map(|state| {
        let (branch, lsn) = (branch.id.clone(), state.lsn);
        BranchPoint { branch, lsn, last_commit: state.last_commit }
    });
    Ok((point, is_later))
}
