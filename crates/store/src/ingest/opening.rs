//! A branch is opened at first use: its layers, and what its WAL holds that is in no layer.
//!
//! Not here: how it is closed (`core::closing`), what a closed one is (`branch`).

use std::sync::Arc;

use types::{BranchId, ClusterState};

use crate::branch::Branch;
use crate::branch::writer::BranchWriter;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::catch_up;
use crate::manifest::BranchEntry;
use crate::read::walk;
use crate::table::layer::Layer;

/// The branch of that name, ready to be read and written.
///
/// # Errors
/// `NotFound`, `Corrupt`, and of reading files.
pub(crate) fn open_branch(core: &Core, id: &BranchId) -> Result<Arc<Branch>> {
    let branch = core.branch(id)?;
    branch.touch();
    ensure_open(core, &branch)?;
    Ok(branch)
}

/// Opens the branch and its ancestors: rebuilds the memtable from WAL that is in no layer.
///
/// # Errors
/// As `open_branch`.
pub(crate) fn ensure_open(core: &Core, branch: &Arc<Branch>) -> Result<()> {
    if branch.is_open() {
        return Ok(());
    }
    // Ancestors may be more than a stack takes.
    let mut closed = vec![branch.clone()];
    let mut opened: Option<Arc<Branch>> = None;
    while opened.is_none()
        && let Some(origin) = closed.last().and_then(|branch| branch.origin.as_ref())
    {
        let parent = core.branch(origin)?;
        if parent.is_open() { opened = Some(parent) } else { closed.push(parent) }
    }
    while let Some(branch) = closed.pop() {
        if let Some(parent) = &opened {
            branch.hold(parent);
        }
        open(core, &branch)?;
        opened = Some(branch);
    }
    Ok(())
}

/// Opens the branch, whose parent is open.
fn open(core: &Core, branch: &Arc<Branch>) -> Result<()> {
    let mut slot = branch.writer.lock();
    if branch.is_open() {
        return Ok(());
    }
    branch.touch();
    let entry = core.manifests.get().branch(&branch.id, branch.incarnation)?.clone();
    let state = load_tables(core, branch, &entry)?;
    let mut writer = BranchWriter::new(core.wal.format(), state);
    replay(core, branch, &mut writer)?;
    *slot = Some(writer);
    branch.set_open();
    core.flushes.submit(branch);
    Ok(())
}

/// Opens the layers; gives the state at their end.
fn load_tables(core: &Core, branch: &Branch, entry: &BranchEntry) -> Result<ClusterState> {
    let start = match branch.parent() {
        Some((parent, start)) => Some(walk::cluster_state(&core.wal, parent, start)?),
        None => None,
    };
    let mut layers = Vec::with_capacity(entry.layers.len());
    for &id in &entry.layers {
        layers.push(Arc::new(Layer::open(id, core.objects.clone(), core.cache.clone())?));
    }
    let last = match layers.last() {
        Some(layer) => Some(layer.last_waypoint()?.clone()),
        None => start.clone(),
    };
    let state = last.filter(|state| state.lsn == entry.flushed.0).ok_or_else(|| {
        let reason = format!("layers of branch {} do not end at {}", branch.id, entry.flushed.0);
        StoreError::corrupt("the manifest", 0, reason)
    })?;
    let mut view = branch.view.write();
    view.active = view.active.successor();
    view.frozen.clear();
    view.layers = Arc::new(layers);
    view.start = start;
    view.head = state.lsn;
    view.stuck = None;
    Ok(state)
}

fn replay(core: &Core, branch: &Arc<Branch>, writer: &mut BranchWriter) -> Result<()> {
    let from = writer.state().lsn;
    let last = branch.timelines().last().copied();
    let mut end = from;
    if let Some((timeline, begin)) = last {
        core.wal.sync_written(&branch.id, timeline, from)?;
        end = core.wal.extent(&branch.id, timeline)?.unwrap_or(begin).max(begin).max(from);
        core.wal.check_whole(&branch.id, timeline, begin.max(from), end)?;
    }
    for (timeline, begin, upto) in branch.spans(from, end) {
        writer.begin(timeline, begin);
        catch_up::replay(core, branch, writer, begin, upto)?;
        if last.is_none_or(|(newest, _)| newest != timeline) {
            writer.pass_damage();
        } else if writer.is_broken() {
            end = writer.set_torn_end(timeline);
        }
    }
    if let Some((timeline, begin)) = last
        && writer.timeline() != Some(timeline)
    {
        writer.begin(timeline, begin.max(from));
    }
    writer.durable = end;
    branch.show(writer.stuck());
    branch.publish(end);
    Ok(())
}
