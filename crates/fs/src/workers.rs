//! Threads for what may take long, apart from those that answer the kernel.
//!
//! Work begins in the order it came, on at most so many threads at once; what is more waits in a queue. Threads come with
//! the work and go some time after it.
//!
//! Invariants
//! - `run` never waits.
//! - Dropping the pool waits for nothing: work that has begun goes on by itself, work that has not is dropped.

use crate::limits::IDLE_THREAD;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    threads_max: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job, those that were just woken for one among them.
    idle: usize,
    ended: bool,
}

impl Workers {
    /// At most `threads_max` threads called `name`, of which none runs yet.
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Self {
        let shared = Shared { name, threads_max, queue: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Does `job` on a thread of the pool, now or when one is free.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.queue.lock();
        queue.jobs.push_back(Box::new(job));
        if queue.jobs.len() <= queue.idle || queue.threads >= self.shared.threads_max {
            drop(queue);
            self.shared.changed.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(self.shared.name.to_owned());
        match thread.spawn(move || shared.work()) {
            Ok(_) => queue.threads += 1,
            Err(error) if queue.threads > 0 => {
                tracing::warn!("one thread less for {}: {error}", self.shared.name);
            }
            Err(error) => {
                // Late is better than never: nobody else would do it.
                tracing::warn!("no thread for {}: {error}", self.shared.name);
                let jobs = std::mem::take(&mut queue.jobs);
                drop(queue);
                jobs.into_iter().for_each(|job| job());
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.ended = true;
        let unbegun = std::mem::take(&mut queue.jobs);
        drop(queue);
        self.shared.changed.notify_all();
        drop(unbegun);
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.queue.lock();
                continue;
            }
            if queue.ended {
                return;
            }
            queue.idle += 1;
            let late = self.changed.wait_for(&mut queue, IDLE_THREAD).timed_out();
            queue.idle -= 1;
            if late && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn no_more_threads_than_allowed_run_at_once_and_everything_is_done() {
        let workers = Workers::new("few", 3);
        let (begun, beginning) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for n in 0..50 {
            let (begun, gate) = (begun.clone(), Arc::clone(&gate));
            workers.run(move || {
                begun.send(n).unwrap();
                gate.lock().recv().unwrap();
            });
        }
        let mut seen: Vec<_> = (0..3).map(|_| beginning.recv_timeout(SOON).unwrap()).collect();
        assert!(beginning.recv_timeout(Duration::from_millis(50)).is_err(), "a fourth began");
        assert_eq!(workers.shared.queue.lock().threads, 3);
        (0..50).for_each(|_| go.send(()).unwrap());
        seen.extend((3..50).map(|_| beginning.recv_timeout(SOON).unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn dropping_the_pool_waits_for_nothing_and_drops_what_has_not_begun() {
        let workers = Workers::new("stuck", 1);
        let (begun, beginning) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        workers.run(move || {
            begun.send(()).unwrap();
            gate.recv().unwrap();
        });
        beginning.recv_timeout(SOON).unwrap();
        let (dropped, dropping) = mpsc::channel::<()>();
        workers.run(move || dropped.send(()).unwrap());
        drop(workers);
        assert_eq!(dropping.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
        go.send(()).unwrap();
    }
}
