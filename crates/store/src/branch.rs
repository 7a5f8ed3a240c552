//! One branch in memory: its tables from newest to oldest, its waypoints and timelines, and who may write.
//!
//! ```text
//!  active memtable | frozen memtables | layers, newest first | parent's tables at or below the branch point | ...
//! ```
//!
//! Invariants
//! - A branch reads its parent only at or below its start.
//! - A branch is opened at first use, its ancestors before it; until then it costs a few hundred bytes.
//! - Lock order: writer of a child, writer of its parent, view. Nothing is read from disk under a view lock.
//!
//! Not here: what a record changes (`ingest`), how versions become pages (`page_read`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};
use types::{BranchId, ClusterState, Key, Lsn, TimelineId};

use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::flush::Unlisted;
use crate::layer::Layer;
use crate::manifest::BranchEntry;
use crate::memtable::Memtable;
use crate::tip::{Retry, Stuck, Tip};
use crate::value::{Kind, Lookup, Newest, Version};

/// What readers see.
pub(crate) struct View {
    pub(crate) active: Memtable,
    /// Oldest first.
    pub(crate) frozen: VecDeque<Arc<Memtable>>,
    /// Oldest first.
    pub(crate) layers: Arc<Vec<Arc<Layer>>>,
    /// Sorted by position; the first is at the branch's start.
    pub(crate) waypoints: Vec<ClusterState>,
    /// End of the last record taken.
    pub(crate) head: Lsn,
    /// Why no record after `head` can be taken.
    pub(crate) stuck: Option<Stuck>,
}

/// One branch.
pub(crate) struct Branch {
    pub(crate) id: BranchId,
    /// Tells it from others that have had its name.
    pub(crate) incarnation: u64,
    pub(crate) parent: Option<(Arc<Branch>, Lsn)>,
    pub(crate) start: Lsn,
    pub(crate) view: RwLock<View>,
    pub(crate) writer: Mutex<Option<Tip>>,
    timelines: RwLock<Vec<(TimelineId, Lsn)>>,
    durable: Mutex<Lsn>,
    durable_moved: Condvar,
    opened: AtomicBool,
    /// The layer that the flusher has made of the oldest frozen memtable, while it could not be listed.
    pub(crate) unlisted: Mutex<Option<Unlisted>>,
}

impl Branch {
    /// A branch as the manifest lists it, not yet opened.
    pub(crate) fn new(id: BranchId, parent: Option<(Arc<Branch>, Lsn)>, entry: &BranchEntry) -> Self {
        let timelines = entry.timelines.iter().map(|&(id, begin)| (TimelineId::new(id), begin.0)).collect();
        Self {
            id,
            incarnation: entry.incarnation,
            parent,
            start: entry.start.0,
            view: RwLock::new(View {
                active: Memtable::default(),
                frozen: VecDeque::new(),
                layers: Arc::default(),
                waypoints: Vec::new(),
                head: entry.flushed.0,
                stuck: None,
            }),
            writer: Mutex::new(None),
            timelines: RwLock::new(timelines),
            durable: Mutex::new(entry.flushed.0),
            durable_moved: Condvar::new(),
            opened: AtomicBool::new(false),
            unlisted: Mutex::new(None),
        }
    }

