//! One project: a tree of branches in one directory. The door of this crate.
//!
//! Not here: anything but wiring. What each call does is in the module it leads to.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use types::{BLOCK_SIZE, BlockNumber, BranchId, Lsn, PgTime, RelFork, SlruKind, StateAt, TimelineId};
use wal::WalFormat;

use crate::answer::{
    BranchInfo, BranchPoint, ClusterImport, NewTimeline, StoreOptions, TailProgress, Unread, Unreadable,
};
use crate::branch::writer::BranchWriter;
use crate::branch::{Branch, lineage};
use crate::core::{Core, flush};
use crate::disk::{Careful, Disk, System};
use crate::error::{Result, StoreError};
use crate::ingest::catch_up::check_position;
use crate::ingest::import::Source;
use crate::ingest::opening::open_branch;
use crate::ingest::{append, catch_up};
use crate::manifest::{BranchEntry, ManifestStore};
use crate::memory::{keeper, room};
use crate::object::{Local, ObjectStore};
use crate::read::{cluster, pages, unreadable, walk};

mod creation;
mod listing;

/// A project directory opened for reading and writing. All methods take `&self` and may be called from any thread.
///
/// Dropping it stops its thread, and makes up for what errors left undone: what was acknowledged is durable already.
pub struct Project {
    pub(crate) core: Arc<Core>,
    flusher: Option<JoinHandle<()>>,
    /// Held, so that no other process opens the directory.
    _lock: File,
}

impl Drop for Project {
    fn drop(&mut self) {
        self.core.flushes.stop();
        if let Some(flusher) = self.flusher.take() {
            // Its panic was reported on its own thread.
            let _ = flusher.join();
        }
        flush::make_up(&self.core);
    }
}

impl Project {
    /// Creates a project in `dir` from a cluster that was shut down cleanly.
    ///
    /// # Errors
    /// `Import` if the cluster cannot be taken, `Superseded` if `dir` holds a project already.
    pub fn create(dir: &Path, import: &ClusterImport) -> Result<Self> {
        Self::create_with(dir, import, StoreOptions::default())
    }

