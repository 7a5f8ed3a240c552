//! How often WAL goes to the store.
//!
//! Each shipment is synced to disk by the store, on what is often the disk that Postgres syncs its commits to. One for
//! every commit would take a good part of that disk's syncs from them; ten a second take next to none. A branch that is
//! being created waits for the parent's last commit to arrive, and must not wait for a rest: whoever asks how far the
//! endpoint has flushed hurries the shipments on.
//!
//! Not here: what is shipped (`stream`).

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Least time between two shipments.
const REST: Duration = Duration::from_millis(100);
/// How long nothing rests after somebody asked; the WAL they wait for is on its way.
const HURRY: Duration = Duration::from_millis(20);

/// When the next shipment may go.
#[derive(Default)]
pub struct Pace {
    hurried: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Pace {
    /// Somebody waits for WAL to arrive: ends a rest, and those of the near future.
    pub fn hurry(&self) {
        *self.hurried.lock() = Some(Instant::now());
        self.changed.notify_all();
    }

    /// Waits until a rest after `shipped`, when the last shipment arrived, is over. Whether that took any time.
    pub(crate) fn rest(&self, shipped: Instant) -> bool {
        let due = shipped + REST;
        let mut hurried = self.hurried.lock();
        let mut rested = false;
        loop {
            let now = Instant::now();
            let hurry = hurried.is_some_and(|asked| now < asked + HURRY);
            if hurry || now >= due {
                return rested;
            }
            rested = true;
            self.changed.wait_until(&mut hurried, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_shipment_rests_once_and_not_while_somebody_waits() {
        let pace = Pace::default();
        let shipped = Instant::now();
        assert!(pace.rest(shipped));
        assert!(shipped.elapsed() >= REST);
        assert!(!pace.rest(shipped), "the rest is over");
        pace.hurry();
        assert!(!pace.rest(Instant::now()));
    }

    #[test]
    fn asking_ends_a_rest() {
        let pace = Arc::new(Pace::default());
        let resting = Arc::clone(&pace);
        let far = Instant::now() + Duration::from_secs(3600);
        let rest = std::thread::spawn(move || resting.rest(far));
        while !rest.is_finished() {
            pace.hurry();
            std::thread::yield_now();
        }
        rest.join().expect("resting does not panic");
    }
}