    /// True once the branch holds more than its name.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// Opens the branch and its ancestors: rebuilds the memtable from WAL that is in no layer.
    pub(crate) fn ensure_open(self: &Arc<Self>, core: &Core) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        if let Some((parent, _)) = &self.parent {
            parent.ensure_open(core)?;
        }
        let mut writer = self.writer.lock();
        if self.is_open() {
            return Ok(());
        }
        let entry = core.manifests.get().branch(&self.id, self.incarnation)?.clone();
        let state = self.load_tables(core, &entry)?;
        let mut tip = Tip::new(core.format, state);
        self.replay(core, &mut tip)?;
        *writer = Some(tip);
        self.opened.store(true, Ordering::Release);
        core.flushes.submit(self);
        Ok(())
    }

    /// Opens the layers; gives the state at their end.
    fn load_tables(&self, core: &Core, entry: &BranchEntry) -> Result<ClusterState> {
        let mut waypoints = match &self.parent {
            Some((parent, start)) => vec![parent.cluster_state(core, *start)?],
            None => Vec::new(),
        };
        let mut layers = Vec::with_capacity(entry.layers.len());
        for &id in &entry.layers {
            let layer = Layer::open(id, core.objects.clone(), core.cache.clone())?;
            waypoints.extend(layer.waypoints()?);
            layers.push(Arc::new(layer));
        }
        let state = waypoints.last().filter(|state| state.lsn == entry.flushed.0).cloned();
        let state = state.ok_or_else(|| {
            let reason = format!("layers of branch {} do not end at {}", self.id, entry.flushed.0);
            StoreError::corrupt("the manifest", 0, reason)
        })?;
        let mut view = self.view.write();
        view.active = Memtable::default();
        view.frozen.clear();
        view.layers = Arc::new(layers);
        view.waypoints = waypoints;
        view.head = state.lsn;
        view.stuck = None;
        Ok(state)
    }

    fn replay(&self, core: &Core, tip: &mut Tip) -> Result<()> {
        let from = tip.state().lsn;
        let last = self.timelines().last().copied();
        let mut end = from;
        if let Some((timeline, begin)) = last {
            core.wal.settle(&self.id, timeline, from)?;
            end = core.wal.extent(&self.id, timeline)?.unwrap_or(begin).max(begin).max(from);
        }
        for (timeline, begin, upto) in self.spans(from, end) {
            tip.begin(timeline, begin);
            tip.replay(core, self, begin, upto)?;
            if last.is_none_or(|(newest, _)| newest != timeline) {
                tip.pass_damage();
            } else if tip.is_broken() {
                end = tip.tear(timeline);
            }
        }
        if let Some((timeline, begin)) = last
            && tip.timeline() != Some(timeline)
        {
            tip.begin(timeline, begin.max(from));
        }
        tip.durable = end;
        tip.show(self);
        self.publish(end);
        Ok(())
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

    /// End of what the files of its newest timeline hold, whatever it is.
    pub(crate) fn extent(&self, core: &Core) -> Result<Lsn> {
        let Some((timeline, begin)) = self.timelines().last().copied() else { return Ok(self.start) };
        Ok(core.wal.extent(&self.id, timeline)?.unwrap_or(begin).max(begin))
    }

    /// Which of the branch's own timelines owns which part of `from..to`. WAL before the root's start belongs to
    /// its first timeline.
    pub(crate) fn spans(&self, from: Lsn, to: Lsn) -> Vec<(TimelineId, Lsn, Lsn)> {
        let timelines = self.timelines.read();
        let mut spans = Vec::new();
        for (index, &(timeline, begin)) in timelines.iter().enumerate() {
            let begin = if index == 0 && self.parent.is_none() { from.min(begin) } else { begin };
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

    /// Waits for the writer and files what a fault that passed held up; `Ok` says nothing of what is held.
    pub(crate) fn settle(&self, core: &Core) {
        // What is durable may be on its way into the memtable: the writer has it.
        if let Some(tip) = self.writer.lock().as_mut() {
            // Why not is in the view.
            let _ = tip.catch_up(core, self, Retry::Passing);
        }
    }

    /// Refuses positions that this branch cannot answer.
    pub(crate) fn check_position(&self, core: &Core, asked: Lsn) -> Result<()> {
        if asked < self.start {
            let parent = self.parent.as_ref().map(|(parent, _)| parent.id.clone());
            return Err(StoreError::BeforeStart {
                branch: self.id.clone(),
                asked,
                start: self.start,
                parent,
            });
        }
        let ahead = |view: &View| asked > view.head;
        if !ahead(&self.view.read()) {
            return Ok(());
        }
        self.settle(core);
        let view = self.view.read();
        if !ahead(&view) {
            return Ok(());
        }
        match &view.stuck {
            Some(stuck) if asked <= self.durable() => Err(stuck.error(self, view.head)),
            _ => Err(StoreError::Ahead { branch: self.id.clone(), asked, head: view.head }),
        }
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
            let Some((parent, start)) = &branch.parent else { return Ok(()) };
            lookups.iter_mut().for_each(|lookup| lookup.cap = lookup.cap.min(*start));
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
            let Some((parent, start)) = &branch.parent else { return Ok(count) };
            cap = cap.min(*start);
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
            let Some((parent, start)) = &branch.parent else { break };
            cap = cap.min(*start);
            branch = parent;
        }
        newest.retain(|_, version| version.kind != Kind::Tombstone);
        Ok(newest)
    }
}

/// An error and its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