    /// `create` with sizes other than the default.
    ///
    /// # Errors
    /// As `create`.
    pub fn create_with(dir: &Path, import: &ClusterImport, options: StoreOptions) -> Result<Self> {
        Self::create_on(Arc::new(System), dir, import, options)
    }

    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        import: &ClusterImport,
        options: StoreOptions,
    ) -> Result<Self> {
        let source = Source::open(&import.data_dir)?;
        let disk: Arc<dyn Disk> = Arc::new(Careful::new(disk));
        disk.make_dirs(dir).map_err(StoreError::io(dir))?;
        let lock = lock(dir)?;
        let objects: Arc<dyn ObjectStore> = Arc::new(Local::new(dir, disk.clone())?);
        if let Some(sequence) = objects.list("manifest/")?.len().checked_sub(1) {
            return Err(StoreError::Superseded { sequence: sequence as u64 + 1 });
        }
        let manifest = creation::import_cluster(dir, &disk, &*objects, &source, &import.root)?;
        ManifestStore::create(objects.clone(), manifest)?;
        let opened = Core::open(dir, disk, options).and_then(|core| Self::start(core, lock));
        if opened.is_err() {
            ManifestStore::undo_create(&*objects);
        }
        opened
    }

    /// Opens the project in `dir`. Everything acknowledged before a crash is there.
    ///
    /// # Errors
    /// `Locked` if another process has it open, `Corrupt` if the manifest is missing or damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// `open` with sizes other than the default.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self> {
        Self::open_on(Arc::new(System), dir, options)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: StoreOptions) -> Result<Self> {
        if !dir.join("manifest").is_dir() {
            return Err(StoreError::corrupt(dir.display().to_string(), 0, "holds no project"));
        }
        let lock = lock(dir)?;
        Self::start(Core::open(dir, Arc::new(Careful::new(disk)), options)?, lock)
    }

    /// Opens a project whose objects are elsewhere, as another process would if locks did not work.
    #[cfg(test)]
    pub(crate) fn open_beside(
        dir: &Path,
        objects: Arc<dyn ObjectStore>,
        options: StoreOptions,
    ) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(Careful::new(Arc::new(System)));
        let unlocked = File::open(dir).map_err(StoreError::io(dir))?;
        Self::start(Core::open_over(dir, disk, objects, options)?, unlocked)
    }

    fn start(core: Core, lock: File) -> Result<Self> {
        let core = Arc::new(core);
        keeper::enter(&core).map_err(StoreError::io(&core.dir))?;
        let for_thread = core.clone();
        let flusher = std::thread::Builder::new()
            .name("store-flush".to_owned())
            .spawn(move || flush::run(&for_thread))
            .map_err(StoreError::io(&core.dir))?;
        Ok(Self { core, flusher: Some(flusher), _lock: lock })
    }

    /// The branch of that name, ready to be read and written.
    pub(crate) fn open_branch(&self, id: &BranchId) -> Result<Arc<Branch>> {
        open_branch(&self.core, id)
    }

    /// What the WAL of this project looks like.
    pub fn format(&self) -> WalFormat {
        self.core.wal.format()
    }

    /// The 8192 bytes of `pg_control` as imported.
    pub fn control_template(&self) -> &[u8] {
        &self.core.control_template
    }

    /// Makes branch `id` from `parent` at the record boundary `at`; durable on return.
    ///
    /// # Errors
    /// `Exists`, `NotFound` (the parent), `NotBoundary`, `BeforeStart`, `Ahead`.
    pub fn create_branch(&self, id: &BranchId, parent: &BranchId, at: Lsn) -> Result<()> {
        let core = &self.core;
        let _tree = core.tree.lock();
        if core.branch(id).is_ok() {
            return Err(StoreError::Exists { branch: id.clone() });
        }
        let parent = open_branch(core, parent)?;
        check_position(core, &parent, at)?;
        walk::exact_state(&core.wal, &parent, at)?;
        core.manifests.check_epoch()?;
        core.wal.clear_the_way(id)?;
        let entry =
            core.manifests.commit(|manifest| Ok(manifest.add(id, BranchEntry::new(Some(&parent.id), at))))?;
        core.insert(Arc::new(Branch::new(id.clone(), Some(parent.id.clone()), &entry, &core.account)));
        Ok(())
    }

    /// Removes a branch that has no children, with its own WAL and layers.
    ///
    /// # Errors
    /// `NotFound`, `HasChildren`.
    pub fn delete_branch(&self, id: &BranchId) -> Result<()> {
        let core = &self.core;
        let _tree = core.tree.lock();
        let branch = core.branch(id)?;
        for other in core.all() {
            if other.origin.as_ref() == Some(id) {
                return Err(StoreError::HasChildren { branch: id.clone(), child: other.id.clone() });
            }
        }
        // Nobody writes while it goes.
        let mut slot = branch.writer.lock();
        let entry = core.manifests.commit(|manifest| {
            manifest.branch(id, branch.incarnation)?;
            manifest.branches.remove(id.as_str()).ok_or_else(|| StoreError::NotFound { branch: id.clone() })
        })?;
        *slot = None;
        core.remove(id);
        // It is deleted. What cannot be removed now is listed nowhere, and is removed later.
        if let Some(unlisted) = branch.unlisted.lock().take() {
            core.discard_unlisted(unlisted);
        }
        entry.layers.into_iter().for_each(|layer| core.discard_layer(layer));
        core.wal.discard_branch(id);
        Ok(())
    }

    /// Every branch, by name.
    ///
    /// # Errors
    /// As `head`, and of reading directories.
    pub fn branches(&self) -> Result<Vec<BranchInfo>> {
        listing::infos_of(&self.core, &self.core.all())
    }

    /// Those of these names that there are.
    ///
    /// # Errors
    /// As `branches`.
    pub fn branches_of(&self, ids: &[BranchId]) -> Result<Vec<BranchInfo>> {
        let found: Vec<_> = ids.iter().filter_map(|id| self.core.find(id)).collect();
        listing::infos_of(&self.core, &found)
    }

    /// The name of every branch. No directory is read for it.
    pub fn branch_ids(&self) -> Vec<BranchId> {
        let manifest = self.core.manifests.get();
        let all = self.core.all().into_iter().map(|branch| branch.id.clone());
        all.filter(|id| manifest.branches.contains_key(id.as_str())).collect()
    }

    /// The branch that began on none, and where its log begins.
    pub fn first_branch(&self) -> Option<(BranchId, Lsn)> {
        let first = self.core.all().into_iter().find(|branch| branch.origin.is_none());
        first.map(|branch| (branch.id.clone(), branch.start))
    }

    /// End of the last whole durable record of a branch.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn head(&self, branch: &BranchId) -> Result<Lsn> {
        let branch = self.open_branch(branch)?;
        let head = branch.view.read().head;
        Ok(head)
    }

    /// Versions that a page is made of.
    #[cfg(test)]
    pub(crate) fn chain_length(&self, branch: &BranchId, key: types::Key, lsn: Lsn) -> usize {
        let mut lookups = [crate::table::value::Lookup::new(key, lsn)];
        self.open_branch(branch).unwrap().lookup(&mut lookups).unwrap();
        lookups[0].found.len()
    }

    /// End of the last whole record that is held of a branch, whether it could be read or not: where whoever wrote it
    /// goes on sending.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn log_end(&self, branch: &BranchId) -> Result<Lsn> {
        let branch = self.open_branch(branch)?;
        let slot = branch.writer.lock();
        slot.as_ref()
            .map(BranchWriter::framed)
            .ok_or_else(|| StoreError::NotFound { branch: branch.id.clone() })
    }

    /// What is held of a branch and cannot be read, and why; `None` if all of it can.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn unread(&self, branch: &BranchId) -> Result<Option<Unread>> {
        append::unread(&self.core, &self.open_branch(branch)?)
    }

    /// Tries again to take the records that could not be read, whatever the reason was; gives the head.
    ///
    /// # Errors
    /// `Stuck` or `Behind` if some still cannot be.
    pub fn retry_unread(&self, branch: &BranchId) -> Result<Lsn> {
        append::retry(&self.core, &self.open_branch(branch)?)
    }

    /// Gives up what is held beyond `at`, the last record that could be read: the branch goes on from there, and
    /// whoever writes it now is fenced. The WAL stays in its files, which nothing reads any more.
    ///
    /// # Errors
    /// `NotStuck` if all can be read, or up to another position; `HasChildren` if a branch begins beyond it.
    pub fn end_log(&self, branch: &BranchId, at: Lsn) -> Result<()> {
        let core = &self.core;
        let _tree = core.tree.lock();
        let branch = open_branch(core, branch)?;
        let beyond = |other: &Arc<Branch>| other.origin.as_ref() == Some(&branch.id) && other.start > at;
        if let Some(child) = core.all().into_iter().find(beyond) {
            return Err(StoreError::HasChildren { branch: branch.id.clone(), child: child.id.clone() });
        }
        append::end_log(core, &branch, at)
    }

    /// The last record boundary at or below `asked`, on the branch or, before its own start, on the ancestor that it
    /// has that part of its history from; the answer names which.
    ///
    /// # Errors
    /// `Ahead` beyond what is durable, `BeforeStart` before the project's, `Stuck`, `Behind`.
    pub fn resolve_lsn(&self, branch: &BranchId, asked: Lsn) -> Result<BranchPoint> {
        let mut branch = self.open_branch(branch)?;
        while let Some((parent, start)) = branch.parent()
            && asked < start
        {
            branch = parent.clone();
        }
        let state = match check_position(&self.core, &branch, asked) {
            // Inside the record that has not arrived in full.
            Err(StoreError::Ahead { head, .. }) if asked <= branch.durable() => {
                walk::cluster_state(&self.core.wal, &branch, head)?
            }
            Err(error) => return Err(error),
            Ok(()) => walk::cluster_state(&self.core.wal, &branch, asked)?,
        };
        Ok(BranchPoint { branch: branch.id.clone(), lsn: state.lsn, last_commit: state.last_commit })
    }

    /// Where the last transaction ended (its commit or abort record) at or before `at`, in the log before the first one
    /// that ended later; on the branch or an ancestor, which the answer names.
    ///
    /// Of a transaction that ended later nothing is to be seen there. `recovery_target_time` of Postgres stops right
    /// before the record that ends it, and so after all that redo does ahead of that record: a database being dropped
    /// is marked as invalid and its files are gone, a tablespace has no directory. Times in the log need not grow; what
    /// counts is which record comes first in the log. A prepared transaction ends with its COMMIT or ROLLBACK PREPARED.
    /// What a later transaction did before others ended that are seen cannot be left out: DROP DATABASE marks its row
    /// and waits for a checkpoint.
    ///
    /// # Errors
    /// `BeforeHistory`, `NotFound`, and `Stuck` or `Behind` if what cannot be read may be of before `at`.
    pub fn resolve_time(&self, branch: &BranchId, at: PgTime) -> Result<BranchPoint> {
        let branch = self.open_branch(branch)?;
        catch_up::bring_up_to_date(&self.core, &branch);
        walk::resolve_time(&self.core.wal, &branch, at, self.core.imported)
    }

    /// Begins a new timeline at the head of `branch` and fences the ones before it.
    ///
    /// # Errors
    /// `Stuck` if WAL after the head could not be understood, `NotFound`.
    pub fn begin_timeline(&self, branch: &BranchId) -> Result<NewTimeline> {
        let branch = self.open_branch(branch)?;
        let (timeline, state) = append::begin_timeline(&self.core, &branch)?;
        let start = state.cluster.lsn;
        let history = lineage::history(&branch, start);
        Ok(NewTimeline { timeline, start, state, history })
    }

    /// Takes WAL bytes that begin at `at`; they are durable up to the position returned.
    ///
    /// # Errors
    /// `Fenced`, `Gap`, `Full`, `FlushFailing`, `MemoryFull`. After an error nothing beyond what was returned before, or told to
    /// `wait_durable`, is acknowledged, and the same bytes can be sent again.
    pub fn append_wal(&self, branch: &BranchId, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<Lsn> {
        room::check_may_grow(&*self.core, branch, bytes.len())?;
        append::append(&self.core, &self.open_branch(branch)?, timeline, at, bytes)
    }

    /// Takes what a crashed server left in `pg_wal`; bytes that are no valid record end the log.
    ///
    /// # Errors
    /// As `append_wal`.
    pub fn append_tail(
        &self,
        branch: &BranchId,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<TailProgress> {
        room::check_may_grow(&*self.core, branch, bytes.len())?;
        append::append_tail(&self.core, &self.open_branch(branch)?, timeline, at, bytes)
    }

    /// Waits until WAL up to `upto` is durable.
    ///
    /// # Errors
    /// `Timeout`, `NotFound`.
    pub fn wait_durable(&self, branch: &BranchId, upto: Lsn, timeout: Duration) -> Result<()> {
        let branch = self.open_branch(branch)?;
        if branch.wait_durable(upto, timeout) {
            return Ok(());
        }
        Err(StoreError::Timeout { branch: branch.id.clone(), upto, durable: branch.durable() })
    }

    /// Everything but pages at the record boundary `lsn`.
    ///
    /// # Errors
    /// `NotBoundary`, `BeforeStart`, `Ahead`, `Stuck`, `Corrupt`.
    pub fn state_at(&self, branch: &BranchId, lsn: Lsn) -> Result<StateAt> {
        let branch = self.open_branch(branch)?;
        check_position(&self.core, &branch, lsn)?;
        cluster::state_at(&self.core.wal, self.core.redo, &branch, lsn)
    }

    /// Bytes of all relations at `lsn`, free space maps aside.
    ///
    /// # Errors
    /// `BeforeStart`, `Ahead`, `Stuck`, `Corrupt`.
    pub fn logical_bytes(&self, branch: &BranchId, lsn: Lsn) -> Result<u64> {
        let branch = self.open_branch(branch)?;
        check_position(&self.core, &branch, lsn)?;
        cluster::logical_bytes(&branch, lsn)
    }

    /// The branches that `branch` begins on, nearest first, each with the position up to which it is read.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn ancestors(&self, branch: &BranchId) -> Result<Vec<(BranchId, Lsn)>> {
        let mut branch = self.core.branch(branch)?;
        let mut all = Vec::new();
        while let Some(parent) = branch.origin.clone() {
            all.push((parent.clone(), branch.start));
            branch = self.core.branch(&parent)?;
        }
        Ok(all)
    }

    /// Fills `out`, a whole number of blocks, with the pages from `first` on, as they were at `lsn`, checksummed.
    ///
    /// # Errors
    /// `NoRelation`, `BeyondEnd`, `Unreadable`, `Redo`, `BeforeStart`, `Ahead`, `Stuck`, `Corrupt`.
    ///
    /// # Panics
    /// If `out` is not a whole number of blocks long.
    pub fn read_pages(
        &self,
        branch: &BranchId,
        lsn: Lsn,
        rel: RelFork,
        first: BlockNumber,
        out: &mut [u8],
    ) -> Result<()> {
        assert!(out.len().is_multiple_of(BLOCK_SIZE), "the caller asks for whole blocks");
        let branch = self.open_branch(branch)?;
        check_position(&self.core, &branch, lsn)?;
        pages::read_blocks(self.core.redo, &branch, lsn, (rel, first), out)
    }

    /// Fills `out`, a whole number of blocks, with pages of an SLRU from `first` on, as they were at `lsn`; zeros where there
    /// was none.
    ///
    /// # Errors
    /// `Unreadable`, `Redo`, `BeforeStart`, `Ahead`, `Stuck`, `Corrupt`.
    ///
    /// # Panics
    /// If `out` is not a whole number of blocks long.
    pub fn read_slru(
        &self,
        branch: &BranchId,
        lsn: Lsn,
        kind: SlruKind,
        first: u32,
        out: &mut [u8],
    ) -> Result<()> {
        assert!(out.len().is_multiple_of(BLOCK_SIZE), "the caller asks for whole blocks");
        let branch = self.open_branch(branch)?;
        check_position(&self.core, &branch, lsn)?;
        cluster::read_slru(self.core.redo, &branch, lsn, (kind, first), out)
    }

    /// What extensions' resource managers wrote that cannot be read at the head of `branch`, with at most `limit` forks.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn unreadable(&self, branch: &BranchId, limit: usize) -> Result<Unreadable> {
        let branch = self.open_branch(branch)?;
        let head = branch.view.read().head;
        unreadable::unreadable(&branch, head, limit)
    }

    /// The bytes of the WAL segment that holds `lsn`, from its start up to `lsn`, as a promotion would copy them.
    ///
    /// # Errors
    /// `BeforeStart`, `Ahead`, `Stuck`.
    pub fn wal_segment_prefix(&self, branch: &BranchId, lsn: Lsn) -> Result<Vec<u8>> {
        let branch = self.open_branch(branch)?;
        check_position(&self.core, &branch, lsn)?;
        let from = lsn.raw() - lsn.offset_in_segment(self.format().segment_bytes);
        // Segment 0 holds no WAL.
        let Some(from) = Lsn::from_raw(from) else { return Ok(Vec::new()) };
        lineage::read_wal(&self.core.wal, &branch, from, lsn)
    }

    /// How many branches are open: they hold memory. Those that nobody uses are closed after a while.
    pub fn open_branches(&self) -> usize {
        self.core.all().iter().filter(|branch| !branch.is_closed()).count()
    }

    /// Writes everything in memory of every open branch to layers. Nothing depends on it; it makes the next open
    /// faster.
    ///
    /// # Errors
    /// Of writing layers and the manifest.
    pub fn flush(&self) -> Result<()> {
        for branch in self.core.all() {
            if let Some(writer) = branch.writer.lock().as_mut() {
                writer.filed.freeze(&branch.view);
            }
            self.core.flushes.submit(&branch);
            self.core.flushes.wait_until_flushed(&branch)?;
        }
        flush::make_up(&self.core);
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: dir.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io(path)(error)),
    }
}
