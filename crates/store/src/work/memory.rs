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
//! Not here: which memtable is written, which branch is closed (`keeper`).

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::branch::Branch;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::limits::{CACHE_BYTES, FAILING_SHARE, FREEZE_ABOVE, MEMORY_WAIT, MEMTABLES_BYTES, ROOM_SHARE};
use crate::table::layer::BlockCache;

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
    projects: Vec<Weak<Core>>,
    has_keeper: bool,
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
    pub(crate) fn enter(&self, core: &Arc<Core>) -> bool {
        let mut gate = self.gate.lock();
        gate.projects.retain(|core| core.strong_count() > 0);
        gate.projects.push(Arc::downgrade(core));
        !std::mem::replace(&mut gate.has_keeper, true)
    }

    /// The keeper could not be started.
    pub(crate) fn lost_keeper(&self) {
        self.gate.lock().has_keeper = false;
    }

    /// The open projects.
    pub(crate) fn projects(&self) -> Vec<Arc<Core>> {
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
        let failing =
            self.projects().into_iter().filter(|core| core.flushes.failing(Instant::now()).is_some());
        failing.map(|core| core.account.held()).sum()
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

impl Core {
    /// Refuses writers of a project whose layers cannot be written once such projects hold all that they may. They are
    /// refused before they hold a branch, so that the keeper can close it.
    pub(crate) fn check_may_grow(&self, branch: &types::BranchId, bytes: usize) -> Result<()> {
        let Some(reason) = self.flushes.failing(Instant::now()) else { return Ok(()) };
        let memory = self.account.memory();
        if memory.held_by_failing().saturating_add(self.room_of(bytes)) <= memory.failing_max() {
            return Ok(());
        }
        Err(StoreError::FlushFailing { branch: branch.clone(), reason })
    }

    /// What is set aside for records of `bytes`: never so much that it could not be had.
    fn room_of(&self, bytes: usize) -> usize {
        bytes.min(self.account.memory().limit / ROOM_SHARE)
    }

    /// Sets memory aside for records of `bytes` that are about to be filed in `branch`.
    ///
    /// # Errors
    /// `FlushFailing`, as `check_may_grow`.
    pub(crate) fn take_room(&self, branch: &Branch, bytes: usize) -> Result<Option<Charge>> {
        self.check_may_grow(&branch.id, bytes)?;
        let (memory, bytes) = (self.account.memory(), self.room_of(bytes));
        if !memory.take(bytes) {
            return Ok(None);
        }
        self.account.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(Some(Charge { account: self.account.clone(), bytes }))
    }

    /// As `take_room`, and waits for it. What the caller itself holds must be on its way to the disk.
    ///
    /// # Errors
    /// `MemoryFull` if none was given back in time; `FlushFailing`.
    pub(crate) fn wait_for_memory(&self, branch: &Branch, bytes: usize) -> Result<Charge> {
        self.wait_for_memory_within(branch, bytes, MEMORY_WAIT)
    }

    fn wait_for_memory_within(&self, branch: &Branch, bytes: usize, within: Duration) -> Result<Charge> {
        let memory = self.account.memory();
        let deadline = Instant::now() + within;
        memory.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            match self.take_room(branch, bytes) {
                Ok(None) => {}
                Ok(Some(room)) => break Ok(room),
                Err(error) => break Err(error),
            }
            let mut gate = memory.gate.lock();
            let is_full = |_: &mut Gate| memory.used().saturating_add(self.room_of(bytes)) > memory.limit;
            memory.wake.notify_all();
            if memory.freed.wait_while_until(&mut gate, is_full, deadline).timed_out() {
                let (held, max) = (memory.used(), memory.limit);
                break Err(StoreError::MemoryFull { branch: branch.id.clone(), held, max, waited: within });
            }
        };
        memory.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

#[cfg(test)]
mod tests;
