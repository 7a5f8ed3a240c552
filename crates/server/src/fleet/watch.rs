//! The end of a compute process, noticed when it happens.
//!
//! ```text
//!   process seen ---> pidfd, one thread that polls it ---> process ends ---> the reconciler is woken
//! ```
//!
//! What must hold
//! - Started and adopted processes alike are watched; a process is watched once.
//! - Nothing depends on it: the reconciler looks at everything once a second anyway.
//!
//! Not here: what to do about it (`reconcile`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compute::wait_exit;
use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, PidfdFlags};

use crate::limits::LIVED_AT_LEAST;

/// What the reconciler sleeps on.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Ends the current sleep, or the next one if nobody sleeps.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    /// Sleeps until it rings, `longest` at most.
    pub fn sleep(&self, longest: Duration) {
        let mut rung = self.rung.lock();
        self.changed.wait_while_for(&mut rung, |rung| !*rung, longest);
        *rung = false;
    }
}

/// Rings `bell` once process `pid` has ended.
///
/// # Errors
/// Those of `pidfd_open(2)`; `ESRCH` if there is no such process.
pub fn ring_at_end(pid: u32, bell: &Arc<Bell>) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let (bell, seen) = (Arc::clone(bell), Instant::now());
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        wait_exit(&handle, None);
        if seen.elapsed() >= LIVED_AT_LEAST {
            bell.ring();
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_that_lived_ends_the_sleep_at_once() {
        let bell = Arc::new(Bell::default());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        ring_at_end(child.id(), &bell).unwrap();
        std::thread::sleep(LIVED_AT_LEAST);
        let killed = Instant::now();
        child.kill().unwrap();
        bell.sleep(Duration::from_secs(30));
        assert!(killed.elapsed() < Duration::from_secs(10));
        child.wait().unwrap();
        assert!(ring_at_end(child.id(), &bell).is_err(), "it is gone");
    }

    #[test]
    fn a_ring_that_nobody_heard_ends_the_next_sleep() {
        let bell = Bell::default();
        bell.ring();
        let began = Instant::now();
        bell.sleep(Duration::from_secs(30));
        assert!(began.elapsed() < Duration::from_secs(10));
        bell.sleep(Duration::from_millis(1));
    }
}
