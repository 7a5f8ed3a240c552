//! Threads that may not come: a machine or a cgroup limits them, and that limit is an answer and never a panic.
//!
//! What must hold: nothing in this crate starts a thread in another way, because `std::thread::spawn` panics when there
//! is none to be had, and a panic ends the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// Starts a thread.
///
/// # Errors
/// `Unavailable` if the system has no thread left.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| none(name, &error))
}

/// Does `work` for each of `items`, at most `at_once` of them at a time, and on fewer threads where the system has no
/// more: the thread that calls works too.
pub fn each<T: Sync>(items: &[T], at_once: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let all = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once.min(items.len()) {
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, all) {
                tracing::warn!(%error, "no thread to be had; there are fewer at work");
                break;
            }
        }
        all();
    });
}

/// `Unavailable`: the system has no thread left for `name`.
pub fn none(name: &str, error: &std::io::Error) -> Error {
    let hint =
        "hint: raise the limit on processes of the server (TasksMax= in systemd, ulimit -u), or try again";
    Error::unavailable(format!("the system has no thread left for {name}: {error}\n{hint}")).again_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use parking_lot::Mutex;

    #[test]
    fn every_item_is_worked_on_once_and_never_more_at_a_time_than_allowed() {
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let seen = Mutex::new(Vec::new());
        let items: Vec<u32> = (0..50).collect();
        each(&items, 3, |item| {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(1));
            seen.lock().push(*item);
            busy.fetch_sub(1, Ordering::SeqCst);
        });
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, items);
        assert!(most.into_inner() <= 3);
        each(&[] as &[u32], 3, |_| unreachable!());
    }

    #[test]
    fn a_thread_that_does_not_come_is_an_answer() {
        let error = none("x", &std::io::Error::from(std::io::ErrorKind::WouldBlock));
        assert_eq!((error.kind, error.retry_after_s), (Kind::Unavailable, Some(1)));
    }
}
