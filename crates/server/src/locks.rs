//! One change of a branch at a time: who comes second waits a little, and is then told to try again.
//!
//! What must hold: all that a request needs is taken at once, so that no two requests wait for each other.
//!
//! Not here: `tree` of `Server`, which is held for moments only while store and metadata change together.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// How long a request waits for another that changes the same branch.
const WITHIN: Duration = Duration::from_secs(5);

/// Which branches are being changed.
#[derive(Default)]
pub struct Locks {
    held: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// Branches that nobody else changes until this is dropped.
pub struct Held<'a> {
    locks: &'a Locks,
    ids: Vec<String>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        for id in &self.ids {
            held.remove(id);
        }
        self.locks.freed.notify_all();
    }
}

impl Locks {
    /// Takes all of `ids`.
    ///
    /// # Errors
    /// 423, in the words that clients of Neon look for, if one of them stays taken for five seconds.
    pub fn take(&self, ids: &[&str]) -> Result<Held<'_>> {
        self.take_within(ids, WITHIN)
    }

    /// Takes all of `ids`, or nothing if one is taken.
    pub fn take_now(&self, ids: &[&str]) -> Option<Held<'_>> {
        self.take_within(ids, Duration::ZERO).ok()
    }

    fn take_within(&self, ids: &[&str], within: Duration) -> Result<Held<'_>> {
        let deadline = Instant::now() + within;
        let mut held = self.held.lock();
        while ids.iter().any(|id| held.contains(*id)) {
            if self.freed.wait_until(&mut held, deadline).timed_out() {
                let text = "project already has running conflicting operations, scheduling of new ones is \
                            prohibited";
                return Err(Error::busy(text));
            }
        }
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        held.extend(ids.iter().cloned());
        Ok(Held { locks: self, ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_is_then_refused_with_words_that_clients_know() {
        let locks = Locks::default();
        let first = locks.take(&["a", "b"]).unwrap();
        let error = locks.take_within(&["b", "c"], Duration::from_millis(10)).err().unwrap();
        assert_eq!(error.status, 423);
        assert!(error.message.contains("already has running conflicting operations"));
        assert!(locks.take_now(&["a"]).is_none());
        let other = locks.take_now(&["c"]);
        assert!(other.is_some(), "a request that waits in vain takes nothing");
        drop(other);
        drop(first);
        assert!(locks.take_within(&["b", "c"], Duration::from_millis(10)).is_ok());
    }

    #[test]
    fn the_second_goes_on_when_the_first_is_done() {
        let locks = Locks::default();
        let first = locks.take(&["a"]).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| locks.take_within(&["a"], Duration::from_secs(30)).is_ok());
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            assert!(second.join().unwrap());
        });
    }
}
