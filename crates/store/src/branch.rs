//! One branch in memory: its tables from newest to oldest, its waypoints and timelines, and who may write.
//!
//! ```text
//!  active memtable | frozen memtables | layers, newest first | parent's tables at or below the branch point | ...
//! ```
//!
//! Invariants
//! - A branch reads its parent only at or below its start.
//! - A branch is opened at first use, its ancestors before it; until then it costs a few hundred bytes. An open branch holds
//!   its parent, so that a branch nobody holds can be closed (`core::closing`).
//! - Lock order: writer of a child, writer of its parent, view. Nothing is read from disk under a view lock.
//!
//! Not here: what a record changes (`ingest::filing`), how versions become pages (`read::pages`).

pub(crate) mod extension;
pub(crate) mod filed;
pub(crate) mod lineage;
pub(crate) mod view;
pub(crate) mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, RwLock};
use types::{BranchId, Key, Lsn, TimelineId};

use crate::error::Result;
use crate::manifest::BranchEntry;
use crate::memory::Account;
use crate::table::unlisted::Unlisted;
use crate::table::value::{Kind, Lookup, Newest, Version};
use view::{Stuck, View};
use writer::BranchWriter;

/// One branch.
pub(crate) struct Branch {
    pub(crate) id: BranchId,
    /// Tells it from others that have had its name.
    pub(crate) incarnation: u64,
    /// The branch it begins on.
    pub(crate) origin: Option<BranchId>,
    /// That branch, open, from when this one is opened.
    parent: OnceLock<Arc<Branch>>,
    pub(crate) start: Lsn,
    pub(crate) view: RwLock<View>,
    pub(crate) writer: Mutex<Option<BranchWriter>>,
    timelines: RwLock<Vec<(TimelineId, Lsn)>>,
    durable: Mutex<Lsn>,
    durable_moved: Condvar,
    opened: AtomicBool,
    /// When it was last asked for, as `Memory::now` says.
    used: AtomicU64,
    account: Arc<Account>,
    /// The layer that the flusher has made of the oldest frozen memtable, while it could not be listed.
    pub(crate) unlisted: Mutex<Option<Unlisted>>,
}

impl Branch {
    /// A branch as the manifest lists it, not yet opened.
    pub(crate) fn new(
        id: BranchId,
        origin: Option<BranchId>,
        entry: &BranchEntry,
        account: &Arc<Account>,
    ) -> Self {
        let timelines = entry.timelines.iter().map(|&(id, begin)| (TimelineId::new(id), begin.0)).collect();
        Self {
            id,
            incarnation: entry.incarnation,
            origin,
            parent: OnceLock::new(),
            start: entry.start.0,
            view: RwLock::new(View::closed(account, entry.flushed.0)),
            writer: Mutex::new(None),
            timelines: RwLock::new(timelines),
            durable: Mutex::new(entry.flushed.0),
            durable_moved: Condvar::new(),
            opened: AtomicBool::new(false),
            used: AtomicU64::new(0),
            account: account.clone(),
            unlisted: Mutex::new(None),
        }
    }

    /// The same branch, not opened.
    pub(crate) fn closed(&mut self) -> Self {
        let entry = BranchEntry {
            incarnation: self.incarnation,
            ..BranchEntry::new(self.origin.as_ref(), self.start)
        };
        let mut closed = Self::new(self.id.clone(), self.origin.clone(), &entry, &self.account);
        closed.timelines = RwLock::new(self.timelines.get_mut().clone());
        closed
    }

    /// True once the branch holds more than its name.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// It holds all there is of it from here on.
    pub(crate) fn set_open(&self) {
        self.opened.store(true, Ordering::Release);
    }

    /// True if the branch holds no more than its name, and no other branch.
    pub(crate) fn is_closed(&self) -> bool {
        !self.is_open() && self.parent.get().is_none()
    }

    /// When it was last asked for.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that it is asked for now.
    pub(crate) fn touch(&self) {
        let now = self.account.memory().now();
        if self.used() != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// The parent of an open branch, and where this one begins on it.
    pub(crate) fn parent(&self) -> Option<(&Arc<Branch>, Lsn)> {
        self.origin.as_ref()?;
        Some((self.parent.get().expect("whoever opens a branch gave it its parent"), self.start))
    }

    /// Gives it its parent, which must be open.
    pub(crate) fn hold(&self, parent: &Arc<Branch>) {
        self.parent.get_or_init(|| parent.clone());
    }

    /// True if nothing is lost that the next to open it would not find as soon: it holds nothing that is in no layer, and
    /// nothing of its log is in doubt.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        let is_open = self.is_open();
        let view = self.view.get_mut();
        let has_unwritten = !view.active.is_empty() || !view.frozen.is_empty();
        !(is_open && (has_unwritten || view.stuck.is_some())) && self.unlisted.get_mut().is_none()
    }

    /// Its timelines and where each begins.
    pub(crate) fn timelines(&self) -> Vec<(TimelineId, Lsn)> {
        self.timelines.read().clone()
    }

