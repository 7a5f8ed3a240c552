//! What is under way for clients, and what failed: seen while it is done, and kept when it was not.
//!
//! What must hold
//! - An operation has one id from its begin on. While it is under way it is known to this process only, so that showing
//!   it costs no flush to disk; its end is written with what it changed.
//! - What the server or an endpoint failed at is kept as `failed`, with the reason. What a rule refused never began.
//!
//! Not here: what ended well, which each operation writes in its own transaction (`metadata::operation`).

use parking_lot::Mutex;

use crate::clock;
use crate::error::Result;
use crate::limits::{OPERATIONS_KEPT_US, OPERATIONS_OF_PROJECT};
use crate::metadata::operation::{self, OperationRow};
use crate::state::Server;

/// Operations under way, oldest first.
#[derive(Default)]
pub struct UnderWay(Mutex<Vec<OperationRow>>);

/// One of them, until this is dropped.
pub struct Shown<'a> {
    all: &'a UnderWay,
    id: String,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.all.0.lock().retain(|row| row.id != self.id);
    }
}

impl UnderWay {
    /// Shows an operation while it is under way.
    pub fn show(&self, begun: &OperationRow) -> Shown<'_> {
        self.0.lock().push(begun.clone());
        Shown { all: self, id: begun.id.clone() }
    }

    /// Those of a project, newest first.
    pub fn of_project(&self, project: &str) -> Vec<OperationRow> {
        let all = self.0.lock();
        all.iter().rev().filter(|row| row.project_id == project).cloned().collect()
    }
}

impl Server {
    /// Does the work of an operation: shown while it is under way, and kept if the server failed at it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn operate<T>(&self, begun: &OperationRow, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _shown = self.under_way.show(begun);
        work().inspect_err(|error| {
            if error.status < 500 {
                return;
            }
            let ended = begun.clone().ended(Some(error));
            if let Err(unkept) = self.metadata.write(|change| operation::put(change, &ended)) {
                // Its project was never made, or is gone.
                tracing::debug!(operation = begun.id, error = %unkept, "a failure is not kept");
            }
        })
    }

    /// Forgets operations that ended too long ago, and the oldest ones of a project that has too many.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn prune_operations(&self) -> Result<usize> {
        let before_us = clock::now_us() - OPERATIONS_KEPT_US;
        self.metadata.write(|change| operation::prune(change, before_us, OPERATIONS_OF_PROJECT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::operation::Action;

    #[test]
    fn what_is_under_way_is_shown_until_it_ends() {
        let under_way = UnderWay::default();
        let begun = |project: &str| OperationRow::begun_in(Action::UpdateProject, project, 1).unwrap();
        let (first, second) = (begun("p"), begun("p"));
        let shown = under_way.show(&first);
        let _other = (under_way.show(&second), under_way.show(&begun("q")));
        let ids = || under_way.of_project("p").into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(), [second.id.clone(), first.id.clone()]);
        assert_eq!(under_way.0.lock().len(), 3);
        drop(shown);
        assert_eq!(ids(), [second.id]);
    }
}
