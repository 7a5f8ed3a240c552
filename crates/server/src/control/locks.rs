//! One change of a branch at a time: who comes second waits a little, and is then told to try again.
//!
//! What must hold: all that a request needs is taken at once, so that no two requests wait for each other.
//!
//! Not here: the tree of a project's branches, held for moments only while store and metadata change together (`stores`).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::limits::{BRANCH_TURN_WITHIN, BRANCH_WITHIN};

/// Which branches are being changed.
#[derive(Default)]
pub struct Locks {
    held: Mutex<HashSet<Name>>,
    freed: Condvar,
}

/// What is locked. Ids are made by the server; a key is a client's, so it is a name apart, in its project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    /// A branch, a project or a schedule.
    Id(String),
    /// The requests of a project with this `Idempotency-Key`.
    Key { project: String, key: String },
}

/// Branches that nobody else changes until this is dropped.
pub struct Held<'a> {
    locks: &'a Locks,
    names: Vec<Name>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        for name in &self.names {
            held.remove(name);
        }
        self.locks.freed.notify_all();
    }
}

impl Locks {
    /// Takes all of `ids`.
    ///
    /// # Errors
    /// `Busy`, in the words that clients of Neon look for, if one of them stays taken for five seconds.
    pub fn take(&self, ids: &[&str]) -> Result<Held<'_>> {
        self.take_within(ids, BRANCH_WITHIN)
    }

    /// Takes the turn of branch `id` to start, stop, or change what is in its catalog.
    ///
    /// # Errors
    /// `Busy` if it stays taken for 45 seconds.
    pub fn take_turn(&self, id: &str) -> Result<Held<'_>> {
        self.take_within(&[id], BRANCH_TURN_WITHIN)
    }

    /// Takes all of `ids`, or nothing if one is taken.
    pub fn take_now(&self, ids: &[&str]) -> Option<Held<'_>> {
        self.take_within(ids, Duration::ZERO).ok()
    }

    /// Takes the requests of a project that have the same key.
    ///
    /// # Errors
    /// As [`Locks::take`].
    pub fn take_key(&self, project: &str, key: &str) -> Result<Held<'_>> {
        self.take_names(vec![Name::Key { project: project.to_owned(), key: key.to_owned() }], BRANCH_WITHIN)
    }

    fn take_within(&self, ids: &[&str], within: Duration) -> Result<Held<'_>> {
        self.take_names(ids.iter().map(|id| Name::Id((*id).to_owned())).collect(), within)
    }

    fn take_names(&self, names: Vec<Name>, within: Duration) -> Result<Held<'_>> {
        let deadline = Instant::now() + within;
        let mut held = self.held.lock();
        while names.iter().any(|name| held.contains(name)) {
            if self.freed.wait_until(&mut held, deadline).timed_out() {
                let text = "project already has running conflicting operations, scheduling of new ones is \
                            prohibited";
                return Err(Error::busy(text));
            }
        }
        held.extend(names.iter().cloned());
        Ok(Held { locks: self, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_second_waits_and_is_then_refused_with_words_that_clients_know() {
        let locks = Locks::default();
        let first = locks.take(&["a", "b"]).unwrap();
        let error = locks.take_within(&["b", "c"], Duration::from_millis(10)).err().unwrap();
        assert_eq!(error.kind, Kind::Busy);
        assert!(error.message.contains("already has running conflicting operations"));
        assert!(locks.take_now(&["a"]).is_none());
        let other = locks.take_now(&["c"]);
        assert!(other.is_some(), "a request that waits in vain takes nothing");
        drop(other);
        drop(first);
        assert!(locks.take_within(&["b", "c"], Duration::from_millis(10)).is_ok());
    }

    #[test]
    fn a_key_is_its_projects_and_no_branch() {
        let locks = Locks::default();
        let _branch = locks.take(&["br-a"]).unwrap();
        let _key = locks.take_key("p", "br-a").unwrap();
        let _other = locks.take_key("q", "br-a").unwrap();
        let key = Name::Key { project: "p".to_owned(), key: "br-a".to_owned() };
        assert!(locks.take_names(vec![key], Duration::from_millis(10)).is_err());
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
