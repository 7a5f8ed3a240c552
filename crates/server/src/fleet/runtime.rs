//! What this server knows of the processes of endpoints: who has one in hand, how it was when last looked at, the child.
//!
//! Nothing here outlives the server: what is not known is looked at again.
//!
//! Not here: looking, starting and stopping (`endpoints`).

use std::collections::{BTreeMap, HashMap};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::endpoint::EndpointState;
use compute::Quarantine;
use compute::control::{State, Status};
use parking_lot::Mutex;

use crate::error::Error;
use crate::limits::START_AGAIN_MAX_S;

/// What is known of every endpoint's process.
#[derive(Default)]
pub struct Endpoints {
    known: Mutex<HashMap<String, Arc<Runtime>>>,
}

/// What is known of one endpoint's process.
#[derive(Default)]
pub struct Runtime {
    /// Held by whoever starts or stops it.
    pub turn: Mutex<()>,
    /// True while the reconciler has it in hand, or in its queue.
    pub in_hand: AtomicBool,
    /// Whether its process did not answer the last look in time.
    pub silent: AtomicBool,
    observed: Mutex<Observed>,
    child: Mutex<Option<Child>>,
    /// Whether what its start put to rest is in the metadata.
    pub quarantine_recorded: AtomicBool,
    /// The process whose end wakes the reconciler.
    watched: AtomicU32,
}

/// How an endpoint was when last looked at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where it is in its life.
    pub state: EndpointState,
    /// Why, if that is not what was wanted.
    pub reason: Option<String>,
    /// What was wrong with the page its Postgres could not read last.
    pub last_read_error: Option<String>,
    /// What was wrong with all pages it could not read.
    pub read_errors: Vec<String>,
    /// How many reads failed.
    pub read_failures: u64,
    /// What its last start spent its time on.
    pub phases_ms: BTreeMap<String, f64>,
    /// What its start put to rest, if that was asked of it.
    pub quarantine: Option<Box<Quarantine>>,
    /// Process ids of Postgres and of its compute, while there are any.
    pub postgres_pid: Option<u32>,
    /// See `postgres_pid`.
    pub compute_pid: Option<u32>,
    /// Failed starts in a row.
    pub failures: u32,
    /// Not to be started before this.
    pub retry_at: Option<Instant>,
    /// Whether anything was seen or done since this server runs.
    pub known: bool,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            state: EndpointState::Idle,
            reason: None,
            last_read_error: None,
            read_errors: Vec::new(),
            read_failures: 0,
            phases_ms: BTreeMap::new(),
            quarantine: None,
            postgres_pid: None,
            compute_pid: None,
            failures: 0,
            retry_at: None,
            known: false,
        }
    }
}

impl Endpoints {
    /// What is known of endpoint `id`.
    pub fn of(&self, id: &str) -> Arc<Runtime> {
        Arc::clone(self.known.lock().entry(id.to_owned()).or_default())
    }

    /// How endpoint `id` was when last looked at. Nothing is kept for one that nobody started or looked at, or that is gone.
    pub fn observed(&self, id: &str) -> Observed {
        let runtime = self.known.lock().get(id).cloned();
        runtime.map_or_else(Observed::default, |runtime| runtime.observed())
    }

    /// Forgets an endpoint that was removed.
    pub fn forget(&self, id: &str) {
        self.known.lock().remove(id);
    }
}

impl Runtime {
    /// How it was when last looked at.
    pub fn observed(&self) -> Observed {
        self.observed.lock().clone()
    }

    /// Notes what was seen.
    pub fn note(&self, state: EndpointState, reason: Option<String>) {
        let mut observed = self.observed.lock();
        observed.state = state;
        observed.reason = reason;
        observed.known = true;
        observed.postgres_pid = None;
        observed.compute_pid = None;
        observed.last_read_error = None;
        observed.read_errors.clear();
        observed.read_failures = 0;
    }

    /// Notes that its process is not there, unless that is known already.
    pub fn note_dead(&self) {
        if self.observed.lock().state == EndpointState::Active {
            self.note(EndpointState::Init, Some("its process died and is being started again".to_owned()));
        }
    }

    /// Notes a start that failed, so that the next attempt waits longer.
    pub fn note_failure(&self, error: &Error) {
        self.note(EndpointState::Idle, Some(error.message.clone()));
        let mut observed = self.observed.lock();
        let wait_s =
            1_u64.checked_shl(observed.failures).map_or(START_AGAIN_MAX_S, |s| s.min(START_AGAIN_MAX_S));
        observed.failures = observed.failures.saturating_add(1);
        observed.retry_at = Some(Instant::now() + Duration::from_secs(wait_s));
    }

    /// Notes what its process says of itself.
    pub fn note_status(&self, status: &Status) {
        let state = match status.state {
            State::Running => EndpointState::Active,
            State::Starting | State::Stopping => EndpointState::Init,
            State::Stopped | State::Failed => EndpointState::Idle,
        };
        self.note(state, status.reason.clone());
        let mut observed = self.observed.lock();
        observed.postgres_pid = status.postgres_pid;
        observed.compute_pid = Some(status.compute_pid);
        observed.last_read_error.clone_from(&status.last_read_error);
        observed.read_errors.clone_from(&status.failed_reads.texts);
        observed.read_failures = status.failed_reads.count;
        observed.quarantine.clone_from(&status.quarantine);
        if status.state == State::Running {
            observed.failures = 0;
            observed.retry_at = None;
            observed.phases_ms.extend(phases(status));
        }
    }

    /// True once for each process: whoever looks at it first has its end told.
    pub fn is_first_look_at(&self, compute_pid: u32) -> bool {
        self.watched.swap(compute_pid, Ordering::AcqRel) != compute_pid
    }

    /// Notes how long a part of its start took that its process does not see.
    pub fn note_phase(&self, phase: &str, ms: f64) {
        self.observed.lock().phases_ms.insert(phase.to_owned(), ms);
    }

    /// Notes the process that this server started.
    pub fn note_child(&self, child: Child) {
        *self.child.lock() = Some(child);
    }

    /// The process id of the child, if there is one.
    pub fn child_pid(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// True once the process that this server started has ended, or if it started none.
    pub fn child_ended(&self) -> bool {
        let mut child = self.child.lock();
        let ended = child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            *child = None;
        }
        ended
    }

    /// Waits until the process that this server started has ended.
    pub fn reap(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.child_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn phases(status: &Status) -> BTreeMap<String, f64> {
    let value = serde_json::to_value(status.phases).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_show_an_endpoint_that_is_gone_remembers_nothing_of_it() {
        let endpoints = Endpoints::default();
        endpoints.of("ep-a").note_failure(&Error::unavailable("x"));
        assert_eq!(endpoints.observed("ep-a").reason.as_deref(), Some("x"));
        endpoints.forget("ep-a");
        assert_eq!(endpoints.observed("ep-a").reason, None);
        assert!(endpoints.known.lock().is_empty());
    }

    #[test]
    fn failed_starts_wait_longer_each_time() {
        let runtime = Runtime::default();
        for wait in [1, 2, 4, 8, 16, 32, 32].map(Duration::from_secs) {
            let before = Instant::now();
            runtime.note_failure(&Error::unavailable("x"));
            let retry_at = runtime.observed().retry_at.unwrap();
            assert!(before + wait <= retry_at && retry_at <= Instant::now() + wait, "{wait:?}");
        }
    }
}
