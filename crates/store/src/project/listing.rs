//! What is said of branches in a list: where each ends, what it takes on disk, whether it can be read.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use types::{BranchId, Lsn};

use crate::answer::BranchInfo;
use crate::branch::Branch;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::opening::ensure_open;
use crate::manifest::{BranchEntry, Manifest};
use crate::table::layer::object_name;

/// What is to be said of these branches; nothing of those that are no longer listed.
///
/// # Errors
/// Of opening branches and reading directories.
pub(super) fn infos_of(core: &Core, branches: &[Arc<Branch>]) -> Result<Vec<BranchInfo>> {
    let manifest = core.manifests.get();
    let mut extensions = FirstOfExtensions::default();
    let infos = branches.iter().map(|branch| info_of(core, &manifest, &mut extensions, branch));
    infos.filter_map(Result::transpose).collect()
}

fn info_of(
    core: &Core,
    manifest: &Manifest,
    extensions: &mut FirstOfExtensions,
    branch: &Arc<Branch>,
) -> Result<Option<BranchInfo>> {
    let Some(entry) = manifest.branches.get(branch.id.as_str()) else { return Ok(None) };
    let head = head_of(core, branch, entry)?;
    Ok(Some(BranchInfo {
        id: branch.id.clone(),
        parent: branch.origin.clone().map(|parent| (parent, branch.start)),
        start: branch.start,
        head,
        own_bytes: own_bytes(core, branch, entry)?,
        extension: extensions.of(core, manifest, branch).filter(|(at, _)| *at <= head),
        stuck: branch.view.read().stuck.as_ref().map(|stuck| stuck.reason.clone()),
    }))
}

/// A branch with no WAL beyond its layers need not be opened for its head.
fn head_of(core: &Core, branch: &Arc<Branch>, entry: &BranchEntry) -> Result<Lsn> {
    let timeline = branch.timelines().last().copied();
    let quiet = match timeline {
        _ if branch.is_open() => false,
        None => true,
        Some((timeline, begin)) => {
            let extent = core.wal.extent(&branch.id, timeline)?;
            begin <= entry.flushed.0 && extent.is_none_or(|extent| extent <= entry.flushed.0)
        }
    };
    if quiet {
        return Ok(entry.flushed.0);
    }
    ensure_open(core, branch)?;
    Ok(branch.view.read().head)
}

fn own_bytes(core: &Core, branch: &Branch, entry: &BranchEntry) -> Result<u64> {
    let mut blocks = directory_blocks(&core.wal.branch_dir(&branch.id))?;
    for &layer in &entry.layers {
        let path = core.dir.join(object_name(layer));
        blocks += fs::metadata(&path).map_or(0, |meta| meta.blocks());
    }
    Ok(blocks * 512)
}

/// The first record that is an extension's of every branch asked for and its ancestors.
#[derive(Default)]
struct FirstOfExtensions {
    known: HashMap<BranchId, Option<(Lsn, u8)>>,
}

impl FirstOfExtensions {
    /// The branch's own, or what it begins on has.
    fn of(&mut self, core: &Core, manifest: &Manifest, branch: &Arc<Branch>) -> Option<(Lsn, u8)> {
        let mut way = vec![branch.clone()];
        while let Some(parent) = way.last().and_then(|branch| core.branch(branch.origin.as_ref()?).ok())
            && !self.known.contains_key(&parent.id)
        {
            way.push(parent);
        }
        let mut first = None;
        for branch in way.into_iter().rev() {
            let before = branch.origin.as_ref().and_then(|parent| self.known.get(parent).copied().flatten());
            let before = before.filter(|(at, _)| *at <= branch.start);
            first = before.or_else(|| first_of_its_own(manifest, &branch));
            self.known.insert(branch.id.clone(), first);
        }
        first
    }
}

fn first_of_its_own(manifest: &Manifest, branch: &Branch) -> Option<(Lsn, u8)> {
    let entry = manifest.branches.get(branch.id.as_str()).and_then(|entry| entry.extension);
    let view = branch.view.read();
    let tables = view.frozen.iter().map(|table| table.extension).chain([view.active.extension]);
    entry.map(|(at, rmgr)| (at.0, rmgr)).into_iter().chain(tables.flatten()).next()
}

/// 512-byte blocks that the files below `dir` take.
fn directory_blocks(dir: &Path) -> Result<u64> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(0) };
    let mut blocks = 0;
    for entry in entries {
        let entry = entry.map_err(StoreError::io(dir))?;
        let Ok(meta) = entry.metadata() else { continue };
        blocks += if meta.is_dir() { directory_blocks(&entry.path())? } else { meta.blocks() };
    }
    Ok(blocks)
}
