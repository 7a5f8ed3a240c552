//! One project: a tree of branches in one directory. The door of this crate.

use std::path::Path;
use std::time::Duration;

use types::{BlockNumber, BranchId, Lsn, PgTime, RelFork, TimelineId};
use wal::WalFormat;

use crate::answer::{
    BranchInfo, BranchPoint, ClusterImport, NewTimeline, StateAt, StoreOptions, TailProgress,
};
use crate::error::{Result, StoreError};

/// A project directory opened for reading and writing. All methods take `&self` and may be called from any thread.
pub struct Project {
    format: WalFormat,
    control_template: Vec<u8>,
}

impl Project {
    /// Creates a project in `dir` from a cluster that was shut down cleanly.
    pub fn create(dir: &Path, import: &ClusterImport) -> Result<Self> {
        Self::create_with(dir, import, StoreOptions::default())
    }

    /// `create` with sizes other than the default.
    pub fn create_with(dir: &Path, import: &ClusterImport, options: StoreOptions) -> Result<Self> {
        let _ = (import, options);
        Err(StoreError::Locked { path: dir.to_owned() })
    }

    /// Opens the project in `dir`. Everything acknowledged before a crash is there.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// `open` with sizes other than the default.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self> {
        let _ = options;
        Err(StoreError::Locked { path: dir.to_owned() })
    }

    /// What the WAL of this project looks like.
    pub fn format(&self) -> WalFormat {
        self.format
    }

    /// The 8192 bytes of `pg_control` as imported.
    pub fn control_template(&self) -> &[u8] {
        &self.control_template
    }

    /// Makes branch `id` from `parent` at the record boundary `at`; durable on return.
    pub fn create_branch(&self, id: &BranchId, parent: &BranchId, at: Lsn) -> Result<()> {
        let _ = (parent, at);
        Err(StoreError::NotFound { branch: id.clone() })
    }

    /// Removes a branch that has no children, with its own WAL and layers.
    pub fn delete_branch(&self, id: &BranchId) -> Result<()> {
        Err(StoreError::NotFound { branch: id.clone() })
    }

    /// Every branch, by name.
    pub fn branches(&self) -> Result<Vec<BranchInfo>> {
        Ok(Vec::new())
    }

    /// End of the last whole durable record of a branch.
    pub fn head(&self, branch: &BranchId) -> Result<Lsn> {
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// The last record boundary at or below `asked`.
    pub fn resolve_lsn(&self, branch: &BranchId, asked: Lsn) -> Result<BranchPoint> {
        let _ = asked;
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// The boundary before the first commit or abort later than `at`, as `recovery_target_time` finds it.
    pub fn resolve_time(&self, branch: &BranchId, at: PgTime) -> Result<BranchPoint> {
        let _ = at;
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Begins a new timeline at the head of `branch` and fences the ones before it.
    pub fn begin_timeline(&self, branch: &BranchId) -> Result<NewTimeline> {
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Takes WAL bytes that begin at `at`; they are durable up to the position returned.
    pub fn append_wal(&self, branch: &BranchId, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<Lsn> {
        let _ = (timeline, at, bytes);
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Takes what a crashed server left in `pg_wal`; bytes that are no valid record end the log.
    pub fn append_tail(
        &self,
        branch: &BranchId,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<TailProgress> {
        let _ = (timeline, at, bytes);
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Waits until WAL up to `upto` is durable.
    pub fn wait_durable(&self, branch: &BranchId, upto: Lsn, timeout: Duration) -> Result<()> {
        let _ = (upto, timeout);
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Everything but pages at the record boundary `lsn`.
    pub fn state_at(&self, branch: &BranchId, lsn: Lsn) -> Result<StateAt> {
        let _ = lsn;
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// Fills `out`, a whole number of blocks, with the pages from `first` on, as they were at `lsn`, checksummed.
    pub fn read_pages(
        &self,
        branch: &BranchId,
        lsn: Lsn,
        rel: RelFork,
        first: BlockNumber,
        out: &mut [u8],
    ) -> Result<()> {
        let _ = (lsn, rel, first, out);
        Err(StoreError::NotFound { branch: branch.clone() })
    }

    /// The bytes of the WAL segment that holds `lsn`, from its start up to `lsn`, as a promotion would copy them.
    pub fn wal_segment_prefix(&self, branch: &BranchId, lsn: Lsn) -> Result<Vec<u8>> {
        let _ = lsn;
        Err(StoreError::NotFound { branch: branch.clone() })
    }
}
