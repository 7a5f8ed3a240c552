//! Permits for what the server has only so many of at once: hidden Postgres servers, starts of endpoints.
//!
//! ```text
//!   waiting:  a  b  b  c       a needs two permits and one is free: nobody passes a
//!                              b's project has all permits that it may have: c passes both of its project
//! ```
//!
//! What must hold
//! - Who needs two takes both at once or none, so that no two requests hold one each and wait for each other's.
//! - First come, first served. Only who waits for a permit among those of its own project is passed, by other projects.
//! - Every wait has an end, and then says what it waited for.
//!
//! Not here: how many requests are at work (`http::lanes`), which are not counted by what they use.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::limits::{PermitLimits, UNWANTED_LOOK};
use crate::machine::work;

/// Permits of one kind.
#[derive(Clone)]
pub struct Permits(Arc<All>);

struct All {
    limits: PermitLimits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many each project has.
    taken: HashMap<String, usize>,
    /// Who waits, in the order they came.
    waiting: VecDeque<Waiter>,
    tickets: u64,
}

struct Waiter {
    ticket: u64,
    project: String,
    permits: usize,
}

/// Permits that are somebody's until this is dropped.
pub struct Permit {
    all: Arc<All>,
    project: String,
    permits: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        if let Some(taken) = state.taken.get_mut(&self.project) {
            *taken = taken.saturating_sub(self.permits);
            if *taken == 0 {
                state.taken.remove(&self.project);
            }
        }
        self.all.changed.notify_all();
    }
}

impl Permit {
    /// Gives one of several away.
    pub fn split(&mut self) -> Option<Self> {
        if self.permits < 2 {
            return None;
        }
        self.permits -= 1;
        Some(Self { all: Arc::clone(&self.all), project: self.project.clone(), permits: 1 })
    }
}

impl Permits {
    /// As many as `limits` says.
    pub fn new(limits: PermitLimits) -> Self {
        Self(Arc::new(All { limits, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Takes so many permits for a project, all at once.
    ///
    /// # Errors
    /// `Unavailable` if they are not to be had in time, or if the client that this thread works for has gone.
    pub fn take(&self, project: &str, permits: usize) -> Result<Permit> {
        let limits = &self.0.limits;
        debug_assert!((1..=limits.of_project).contains(&permits), "{permits} are never to be had");
        let deadline = Instant::now() + limits.wait_within;
        let mut state = self.0.state.lock();
        let ticket = state.wait(project, permits);
        while !state.is_next(ticket, limits) {
            if Instant::now() >= deadline || work::unwanted() {
                state.leave(ticket);
                // Who waited behind this one may be next.
                self.0.changed.notify_all();
                return Err(none(limits));
            }
            self.0.changed.wait_until(&mut state, deadline.min(Instant::now() + UNWANTED_LOOK));
        }
        state.leave(ticket);
        *state.taken.entry(project.to_owned()).or_default() += permits;
        self.0.changed.notify_all();
        Ok(Permit { all: Arc::clone(&self.0), project: project.to_owned(), permits })
    }
}

impl State {
    fn wait(&mut self, project: &str, permits: usize) -> u64 {
        self.tickets += 1;
        self.waiting.push_back(Waiter { ticket: self.tickets, project: project.to_owned(), permits });
        self.tickets
    }

    fn leave(&mut self, ticket: u64) {
        self.waiting.retain(|waiter| waiter.ticket != ticket);
    }

    fn is_next(&self, ticket: u64, limits: &PermitLimits) -> bool {
        let free = limits.at_once.saturating_sub(self.taken.values().sum());
        let mut full: HashSet<&str> = HashSet::new();
        for waiter in &self.waiting {
            let project = waiter.project.as_str();
            let taken = self.taken.get(project).copied().unwrap_or(0);
            if full.contains(project) || taken + waiter.permits > limits.of_project {
                full.insert(project);
                continue;
            }
            return waiter.ticket == ticket && waiter.permits <= free;
        }
        false
    }
}

fn none(limits: &PermitLimits) -> Error {
    let PermitLimits { what, at_once, of_project, wait_within, .. } = limits;
    let text = format!(
        "the server is busy: no place for {what} became free within {} s; there are {at_once}, {of_project} of them \
         for one project",
        wait_within.as_secs()
    );
    Error::crowded(format!("{text}\nhint: try again a little later")).again_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    fn permits(at_once: usize, of_project: usize, wait_within: Duration) -> Permits {
        Permits::new(PermitLimits { what: "a test", at_once, of_project, wait_within })
    }

    /// Takes permits on a thread of its own, and keeps them for as long as the sender lives that it returns; says when it
    /// has them. Returns once it waits or has them.
    fn taker(
        permits: &Permits,
        project: &'static str,
        count: usize,
    ) -> (mpsc::Sender<()>, mpsc::Receiver<bool>) {
        let (end, ended) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel();
        let before = permits.0.state.lock().tickets;
        let own = permits.clone();
        thread::spawn(move || {
            let taken = own.take(project, count);
            let _ = say.send(taken.is_ok());
            let _ = ended.recv();
            drop(taken);
        });
        while permits.0.state.lock().tickets == before {
            thread::yield_now();
        }
        (end, said)
    }

    fn has(said: &mpsc::Receiver<bool>) -> bool {
        said.recv_timeout(LONG) == Ok(true)
    }

    #[test]
    fn who_finds_none_in_time_is_told_of_what_there_is_none() {
        let permits = permits(1, 1, SOON);
        let held = permits.take("p", 1).unwrap();
        let error = permits.take("q", 1).err().unwrap();
        assert_eq!((error.kind, error.retry_after_s), (Kind::Unavailable, Some(5)));
        assert!(error.is_crowded() && error.message.contains("no place for a test"), "{error}");
        drop(held);
        assert!(permits.take("q", 1).is_ok());
        assert!(permits.0.state.lock().waiting.is_empty() && permits.0.state.lock().taken.is_empty());
    }

    /// With one permit each and one more wanted by both, neither would ever go on.
    #[test]
    fn two_are_taken_at_once_or_none() {
        let permits = permits(3, 3, LONG);
        let mut first = permits.take("p", 2).unwrap();
        let (second, second_has) = taker(&permits, "q", 2);
        assert_eq!(permits.0.state.lock().taken.get("q"), None, "one is free, and it does not take that");
        // Who comes later and needs one only does not pass, or the second would wait for ever.
        let (third, third_has) = taker(&permits, "r", 1);
        assert!(third_has.try_recv().is_err());
        let half = first.split().unwrap();
        assert!(first.split().is_none());
        drop(first);
        assert!(has(&second_has));
        assert!(third_has.try_recv().is_err());
        drop(half);
        assert!(has(&third_has));
        drop((second, third));
    }

    #[test]
    fn a_project_that_has_all_it_may_have_holds_up_no_other() {
        let permits = permits(3, 2, LONG);
        let held = permits.take("p", 2).unwrap();
        let (_waits, waits_has) = taker(&permits, "p", 1);
        let (_other, other_has) = taker(&permits, "q", 1);
        assert!(has(&other_has));
        assert!(waits_has.try_recv().is_err());
        drop(held);
        assert!(has(&waits_has));
    }

    #[test]
    fn who_waits_for_a_client_that_has_gone_does_not_go_on_waiting() {
        let permits = permits(1, 1, LONG);
        let _held = permits.take("p", 1).unwrap();
        let unwanted = work::flag();
        let _begun = work::begin(Arc::clone(&unwanted));
        unwanted.store(true, std::sync::atomic::Ordering::Release);
        assert!(permits.take("p", 1).is_err());
    }
}
