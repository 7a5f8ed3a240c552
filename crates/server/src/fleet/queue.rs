//! What the reconciler has to do, oldest endpoint first: so many at once, and fewer of one project.
//!
//! Not here: what is to be done (`plan`), doing it (`reconcile`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::fleet::plan::{Action, Seen};
use crate::limits::{RECONCILED_AT_ONCE, RECONCILED_OF_PROJECT};
use crate::metadata::endpoint::EndpointRow;

/// What is to be done, each endpoint once at most: it is `in_hand` from then on until that is done.
#[derive(Default)]
pub struct Queue {
    queued: Mutex<Queued>,
    /// Whether those that did not answer are being looked at again.
    pub looks_again: AtomicBool,
}

#[derive(Default)]
struct Queued {
    waiting: VecDeque<Due>,
    /// How many threads work for each project.
    working: HashMap<String, usize>,
}

/// An endpoint about which something is to be done.
pub struct Due {
    /// The endpoint.
    pub row: EndpointRow,
    /// What is to be done.
    pub action: Action,
    /// How it was when that was found.
    pub seen: Seen,
}

impl Queue {
    /// Adds what is due.
    pub fn add(&self, due: Due) {
        self.queued.lock().waiting.push_back(due);
    }

    /// The first whose project has room, if there is room; its project is worked for until that is `done`.
    pub fn next(&self) -> Option<Due> {
        let mut queued = self.queued.lock();
        if queued.working.values().sum::<usize>() >= RECONCILED_AT_ONCE {
            return None;
        }
        let room = |due: &Due| {
            queued.working.get(&due.row.project_id).is_none_or(|working| *working < RECONCILED_OF_PROJECT)
        };
        let at = queued.waiting.iter().position(room)?;
        let due = queued.waiting.remove(at)?;
        *queued.working.entry(due.row.project_id.clone()).or_default() += 1;
        Some(due)
    }

    /// Notes that what was taken for a project is done.
    pub fn done(&self, project: &str) {
        let mut queued = self.queued.lock();
        if let Some(working) = queued.working.get_mut(project) {
            *working -= 1;
            if *working == 0 {
                queued.working.remove(project);
            }
        }
    }

    /// The endpoints that wait, in their order.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<EndpointRow> {
        self.queued.lock().waiting.iter().map(|due| due.row.clone()).collect()
    }

    /// How many are in hand for a project.
    #[cfg(test)]
    pub fn working(&self, project: &str) -> usize {
        self.queued.lock().working.get(project).copied().unwrap_or_default()
    }
}
