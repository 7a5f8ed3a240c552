//! Writes frozen memtables as layers, on a thread of its own.
//!
//! A layer is durable before the manifest lists it, and listed before its memtable goes: at no moment is a version
//! in neither. A crash in between leaves an unlisted layer, removed at the next open, and the WAL to rebuild from. After an
//! error the next attempt goes on with the layer that was made; a disk on which none can be listed is not filled.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redo::RedoContext;
use types::{Key, Lsn, Page};

use crate::branch::{Branch, error_chain};
use crate::core::Core;
use crate::disk::unused_name;
use crate::error::{Result, StoreError};
use crate::limits::{FLUSH_WAIT, FROZEN_MAX};
use crate::manifest::Position;
use crate::object::Put;
use crate::read::pages;
use crate::table::layer::{self, Layer, LayerWriter};
use crate::table::memtable::{Memtable, Older};

/// How long to wait before a layer that could not be written is tried again.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(2) } else { Duration::from_millis(500) };

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Branch>>,
    /// Attempts begun.
    attempts: u64,
    /// The last attempt that ended, if it failed, and why.
    failing: Option<(u64, String)>,
    /// When the attempt under way began.
    since: Option<Instant>,
    /// Layers that were made of memtables that are no longer there.
    abandoned: Vec<Unlisted>,
    /// Somebody waits to be told whether the next attempt fails too.
    hurry: bool,
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

    /// Takes a branch back; true if it was handed in and not yet taken.
    pub(crate) fn withdraw(&self, branch: &Arc<Branch>) -> bool {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, branch));
        state.waiting.len() < before
    }

    /// Hands in a layer that is to be removed: nobody goes on with it.
    pub(crate) fn abandon(&self, unlisted: Unlisted) {
        self.state.lock().abandoned.push(unlisted);
    }

    /// Why the disk takes no layer now, as far as is known: the last attempt failed and there is more to write, or one takes
    /// too long.
    pub(crate) fn failing(&self, now: Instant) -> Option<String> {
        let state = self.state.lock();
        let took = state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if took > FLUSH_WAIT {
            return Some(format!("the disk has been taking one for {} s", took.as_secs()));
        }
        let has_more = state.since.is_some() || !state.waiting.is_empty();
        state.failing.as_ref().filter(|_| has_more).map(|(_, reason)| reason.clone())
    }

    /// Makes the flusher return.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until few enough memtables of `branch` wait for the disk.
    ///
    /// # Errors
    /// `FlushFailing` if the disk takes none, or not in time.
    pub(crate) fn wait_for_room(&self, branch: &Branch) -> Result<()> {
        self.wait_below(branch, FROZEN_MAX)
    }

    /// Waits until no memtable of `branch` waits for the disk.
    ///
    /// # Errors
    /// As `wait_for_room`.
    pub(crate) fn wait_until_flushed(&self, branch: &Branch) -> Result<()> {
        self.wait_below(branch, 1)
    }

    /// The disk may have recovered since the last attempt, so only one that began after the call refuses it.
    fn wait_below(&self, branch: &Branch, frozen: usize) -> Result<()> {
        let deadline = Instant::now() + FLUSH_WAIT;
        let mut state = self.state.lock();
        let seen = state.attempts;
        while branch.view.read().frozen.len() >= frozen {
            let failed = state.failing.as_ref().filter(|(attempt, _)| *attempt > seen);
            let reason = match failed {
                Some((_, reason)) => reason.clone(),
                None if state.stop => "the project is being closed".to_owned(),
                None => {
                    state.hurry = true;
                    self.changed.notify_all();
                    if !self.changed.wait_until(&mut state, deadline).timed_out() {
                        continue;
                    }
                    format!("the disk did not take one within {} s", FLUSH_WAIT.as_secs())
                }
            };
            return Err(StoreError::FlushFailing { branch: branch.id.clone(), reason });
        }
        Ok(())
    }
}

