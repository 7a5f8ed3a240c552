//! Threads that may not come: a machine or a cgroup limits them, and that limit is an answer and never a panic.
//!
//! What must hold: nothing in this crate starts a thread in another way, because `std::thread::spawn` panics when there is
//! none to be had, and a panic ends the endpoint.

use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use parking_lot::Mutex;

use crate::error::{Error, While};

/// Starts a thread to do `what`.
///
/// # Errors
/// `Io` if the system has no thread left.
pub fn spawn<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    Builder::new()
        .spawn(work)
        .while_(|| format!("start a thread to {what} (TasksMax= in systemd, ulimit -u)"))
}

/// Work that is done on a thread beside this one, or was done here because there was none to be had.
pub enum Beside<T, H = JoinHandle<T>> {
    /// It may be under way.
    There(H),
    /// It is done.
    Here(T),
}

/// Does `work` beside this thread if it can.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Beside<T> {
    // A thread that does not come takes with it what it was to do.
    let work = std::sync::Arc::new(Mutex::new(Some(work)));
    let there = std::sync::Arc::clone(&work);
    match Builder::new().spawn(move || take(&there)()) {
        Ok(handle) => Beside::There(handle),
        Err(error) => Beside::Here(here(&error, &work)),
    }
}

/// The same within `scope`.
pub fn beside_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Beside<T, ScopedJoinHandle<'scope, T>> {
    let work = std::sync::Arc::new(Mutex::new(Some(work)));
    let there = std::sync::Arc::clone(&work);
    match Builder::new().spawn_scoped(scope, move || take(&there)()) {
        Ok(handle) => Beside::There(handle),
        Err(error) => Beside::Here(here(&error, &work)),
    }
}

fn take<W>(work: &Mutex<Option<W>>) -> W {
    work.lock().take().expect("either the thread takes it or whoever could not start one")
}

fn here<T, W: FnOnce() -> T>(error: &std::io::Error, work: &Mutex<Option<W>>) -> T {
    tracing::warn!("no thread to be had, so less is done at once: {error}");
    take(work)()
}

impl<T> Beside<T> {
    /// Waits until it is done.
    pub fn join(self) -> T {
        match self {
            Self::There(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Here(value) => value,
        }
    }
}

impl<T> Beside<T, ScopedJoinHandle<'_, T>> {
    /// Waits until it is done.
    pub fn join(self) -> T {
        match self {
            Self::There(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Here(value) => value,
        }
    }
}
