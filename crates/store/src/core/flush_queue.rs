//! Branches whose frozen memtables wait for the disk, and what became of the attempts to write them.
//!
//! Invariants
//! - A branch waits at most once, however often it is handed in.
//! - Who waits is refused only for an attempt that began after the wait did: the disk may have recovered since the last one.
//!
//! Not here: how one is written (`core::flush`), who waits for memory (`memory::room`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::branch::Branch;
use crate::error::{Result, StoreError};
use crate::limits::{FLUSH_WAIT, FROZEN_MAX};
use crate::table::unlisted::Unlisted;

/// How long to wait before a layer that could not be written is tried again.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(2) } else { Duration::from_millis(500) };

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Branch>>,
    /// Attempts begun.
    attempts: u64,
    /// The last attempt that ended, if it failed, and why.
    failing: Option<(u64, String)>,
    /// When the attempt under way began.
    since: Option<Instant>,
    /// Layers that were made of memtables that are no longer there.
    abandoned: Vec<Unlisted>,
    /// Somebody waits to be told whether the next attempt fails too.
    is_awaited: bool,
    stop: bool,
}

/// What the flusher does next.
pub(crate) enum Next {
    /// It writes what of the branch is frozen.
    Write {
        /// The branch.
        branch: Arc<Branch>,
        /// The number of the attempt.
        attempt: u64,
    },
    /// It looks again.
    Nothing,
    /// It returns.
    Stop,
}

/// Work for the flusher, and what became of it.
#[derive(Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl FlushQueue {
    /// Hands in a branch that may have frozen memtables.
    pub(crate) fn submit(&self, branch: &Arc<Branch>) {
        let mut state = self.state.lock();
        if !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, branch)) {
            state.waiting.push_back(branch.clone());
        }
        self.changed.notify_all();
    }

    /// Takes a branch back; true if it was handed in and not yet taken.
    pub(crate) fn withdraw(&self, branch: &Arc<Branch>) -> bool {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, branch));
        state.waiting.len() < before
    }

    /// Hands in a layer that is to be removed: nobody goes on with it.
    pub(crate) fn abandon(&self, unlisted: Unlisted) {
        self.state.lock().abandoned.push(unlisted);
    }

    /// Why the disk takes no layer now, as far as is known: the last attempt failed and there is more to write, or one takes
    /// too long.
    pub(crate) fn failing(&self, now: Instant) -> Option<String> {
        let state = self.state.lock();
        let took = state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if took > FLUSH_WAIT {
            return Some(format!("the disk has been taking one for {} s", took.as_secs()));
        }
        let has_more = state.since.is_some() || !state.waiting.is_empty();
        state.failing.as_ref().filter(|_| has_more).map(|(_, reason)| reason.clone())
    }

    /// What the flusher does next; waits a while for something.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state.lock();
        let rests = |state: &State| state.failing.is_some() && !state.is_awaited;
        if !state.stop && (state.waiting.is_empty() || rests(&state)) {
            self.changed.wait_for(&mut state, PAUSE);
        }
        if state.stop {
            return Next::Stop;
        }
        let next = state.waiting.pop_front();
        state.attempts += u64::from(next.is_some());
        state.since = next.is_some().then(Instant::now);
        state.is_awaited &= next.is_none();
        next.map_or(Next::Nothing, |branch| Next::Write { branch, attempt: state.attempts })
    }

    /// Tells waiters that a memtable was written.
    pub(crate) fn wrote_one(&self) {
        self.changed.notify_all();
    }

    /// The attempt is over; why it failed, if it did. Then there will be another.
    pub(crate) fn ended(&self, branch: Arc<Branch>, attempt: u64, failed: Option<String>) {
        let mut state = self.state.lock();
        state.since = None;
        if failed.is_some() {
            state.waiting.push_back(branch);
        }
        state.failing = failed.map(|reason| (attempt, reason));
        self.changed.notify_all();
    }

    /// True if layers are to be removed.
    pub(crate) fn has_abandoned(&self) -> bool {
        !self.state.lock().abandoned.is_empty()
    }

    /// The layers that are to be removed.
    pub(crate) fn take_abandoned(&self) -> Vec<Unlisted> {
        std::mem::take(&mut self.state.lock().abandoned)
    }

    /// Makes the flusher return.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until few enough memtables of `branch` wait for the disk.
    ///
    /// # Errors
    /// `FlushFailing` if the disk takes none, or not in time.
    pub(crate) fn wait_for_room(&self, branch: &Branch) -> Result<()> {
        self.wait_below(branch, FROZEN_MAX)
    }

    /// Waits until no memtable of `branch` waits for the disk.
    ///
    /// # Errors
    /// As `wait_for_room`.
    pub(crate) fn wait_until_flushed(&self, branch: &Branch) -> Result<()> {
        self.wait_below(branch, 1)
    }

    /// The disk may have recovered since the last attempt, so only one that began after the call refuses it.
    fn wait_below(&self, branch: &Branch, frozen: usize) -> Result<()> {
        let deadline = Instant::now() + FLUSH_WAIT;
        let mut state = self.state.lock();
        let seen = state.attempts;
        while branch.view.read().frozen.len() >= frozen {
            let failed = state.failing.as_ref().filter(|(attempt, _)| *attempt > seen);
            let reason = match failed {
                Some((_, reason)) => reason.clone(),
                None if state.stop => "the project is being closed".to_owned(),
                None => {
                    state.is_awaited = true;
                    self.changed.notify_all();
                    if !self.changed.wait_until(&mut state, deadline).timed_out() {
                        continue;
                    }
                    format!("the disk did not take one within {} s", FLUSH_WAIT.as_secs())
                }
            };
            return Err(StoreError::FlushFailing { branch: branch.id.clone(), reason });
        }
        Ok(())
    }
}
