//! Links that are not followed for a while: whoever opens a file behind one waits.
//!
//! `pg_wal` is a link to a plain directory, and Postgres opens every file in it by that name. So this is where the writing
//! of WAL can be made to wait without an error, at the end of a segment, when there should be no more of it for now. The
//! kernel is not told to remember where a link leads, and asks each time.
//!
//! Not here: when that is, and who may go on (the owner of the file system).

use parking_lot::Mutex;
use std::sync::Arc;

/// Whether the process of this id may follow links that others wait at.
pub type MayFollow = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// An answer that is due.
type Answer = Box<dyn FnOnce() + Send>;

/// The links of a file system.
#[derive(Default)]
pub(crate) struct Links {
    held: Mutex<Option<Held>>,
}

struct Held {
    may: MayFollow,
    /// One for each process that waits.
    waiting: Vec<Answer>,
}

impl Links {
    /// From now on everybody waits but who `may` go on.
    pub(crate) fn hold(&self, may: MayFollow) {
        let mut held = self.held.lock();
        match &mut *held {
            Some(held) => held.may = may,
            None => *held = Some(Held { may, waiting: Vec::new() }),
        }
    }

    /// Lets everybody go on, those first who wait.
    pub(crate) fn release(&self) {
        let held = self.held.lock().take();
        held.into_iter().flat_map(|held| held.waiting).for_each(|answer| answer());
    }

    /// Answers a process now, or when links are released.
    pub(crate) fn follow(&self, pid: u32, answer: impl FnOnce() + Send + 'static) {
        let mut held = self.held.lock();
        match &mut *held {
            Some(held) if !(held.may)(pid) => held.waiting.push(Box::new(answer)),
            _ => {
                drop(held);
                answer();
            }
        }
    }
}
