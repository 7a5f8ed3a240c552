//! Writes frozen memtables as layers, on a thread of its own.
//!
//! A layer is durable before the manifest lists it, and listed before its memtable goes: at no moment is a version
//! in neither. A crash in between leaves an unlisted layer, removed at the next open, and the WAL to rebuild from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::branch::{Branch, error_chain};
use crate::core::Core;
use crate::disk::unused_name;
use crate::error::{Result, StoreError};
use crate::layer::{self, Layer, LayerWriter};
use crate::limits::FROZEN_MAX;
use crate::manifest::Position;
use crate::object::Put;

/// How long to wait before a layer that could not be written is tried again, and between looks at idle memtables.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Branch>>,
    /// Why the last attempt failed.
    failing: Option<String>,
    stop: bool,
}

/// Work for the flusher, and what became of it.
#[derive(Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl FlushQueue {
    /// Hands in a branch that may have frozen memtables.
    pub(crate) fn submit(&self, branch: &Arc<Branch>) {
        let mut state = self.state.lock();
        if !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, branch)) {
            state.waiting.push_back(branch.clone());
        }
        self.changed.notify_all();
    }

    /// Makes the flusher return.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until few enough memtables of `branch` wait for the disk.
    pub(crate) fn wait_for_room(&self, branch: &Branch) -> Result<()> {
        let mut state = self.state.lock();
        while branch.view.read().frozen.len() >= FROZEN_MAX {
            if let Some(reason) = &state.failing {
                return Err(StoreError::FlushFailing { branch: branch.id.clone(), reason: reason.clone() });
            }
            if state.stop {
                let reason = "the project is being closed".to_owned();
                return Err(StoreError::FlushFailing { branch: branch.id.clone(), reason });
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }
}

impl FlushQueue {
    /// Waits until no memtable of `branch` waits for the disk.
    pub(crate) fn wait_until_flushed(&self, branch: &Branch) -> Result<()> {
        let mut state = self.state.lock();
        while !branch.view.read().frozen.is_empty() {
            if let Some(reason) = &state.failing {
                return Err(StoreError::FlushFailing { branch: branch.id.clone(), reason: reason.clone() });
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }
}

/// The flusher's life: until `FlushQueue::stop`.
pub(crate) fn run(core: &Core) {
    loop {
        let next = {
            let mut state = core.flushes.state.lock();
            if !state.stop && (state.waiting.is_empty() || state.failing.is_some()) {
                core.flushes.changed.wait_for(&mut state, PAUSE);
            }
            if state.stop {
                return;
            }
            state.waiting.pop_front()
        };
        let Some(branch) = next else {
            freeze_an_idle_memtable(core);
            continue;
        };
        let outcome = flush_all(core, &branch);
        let mut state = core.flushes.state.lock();
        state.failing = outcome.as_ref().err().map(|error| error_chain(error));
        if outcome.is_err() {
            state.waiting.push_back(branch);
        }
        core.flushes.changed.notify_all();
    }
}

/// Writes every frozen memtable of a branch, oldest first.
pub(crate) fn flush_all(core: &Core, branch: &Branch) -> Result<()> {
    while flush_one(core, branch)? {
        core.flushes.changed.notify_all();
    }
    Ok(())
}

fn flush_one(core: &Core, branch: &Branch) -> Result<bool> {
    let Some(table) = branch.view.read().frozen.front().cloned() else { return Ok(false) };
    let id = core.take_layer_id();
    let path = unused_name(&core.dir.join("tmp"), "layer");
    let mut writer = LayerWriter::create(core.disk.clone(), &path)?;
    table.write(&mut writer)?;
    let path = writer.finish(&table.waypoints)?;
    let name = layer::object_name(id);
    if core.objects.put_file_if_absent(&name, &path)? == Put::Taken {
        return Err(StoreError::corrupt(name, 0, "exists although its number was never given away"));
    }
    // Opened before it is listed: once it is, nothing may fail any more.
    let layer = Layer::open(id, core.objects.clone(), core.cache.clone())?;
    let end = table.waypoints.last().map(|state| state.lsn);
    let listed = core.manifests.commit(|manifest| {
        manifest.next_layer = manifest.next_layer.max(id + 1);
        let entry = manifest.branch(&branch.id)?;
        entry.layers.push(id);
        entry.flushed = end.map_or(entry.flushed, Position);
        let extension = table.extension.map(|(lsn, rmgr)| (Position(lsn), rmgr));
        entry.extension = entry.extension.or(extension);
        Ok(())
    });
    match listed {
        Ok(()) => {}
        Err(StoreError::NotFound { .. }) => {
            // The branch was deleted meanwhile.
            branch.view.write().frozen.clear();
            core.objects.delete(&name)?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    let mut view = branch.view.write();
    let mut layers = view.layers.to_vec();
    layers.push(Arc::new(layer));
    view.layers = Arc::new(layers);
    view.frozen.pop_front();
    Ok(true)
}

/// Keeps the memory of all memtables together below a few full ones: freezes the largest that nobody writes now.
fn freeze_an_idle_memtable(core: &Core) {
    let mut open: Vec<(usize, Arc<Branch>)> = core
        .all()
        .into_iter()
        .filter(|branch| branch.is_open())
        .map(|branch| {
            let bytes = branch.view.read().active.bytes();
            (bytes, branch)
        })
        .collect();
    let total: usize = open.iter().map(|(bytes, _)| bytes).sum();
    if total <= core.options.memtable_bytes.saturating_mul(2) {
        return;
    }
    open.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (_, branch) in open {
        if let Some(mut writer) = branch.writer.try_lock()
            && let Some(tip) = writer.as_mut()
        {
            tip.freeze(&branch);
            core.flushes.submit(&branch);
            return;
        }
    }
}
