//! What all branches of an open project share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use redo::RedoContext;
use types::{BranchId, Lsn, PgTime, TimelineId};
use wal::{ControlFile, WalFormat};

use crate::answer::StoreOptions;
use crate::branch::Branch;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::flush::FlushQueue;
use crate::layer::{self, BlockCache};
use crate::manifest::{BranchEntry, ManifestStore};
use crate::object::{Local, ObjectStore};
use crate::wal_files::WalFiles;

/// What all branches of an open project share.
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) manifests: ManifestStore,
    pub(crate) wal: WalFiles,
    pub(crate) format: WalFormat,
    pub(crate) redo: RedoContext,
    pub(crate) control_template: Vec<u8>,
    /// Time of the imported checkpoint: the oldest time that can be asked for.
    pub(crate) imported: PgTime,
    pub(crate) options: StoreOptions,
    pub(crate) flushes: FlushQueue,
    next_layer: AtomicU64,
    branches: RwLock<BTreeMap<BranchId, Arc<Branch>>>,
    /// Held while branches are created or deleted, so that neither runs into the other.
    pub(crate) tree: Mutex<()>,
}

impl Core {
    /// Opens a project whose directory is locked: takes the manifest over and removes what it does not list.
    pub(crate) fn open(dir: &Path, disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self> {
        let objects: Arc<dyn ObjectStore> = Arc::new(Local::new(dir, disk.clone())?);
        #[cfg(test)]
        let objects = crate::object::memory::as_the_test_wants(objects);
        Self::open_over(dir, disk, objects, options)
    }

    /// As `open`, with its objects in another place.
    pub(crate) fn open_over(
        dir: &Path,
        disk: Arc<dyn Disk>,
        objects: Arc<dyn ObjectStore>,
        options: StoreOptions,
    ) -> Result<Self> {
        // Directories that a killed process made may not be durable yet.
        for dir in [dir.parent().unwrap_or(dir), dir] {
            disk.sync(dir).map_err(StoreError::io(dir))?;
        }
        let manifests = ManifestStore::open(objects.clone())?;
        let manifest = manifests.get();
        let control_template = manifest.control_template()?;
        let control = ControlFile::parse(&control_template)?;
        let format = manifest.wal_format();
        let core = Self {
            dir: dir.to_owned(),
            disk: disk.clone(),
            objects,
            cache: Arc::new(BlockCache::new(options.cache_bytes)),
            wal: WalFiles::new(dir, format.segment_bytes, disk.clone()),
            format,
            redo: RedoContext {
                major: format.major,
                checksums: control.checksum_version != 0 || control.limits.wal_log_hints,
            },
            control_template,
            imported: PgTime::from_pg_us(manifest.imported_us),
            options,
            flushes: FlushQueue::default(),
            next_layer: AtomicU64::new(manifest.next_layer),
            branches: RwLock::new(BTreeMap::new()),
            tree: Mutex::new(()),
            manifests,
        };
        core.remove_unlisted(&manifest.branches)?;
        core.load_branches(&manifest.branches)?;
        Ok(core)
    }

    fn remove_unlisted(&self, listed: &BTreeMap<String, BranchEntry>) -> Result<()> {
        let layers: BTreeSet<u64> = listed.values().flat_map(|entry| entry.layers.iter().copied()).collect();
        for name in self.objects.list("layers/")? {
            if layer::id_of(&name).is_none_or(|id| !layers.contains(&id)) {
                self.discard_object(&name);
            }
        }
        let wal = self.dir.join("wal");
        let entries = match self.disk.list(&wal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(StoreError::io(&wal))?,
        };
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| !listed.contains_key(name)) {
                self.disk.discard(&path);
            }
        }
        Ok(())
    }

    /// Parents come before their children.
    fn load_branches(&self, listed: &BTreeMap<String, BranchEntry>) -> Result<()> {
        let mut loaded: BTreeMap<BranchId, Arc<Branch>> = BTreeMap::new();
        let bad = |reason: String| StoreError::corrupt("the manifest", 0, reason);
        while loaded.len() < listed.len() {
            let before = loaded.len();
            for (name, entry) in listed {
                let id: BranchId = name.parse().map_err(|error| bad(format!("{error}")))?;
                if loaded.contains_key(&id) {
                    continue;
                }
                let parent = match &entry.parent {
                    None => None,
                    Some(parent) => {
                        let parent: BranchId = parent.parse().map_err(|error| bad(format!("{error}")))?;
                        let Some(parent) = loaded.get(&parent) else { continue };
                        Some((parent.clone(), entry.start.0))
                    }
                };
                let branch = Branch::new(id.clone(), parent, entry);
                loaded.insert(id, Arc::new(branch));
            }
            if loaded.len() == before {
                return Err(bad("a branch has no parent".to_owned()));
            }
        }
        *self.branches.write() = loaded;
        Ok(())
    }

    /// The branch of that name.
    pub(crate) fn branch(&self, id: &BranchId) -> Result<Arc<Branch>> {
        self.branches.read().get(id).cloned().ok_or_else(|| StoreError::NotFound { branch: id.clone() })
    }

    /// The branch of that name, ready to be read and written.
    pub(crate) fn open_branch(&self, id: &BranchId) -> Result<Arc<Branch>> {
        let branch = self.branch(id)?;
        branch.ensure_open(self)?;
        Ok(branch)
    }

    /// Every branch, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Branch>> {
        self.branches.read().values().cloned().collect()
    }

    /// Makes a new branch known.
    pub(crate) fn insert(&self, branch: Arc<Branch>) {
        self.branches.write().insert(branch.id.clone(), branch);
    }

    /// Forgets a branch.
    pub(crate) fn remove(&self, id: &BranchId) {
        self.branches.write().remove(id);
    }

    /// Removes a layer that no manifest lists.
    pub(crate) fn discard_layer(&self, id: u64) {
        self.discard_object(&layer::object_name(id));
    }

    fn discard_object(&self, name: &str) {
        if self.objects.delete(name).is_err() {
            self.disk.discard(&self.dir.join(name));
        }
    }

    /// A layer number never used before in this project.
    pub(crate) fn take_layer_id(&self) -> u64 {
        self.next_layer.fetch_add(1, Ordering::Relaxed)
    }

    /// Reads WAL of `branch` and its ancestors from `from` up to `to`.
    pub(crate) fn read_wal(&self, branch: &Branch, from: Lsn, to: Lsn) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut from = from;
        if let Some((parent, start)) = &branch.parent
            && from < *start
        {
            bytes = self.read_wal(parent, from, (*start).min(to))?;
            from = *start;
        }
        for (timeline, begin, end) in branch.spans(from, to) {
            let at = bytes.len();
            let len = usize::try_from(end.bytes_since(begin).unwrap_or(0)).unwrap_or(0);
            bytes.resize(at + len, 0);
            self.wal.read(&branch.id, timeline, begin, bytes.get_mut(at..).unwrap_or(&mut []))?;
        }
        Ok(bytes)
    }

    /// The timelines that lead to `lsn` on `branch`, oldest first, with where each ends; those that hold no WAL are
    /// left out.
    pub(crate) fn history(&self, branch: &Branch, lsn: Lsn) -> Vec<(TimelineId, Lsn)> {
        let (mut history, from) = match &branch.parent {
            Some((parent, start)) => (self.history(parent, *start), *start),
            // The imported timeline owns everything before the root's start.
            None => (Vec::new(), Lsn::from_raw(1).unwrap_or(Lsn::MAX)),
        };
        history.extend(branch.spans(from, lsn).into_iter().map(|(timeline, _, end)| (timeline, end)));
        history
    }
}