/// The flusher's life: until `FlushQueue::stop`.
pub(crate) fn run(core: &Core) {
    loop {
        let next = {
            let mut state = core.flushes.state.lock();
            let rests = |state: &State| state.failing.is_some() && !state.hurry;
            if !state.stop && (state.waiting.is_empty() || rests(&state)) {
                core.flushes.changed.wait_for(&mut state, PAUSE);
            }
            if state.stop {
                return;
            }
            let next = state.waiting.pop_front();
            state.attempts += u64::from(next.is_some());
            state.since = next.is_some().then(Instant::now);
            state.hurry &= next.is_none();
            next.map(|branch| (branch, state.attempts))
        };
        make_up(core);
        let Some((branch, attempt)) = next else { continue };
        let outcome = flush_all(core, &branch);
        let mut state = core.flushes.state.lock();
        state.since = None;
        state.failing = outcome.as_ref().err().map(|error| (attempt, error_chain(error)));
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

/// Does what errors have left to do, unless another process has taken the project over: it may have given the names to
/// files of its own. If it cannot be done now, it is tried again, and before anything is written that it
/// would be in the way of.
pub(crate) fn make_up(core: &Core) {
    let has_abandoned = !core.flushes.state.lock().abandoned.is_empty();
    // A manifest of which it is not known whether it was put may list them.
    if has_abandoned && core.manifests.settle().is_ok() && core.manifests.check_epoch().is_ok() {
        let abandoned = std::mem::take(&mut core.flushes.state.lock().abandoned);
        abandoned.into_iter().for_each(|unlisted| unlisted.discard(core));
    }
    if core.disk.has_leftovers() && core.manifests.check_epoch().is_ok() {
        let _ = core.disk.sweep();
    }
    if !core.manifests.is_settled() {
        let _ = core.manifests.settle();
    }
}

/// A layer that no manifest lists yet.
pub(crate) struct Unlisted {
    /// Its number, which nothing else will have.
    pub(crate) id: u64,
    table: Weak<Memtable>,
    /// The file it was written to, until that is stored under the layer's name.
    file: Option<PathBuf>,
}

impl Unlisted {
    /// Removes what there is of it.
    pub(crate) fn discard(self, core: &Core) {
        if let Some(file) = self.file {
            core.disk.discard(&file);
        }
        core.discard_layer(self.id);
    }
}

/// The layers of a branch and its ancestors, beside a memtable being written.
struct OlderThan<'a> {
    redo: RedoContext,
    branch: &'a Branch,
}

impl Older for OlderThan<'_> {
    fn chain(&self, key: &Key) -> Result<u8> {
        self.branch.chain_in_layers(key)
    }

    fn page(&self, key: &Key, lsn: Lsn) -> Option<Page> {
        pages::read_page(self.redo, self.branch, *key, lsn).ok()
    }
}

fn flush_one(core: &Core, branch: &Branch) -> Result<bool> {
    let Some(table) = branch.view.read().frozen.front().cloned() else { return Ok(false) };
    // Whoever took the project over gives away the same numbers.
    core.manifests.check_epoch()?;
    let layer = {
        let mut unlisted = branch.unlisted.lock();
        let made = match unlisted.take() {
            Some(made) if std::ptr::eq(made.table.as_ptr(), Arc::as_ptr(&table)) => made,
            other => {
                if let Some(other) = other {
                    other.discard(core);
                }
                write(core, branch, &table)?
            }
        };
        // From here on an error leaves it to be gone on with.
        let made = unlisted.insert(made);
        if store(core, made)? == Put::Taken {
            let name = layer::object_name(made.id);
            *unlisted = None;
            let reason = "exists although its number was never given away";
            return Err(StoreError::corrupt(name, 0, reason));
        }
        // Opened before it is listed: once it is, nothing may fail any more.
        Layer::open(made.id, core.objects.clone(), core.cache.clone())?
    };
    if let Some(last) = table.waypoints.last() {
        layer.learn_last_waypoint(last);
    }
    let id = layer.id();
    let end = table.waypoints.last().map(|state| state.lsn);
    let listed = core.manifests.commit(|manifest| {
        manifest.next_layer = manifest.next_layer.max(id + 1);
        let entry = manifest.branch_mut(&branch.id, branch.incarnation)?;
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
            if let Some(unlisted) = branch.unlisted.lock().take() {
                unlisted.discard(core);
            }
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    branch.unlisted.lock().take();
    let mut view = branch.view.write();
    let mut layers = view.layers.to_vec();
    layers.push(Arc::new(layer));
    view.layers = Arc::new(layers);
    view.frozen.pop_front();
    Ok(true)
}

/// Writes a memtable to a file that has no layer's name yet.
fn write(core: &Core, branch: &Branch, table: &Arc<Memtable>) -> Result<Unlisted> {
    let path = unused_name(&core.dir.join("tmp"), "layer");
    let mut writer = LayerWriter::create(core.disk.clone(), &path)?;
    table.write(&mut writer, &OlderThan { redo: core.redo, branch })?;
    let file = writer.finish(&table.waypoints)?;
    Ok(Unlisted { id: core.take_layer_id(), table: Arc::downgrade(table), file: Some(file) })
}

/// Stores the file under the layer's name, unless that is done.
fn store(core: &Core, made: &mut Unlisted) -> Result<Put> {
    let Some(file) = &made.file else { return Ok(Put::Stored) };
    let outcome = core.objects.put_file_if_absent(&layer::object_name(made.id), file)?;
    made.file = None;
    Ok(outcome)
}
