//! A request that its lane has admitted: what it has taken, and whether its client still waits.
//!
//! Not here: who is admitted when (`lanes`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::OwnedSemaphorePermit;

tokio::task_local! {
    static ADMITTED: Admitted;
}

/// A request at work: its permits are taken for as long as anybody has a copy of this.
#[derive(Clone)]
pub struct Admitted {
    _permits: Arc<Vec<OwnedSemaphorePermit>>,
    unwanted: Option<Arc<AtomicBool>>,
}

/// Set when the client hangs up, which drops this.
pub struct Client(Option<Arc<AtomicBool>>);

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(unwanted) = &self.0 {
            unwanted.store(true, Ordering::Release);
        }
    }
}

impl Admitted {
    /// A request that has `permits`; `only_looks` if its work may be dropped once nobody waits for it.
    pub fn new(permits: Vec<OwnedSemaphorePermit>, only_looks: bool) -> Self {
        Self { _permits: Arc::new(permits), unwanted: only_looks.then(Arc::default) }
    }

    /// `answering` as the answer to this request.
    pub fn answer<F: Future>(self, answering: F) -> impl Future<Output = F::Output> {
        ADMITTED.scope(self, answering)
    }

    /// That of the request which is being answered, if it has one.
    pub fn current() -> Option<Self> {
        ADMITTED.try_with(Self::clone).ok()
    }

    /// What tells the work that nobody waits for it.
    pub fn unwanted(&self) -> Arc<AtomicBool> {
        self.unwanted.clone().unwrap_or_default()
    }

    /// To be held while the client waits.
    pub fn client(&self) -> Client {
        Client(self.unwanted.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_hangs_up_is_told_to_work_that_only_looks() {
        let looks = Admitted::new(Vec::new(), true);
        let unwanted = looks.unwanted();
        drop(looks.client());
        assert!(unwanted.load(Ordering::Acquire));
        let change = Admitted::new(Vec::new(), false);
        drop(change.client());
        assert!(!change.unwanted().load(Ordering::Acquire));
    }
}
