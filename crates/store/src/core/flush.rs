//! Writes frozen memtables as layers, on a thread of its own.
//!
//! A layer is durable before the manifest lists it, and listed before its memtable goes: at no moment is a version
//! in neither. A crash in between leaves an unlisted layer, removed at the next open, and the WAL to rebuild from. After an
//! error the next attempt goes on with the layer that was made; a disk on which none can be listed is not filled.

use std::sync::Arc;

use redo::RedoContext;
use types::{Key, Lsn, Page};

use crate::branch::Branch;
use crate::core::Core;
use crate::core::flush_queue::Next;
use crate::disk::unused_name;
use crate::error::{Result, StoreError, error_chain};
use crate::manifest::Position;
use crate::object::Put;
use crate::read::pages;
use crate::table::layer::{self, Layer, LayerWriter};
use crate::table::memtable::{Memtable, Older};
use crate::table::unlisted::Unlisted;

/// The flusher's life: until `FlushQueue::stop`.
pub(crate) fn run(core: &Core) {
    loop {
        let next = core.flushes.next();
        if matches!(next, Next::Stop) {
            return;
        }
        make_up(core);
        let Next::Write { branch, attempt } = next else { continue };
        let failed = flush_all(core, &branch).err().map(|error| error_chain(&error));
        core.flushes.ended(branch, attempt, failed);
    }
}

/// Writes every frozen memtable of a branch, oldest first.
pub(crate) fn flush_all(core: &Core, branch: &Branch) -> Result<()> {
    while flush_one(core, branch)? {
        core.flushes.wrote_one();
    }
    Ok(())
}

/// Does what errors have left to do, unless another process has taken the project over: it may have given the names to
/// files of its own. If it cannot be done now, it is tried again, and before anything is written that it
/// would be in the way of.
pub(crate) fn make_up(core: &Core) {
    // A manifest of which it is not known whether it was put may list them.
    if core.flushes.has_abandoned() && core.manifests.settle().is_ok() && core.manifests.check_epoch().is_ok()
    {
        core.flushes.take_abandoned().into_iter().for_each(|unlisted| core.discard_unlisted(unlisted));
    }
    if core.disk.has_leftovers() && core.manifests.check_epoch().is_ok() {
        let _ = core.disk.sweep();
    }
    if !core.manifests.is_settled() {
        let _ = core.manifests.settle();
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
            Some(made) if made.is_of(&table) => made,
            other => {
                if let Some(other) = other {
                    core.discard_unlisted(other);
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
                core.discard_unlisted(unlisted);
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
    Ok(Unlisted::new(core.take_layer_id(), table, file))
}

/// Stores the file under the layer's name, unless that is done.
fn store(core: &Core, made: &mut Unlisted) -> Result<Put> {
    let Some(file) = &made.file else { return Ok(Put::Stored) };
    let outcome = core.objects.put_file_if_absent(&layer::object_name(made.id), file)?;
    made.file = None;
    Ok(outcome)
}
