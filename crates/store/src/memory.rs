//! What all projects of a process may hold in memory together, and who waits when it is used up.
//!
//! ```text
//!  0 ------------------ half ---------- three quarters ---------- limit
//!    nobody waits        |               |                         |
//!                        |               |                         writers wait, and are refused in the end
//!                        |               the largest memtables are frozen and written (`keeper`)
//!                        all that projects whose disk takes nothing may hold; what is more is dropped (`keeper`)
//! ```
//!
//! Invariants
//! - A memtable counts from the moment it holds anything until its memory is given back, whoever holds it last.
//! - Who waits for memory holds none that cannot be given back: its own memtable was frozen before. What gives memory back,
//!   the flushers and the keeper, waits for nobody here.
//! - A project whose layers cannot be written keeps at most half, so the other half is always the others'.
//! - Reading a page and filing a record take no lock that is shared by projects.
//!
//! Not here: who waits (`room`), which memtable is written and which branch is closed (`memory::keeper`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use types::BranchId;

use crate::limits::{CACHE_BYTES, FAILING_SHARE, FREEZE_ABOVE, MEMTABLES_BYTES};

mod cache;
pub(crate) mod keeper;
pub(crate) mod room;

pub(crate) use cache::BlockCache;

/// What a set of projects, all of a server, share. They are opened with options that hold the same one.
pub struct Memory {
    limit: usize,
    cache: BlockCache,
    used: AtomicUsize,
    waiting: AtomicUsize,
    gate: Mutex<Gate>,
    freed: Condvar,
    wake: Condvar,
    began: Instant,
    /// Seconds since `began`, when the keeper last looked.
    now: AtomicU64,
}

#[derive(Default)]
struct Gate {
    projects: Vec<Weak<dyn Holder>>,
    has_keeper: bool,
}

/// A project, as far as what it holds in memory concerns the others.
pub(crate) trait Holder: Send + Sync {
    /// What its memtables hold.
    fn account(&self) -> &Arc<Account>;
    /// Why its disk takes no layer now; `None` if it does, as far as is known.
    fn failing(&self, now: Instant) -> Option<String>;
    /// Its branches that hold more than their names.
    fn holdings(&self) -> Vec<Holding>;
    /// When a branch was last asked for, as `Memory::now` says, and the branch it begins on; `None` if it is no longer there.
    fn last_used(&self, branch: &BranchId) -> Option<(u64, Option<BranchId>)>;
    /// Freezes a branch's memtable, so that it is written, unless somebody writes to it now. True if it is frozen.
    fn freeze(&self, branch: &BranchId) -> bool;
    /// Closes a branch that nobody holds; first, if there is need, sends to the disk what is in no layer. True if it is closed
    /// now, or will be the next time.
    fn close(&self, branch: &BranchId) -> bool;
    /// Closes a branch that nobody holds but the flusher's queue: what is in no layer is read from the WAL again by whoever
    /// opens it.
    fn close_unwritten(&self, branch: &BranchId);
}

/// What one branch holds.
pub(crate) struct Holding {
    pub(crate) branch: BranchId,
    pub(crate) is_open: bool,
    /// True if it holds neither more than its name nor another branch, but a memtable of an attempt to open it that failed.
    pub(crate) is_closed: bool,
    /// Bytes of the memtable that is written to.
    pub(crate) active: usize,
    /// How many memtables wait for the disk, and their bytes.
    pub(crate) frozen: (usize, usize),
    /// When it was last asked for, as `Memory::now` says.
    pub(crate) used: u64,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} of {} bytes)", self.used(), self.limit)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MEMTABLES_BYTES)
    }
}

impl Memory {
    /// At most so many bytes of memtables.
    pub fn new(memtable_bytes: usize) -> Self {
        Self::with_cache(memtable_bytes, CACHE_BYTES)
    }

    fn with_cache(memtable_bytes: usize, cache_bytes: u64) -> Self {
        Self {
            limit: memtable_bytes,
            cache: BlockCache::new(cache_bytes),
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gate: Mutex::default(),
            freed: Condvar::new(),
            wake: Condvar::new(),
            began: Instant::now(),
            now: AtomicU64::new(0),
        }
    }

    /// Bytes of memtables held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of memtables at which the largest are written.
    pub(crate) fn comfortable(&self) -> usize {
        self.limit / FREEZE_ABOVE.1 * FREEZE_ABOVE.0
    }

    /// Bytes that projects whose layers cannot be written may hold together.
    pub(crate) fn failing_max(&self) -> usize {
        self.limit / FAILING_SHARE
    }

    /// Decompressed blocks, for the layers of one more project.
    pub(crate) fn cache(&self) -> BlockCache {
        self.cache.of_another_project()
    }

    /// A coarse time, in seconds: reading a clock costs more than some reads of a page.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The coarse time is `now` from here on; gives it.
    pub(crate) fn tick(&self, now: Instant) -> u64 {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        self.now.fetch_max(seconds, Ordering::Relaxed).max(seconds)
    }

    /// Makes a project known to the keeper. True if there is no keeper yet: then the caller starts it.
    pub(crate) fn enter(&self, project: Weak<dyn Holder>) -> bool {
        let mut gate = self.gate.lock();
        gate.projects.retain(|project| project.strong_count() > 0);
        gate.projects.push(project);
        !std::mem::replace(&mut gate.has_keeper, true)
    }

    /// The keeper could not be started.
    pub(crate) fn lost_keeper(&self) {
        self.gate.lock().has_keeper = false;
    }

    /// The open projects.
    pub(crate) fn projects(&self) -> Vec<Arc<dyn Holder>> {
        self.gate.lock().projects.iter().filter_map(Weak::upgrade).collect()
    }

    /// The keeper's rest, which ends early when somebody waits for memory.
    pub(crate) fn rest(&self, pause: Duration) {
        let mut gate = self.gate.lock();
        if self.waiting.load(Ordering::SeqCst) == 0 {
            self.wake.wait_for(&mut gate, pause);
        } else {
            // What it did for those who wait takes a while to be written.
            self.freed.wait_for(&mut gate, pause);
        }
    }

    fn held_by_failing(&self) -> usize {
        let projects = self.projects().into_iter();
        let failing = projects.filter(|project| project.failing(Instant::now()).is_some());
        failing.map(|project| project.account().held()).sum()
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::SeqCst, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Whoever waits has looked at `used` under the lock, or will.
            drop(self.gate.lock());
            self.freed.notify_all();
        }
    }
}

/// The part of a `Memory` that one project holds.
pub(crate) struct Account {
    memory: Arc<Memory>,
    held: AtomicUsize,
}

impl Account {
    /// An account of one more project.
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, held: AtomicUsize::new(0) }
    }

    /// What it is a part of.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Bytes that are held, until it is dropped.
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Of nothing yet.
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self { account: account.clone(), bytes: 0 }
    }

    /// Whose it is.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// It is `bytes` from here on.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes == before {
            return;
        }
        if let Some(more) = bytes.checked_sub(before) {
            self.account.held.fetch_add(more, Ordering::Relaxed);
            self.account.memory.used.fetch_add(more, Ordering::Relaxed);
        } else {
            self.account.held.fetch_sub(before - bytes, Ordering::Relaxed);
            self.account.memory.give_back(before - bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests;
