//! What all branches of an open project share: where its bytes are kept, its memory, and which branches there are.
//!
//! Below it is what is done with that beside requests: memtables become layers (`flush`), and branches that nobody uses are
//! closed (`closing`).
//!
//! Not here: how a branch is opened and written (`ingest`), who decides what is closed (`memory::keeper`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use redo::RedoContext;
use types::{BranchId, PgTime};
use wal::ControlFile;

use crate::answer::StoreOptions;
use crate::branch::Branch;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log::segments::WalFiles;
use crate::manifest::{BranchEntry, ManifestStore};
use crate::memory::{Account, BlockCache};
use crate::object::{Local, ObjectStore};
use crate::table::layer;
use crate::table::unlisted::Unlisted;

mod closing;
pub(crate) mod flush;
pub(crate) mod flush_queue;

use flush_queue::FlushQueue;

/// What all branches of an open project share.
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) manifests: ManifestStore,
    pub(crate) wal: WalFiles,
    pub(crate) redo: RedoContext,
    pub(crate) control_template: Vec<u8>,
    /// Time of the imported checkpoint: the oldest time that can be asked for.
    pub(crate) imported: PgTime,
    pub(crate) options: StoreOptions,
    pub(crate) flushes: FlushQueue,
    /// What its memtables hold.
    pub(crate) account: Arc<Account>,
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
        let core = Self {
            dir: dir.to_owned(),
            disk: disk.clone(),
            objects,
            cache: Arc::new(options.memory.cache()),
            wal: WalFiles::new(dir, manifest.wal_format(), disk.clone()),
            redo: RedoContext {
                major: manifest.wal_format().major,
                checksums: control.checksum_version != 0 || control.limits.wal_log_hints,
            },
            control_template,
            imported: PgTime::from_pg_us(manifest.imported_us),
            account: Arc::new(Account::new(options.memory.clone())),
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

    fn load_branches(&self, listed: &BTreeMap<String, BranchEntry>) -> Result<()> {
        let bad = |reason: String| StoreError::corrupt("the manifest", 0, reason);
        let named = |name: &str| name.parse::<BranchId>().map_err(|error| bad(format!("{error}")));
        let mut loaded: BTreeMap<BranchId, Arc<Branch>> = BTreeMap::new();
        for (name, entry) in listed {
            let origin = entry.parent.as_deref().map(named).transpose()?;
            let id = named(name)?;
            loaded.insert(id.clone(), Arc::new(Branch::new(id, origin, entry, &self.account)));
        }
        // Each leads to a root.
        let mut sound: HashSet<&BranchId> = HashSet::new();
        for id in loaded.keys() {
            let mut way = Vec::new();
            let mut next = Some(id);
            while let Some(id) = next
                && !sound.contains(id)
            {
                way.push(id);
                let branch = loaded.get(id).filter(|_| way.len() <= loaded.len());
                let branch = branch.ok_or_else(|| bad("a branch has no parent".to_owned()))?;
                next = branch.origin.as_ref();
            }
            sound.extend(way);
        }
        *self.branches.write() = loaded;
        Ok(())
    }

    /// The branch of that name.
    pub(crate) fn branch(&self, id: &BranchId) -> Result<Arc<Branch>> {
        self.branches.read().get(id).cloned().ok_or_else(|| StoreError::NotFound { branch: id.clone() })
    }

    /// Puts what `by` gives in the place of a branch. Gives what was there, which may take long to drop.
    pub(crate) fn replace(
        &self,
        id: &BranchId,
        by: impl FnOnce(&mut Arc<Branch>) -> Option<Branch>,
    ) -> Option<Arc<Branch>> {
        let mut branches = self.branches.write();
        let slot = branches.get_mut(id)?;
        let new = by(slot)?;
        Some(std::mem::replace(slot, Arc::new(new)))
    }

    /// Every branch, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Branch>> {
        self.branches.read().values().cloned().collect()
    }

    /// The branch of that name.
    pub(crate) fn find(&self, id: &BranchId) -> Option<Arc<Branch>> {
        self.branches.read().get(id).cloned()
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

    /// Removes what there is of a layer that no manifest lists yet.
    pub(crate) fn discard_unlisted(&self, unlisted: Unlisted) {
        if let Some(file) = unlisted.file {
            self.disk.discard(&file);
        }
        self.discard_layer(unlisted.id);
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
}
