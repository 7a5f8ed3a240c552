//! What an endpoint waits for: the calls that the store has put off, and the reason it gave for each.
//!
//! A store that cannot answer now never ends a Postgres: the call waits and is made again. People see why in the
//! endpoint's status for as long as any call waits.
//!
//! Not here: which failures are waited out (`client`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Default)]
struct Calls {
    next: u64,
    /// One entry a call that waits, so no more than there are threads that call.
    reasons: BTreeMap<u64, String>,
}

/// The calls of an endpoint that wait for the store.
#[derive(Default)]
pub struct Waiting {
    calls: Mutex<Calls>,
}

impl Waiting {
    /// A call that waits from now until the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Wait {
        let mut calls = self.calls.lock();
        let call = calls.next;
        calls.next += 1;
        Wait { all: Arc::clone(self), call }
    }

    /// Why the call that has waited longest waits; `None` if none does.
    pub fn reason(&self) -> Option<String> {
        self.calls.lock().reasons.values().next().cloned()
    }
}

/// One call that waits.
pub(crate) struct Wait {
    all: Arc<Waiting>,
    call: u64,
}

impl Wait {
    /// Notes why it waits. True if that is new, and so worth a line in the log.
    pub(crate) fn because(&self, reason: &str) -> bool {
        let mut calls = self.all.calls.lock();
        let before = calls.reasons.insert(self.call, reason.to_owned());
        before.is_none_or(|before| before != reason)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.all.calls.lock().reasons.remove(&self.call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_there_for_as_long_as_a_call_waits() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.begin();
        assert_eq!(waiting.reason(), None);
        assert!(first.because("no space"));
        assert!(!first.because("no space"), "the same reason again is no news");
        let second = waiting.begin();
        assert!(second.because("too many open files"));
        assert_eq!(waiting.reason().unwrap(), "no space");
        drop(first);
        assert_eq!(waiting.reason().unwrap(), "too many open files");
        drop(second);
        assert_eq!(waiting.reason(), None);
    }
}