    /// Adds a timeline as in the manifest: those that began later are no longer listed.
    pub(crate) fn add_timeline(&self, timeline: TimelineId, begin: Lsn) {
        let mut timelines = self.timelines.write();
        timelines.retain(|(_, began)| *began <= begin);
        timelines.push((timeline, begin));
    }

    /// Which of the branch's own timelines owns which part of `from..to`. WAL before the root's start belongs to
    /// its first timeline.
    pub(crate) fn spans(&self, from: Lsn, to: Lsn) -> Vec<(TimelineId, Lsn, Lsn)> {
        let timelines = self.timelines.read();
        let mut spans = Vec::new();
        for (index, &(timeline, begin)) in timelines.iter().enumerate() {
            let begin = if index == 0 && self.origin.is_none() { from.min(begin) } else { begin };
            let end = timelines.get(index + 1).map_or(Lsn::MAX, |next| next.1).min(to);
            let begin = begin.max(from);
            if begin < end {
                spans.push((timeline, begin, end));
            }
        }
        spans
    }

    /// Tells waiters that WAL is durable up to `upto`.
    pub(crate) fn publish(&self, upto: Lsn) {
        *self.durable.lock() = upto;
        self.durable_moved.notify_all();
    }

    /// WAL up to here is durable.
    pub(crate) fn durable(&self) -> Lsn {
        *self.durable.lock()
    }

    /// Waits until WAL up to `upto` is durable; false if that takes longer than `timeout`.
    pub(crate) fn wait_durable(&self, upto: Lsn, timeout: std::time::Duration) -> bool {
        let mut durable = self.durable.lock();
        let result = self.durable_moved.wait_while_for(&mut durable, |durable| *durable < upto, timeout);
        !result.timed_out() || *durable >= upto
    }

    /// Tells readers why the branch cannot be read beyond its head, if it cannot.
    pub(crate) fn show(&self, stuck: Option<Stuck>) {
        self.view.write().stuck = stuck;
    }

    /// Collects versions for each lookup, which are sorted by key, from this branch and its ancestors.
    pub(crate) fn lookup(&self, lookups: &mut [Lookup]) -> Result<()> {
        let mut branch = self;
        loop {
            let layers = {
                let view = branch.view.read();
                view.active.lookup(lookups)?;
                view.frozen.iter().rev().try_for_each(|table| table.lookup(lookups))?;
                view.layers.clone()
            };
            for layer in layers.iter().rev() {
                if lookups.iter().all(|lookup| lookup.done) {
                    return Ok(());
                }
                layer.lookup(lookups)?;
            }
            let Some((parent, start)) = branch.parent() else { return Ok(()) };
            lookups.iter_mut().for_each(|lookup| lookup.cap = lookup.cap.min(start));
            branch = parent;
        }
    }

    /// Records on a page in layers, of this branch and its ancestors, since its last full version, up to `CHAIN_MAX`.
    pub(crate) fn chain_in_layers(&self, key: &Key) -> Result<u8> {
        let (mut branch, mut cap, mut count) = (self, Lsn::MAX, 0);
        loop {
            let layers = branch.view.read().layers.clone();
            for layer in layers.iter().rev() {
                if layer.count_chain(key, cap, &mut count)? {
                    return Ok(count);
                }
            }
            let Some((parent, start)) = branch.parent() else { return Ok(count) };
            cap = cap.min(start);
            branch = parent;
        }
    }

    /// The newest version of `key` at or below `cap`; `None` if there is none or the key is gone.
    pub(crate) fn newest(&self, key: Key, cap: Lsn) -> Result<Option<Version>> {
        let mut lookups = [Lookup::new(key, cap)];
        self.lookup(&mut lookups)?;
        let [lookup] = lookups;
        Ok(lookup.found.into_iter().next().filter(|version| version.kind != Kind::Tombstone))
    }

    /// The newest version at or below `cap` of every key in `from..=to` that exists. Relation pages are not found, and of those
    /// of an SLRU only that they exist: they come without their bytes.
    pub(crate) fn scan(&self, from: Key, to: Key, cap: Lsn) -> Result<Newest> {
        let mut newest = Newest::new();
        let (mut branch, mut cap) = (self, cap);
        loop {
            let layers = {
                let view = branch.view.read();
                view.active.scan(&from, &to, cap, &mut newest)?;
                view.frozen.iter().rev().try_for_each(|table| table.scan(&from, &to, cap, &mut newest))?;
                view.layers.clone()
            };
            layers.iter().rev().try_for_each(|layer| layer.scan(&from, &to, cap, &mut newest))?;
            let Some((parent, start)) = branch.parent() else { break };
            cap = cap.min(start);
            branch = parent;
        }
        newest.retain(|_, version| version.kind != Kind::Tombstone);
        Ok(newest)
    }
}

impl Drop for Branch {
    /// Lets go of its ancestors one by one: each may be the last to hold the next.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut branch) = parent.and_then(Arc::into_inner) {
            parent = branch.parent.take();
        }
    }
}
