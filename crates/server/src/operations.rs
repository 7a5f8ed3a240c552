//! What is under way for clients, and what failed: seen while it is done, and kept when it was not.
//!
//! What must hold
//! - An operation has one id from its begin on. While it is under way it is known to this process only, so that showing
//!   it costs no flush to disk; its end is written with what it changed.
//! - What the server or an endpoint failed at is kept as `failed`, with the reason. What a rule refused never began.
//!
//! Not here: what ended well, which each operation writes in its own transaction (`metadata::operation`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock;
use crate::error::Result;
use crate::limits::{OPERATIONS_KEPT_US, OPERATIONS_OF_PROJECT};
use crate::metadata::Metadata;
use crate::metadata::operation::{self, OperationRow};

/// The operations of the server.
pub struct Operations {
    metadata: Arc<Metadata>,
    /// Those under way, oldest first.
    under_way: Mutex<Vec<OperationRow>>,
}

/// One of them, until this is dropped.
pub struct Shown<'a> {
    all: &'a Operations,
    id: String,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.all.under_way.lock().retain(|row| row.id != self.id);
    }
}

impl Operations {
    /// None is under way.
    pub fn new(metadata: Arc<Metadata>) -> Self {
        Self { metadata, under_way: Mutex::default() }
    }

    /// Shows an operation while it is under way.
    pub fn show(&self, begun: &OperationRow) -> Shown<'_> {
        self.under_way.lock().push(begun.clone());
        Shown { all: self, id: begun.id.clone() }
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<OperationRow> {
        self.under_way.lock().iter().rev().cloned().collect()
    }

    /// Those of a project, newest first.
    pub fn of_project(&self, project: &str) -> Vec<OperationRow> {
        let all = self.under_way.lock();
        all.iter().rev().filter(|row| row.project_id == project).cloned().collect()
    }

    /// Does the work of an operation: shown while it is under way, and kept if the server failed at it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn run<T>(&self, begun: &OperationRow, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _shown = self.show(begun);
        work().inspect_err(|error| {
            if !error.is_failure() {
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
    pub fn prune(&self) -> Result<usize> {
        let before_us = clock::now_us() - OPERATIONS_KEPT_US;
        self.metadata.write(|change| operation::prune(change, before_us, OPERATIONS_OF_PROJECT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::control::branch::delete::recover_branch;
    use crate::control::project::create::create_project;
    use crate::control::project::delete::{delete_project, recover_project};
    use crate::control::snapshot::create::{delete_snapshot, restore_snapshot};
    use crate::error::Kind;
    use crate::fleet::hidden::hidden_permit;
    use crate::machine::permits::Permits;
    use crate::metadata::branch::{self, BranchRow};
    use crate::metadata::operation::{Action, FAILED};
    use crate::metadata::project;
    use crate::metadata::snapshot::{self, tests::snapshot_row};
    use crate::metadata::tests::{branch_row, project_row};

    /// A server with a project that has a branch, a deleted branch and a snapshot, and no store.
    fn control(dir: &tempfile::TempDir) -> Control {
        let control = crate::control::tests::control(dir);
        let write = control.metadata.write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            branch::insert(change, &BranchRow { is_default: true, ..branch_row("br-a-a-a", "main") })?;
            let deleted = BranchRow { deleted_us: Some(clock::now_us()), ..branch_row("br-b-b-b", "dev") };
            branch::insert(change, &deleted)?;
            snapshot::insert(change, &snapshot_row("snap-a", "one"))
        });
        write.unwrap();
        control
    }

    /// The actions that are kept as failed, oldest first.
    fn failed(control: &Control) -> Vec<String> {
        let rows = control.metadata.read(|connection| operation::page(connection, "p", "", 100)).unwrap();
        let failed = rows.into_iter().rev().filter(|row| row.status == FAILED && row.error.is_some());
        failed.map(|row| row.action).collect()
    }

    #[test]
    fn what_the_server_failed_at_is_kept_whatever_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let control = control(&dir);
        let request = api::snapshot::SnapshotRestoreRequest::default();
        assert_eq!(restore_snapshot(&control, "p", "snap-a", &request).unwrap_err().kind, Kind::Unavailable);
        assert_eq!(failed(&control), ["restore_snapshot"]);
        // Rows that cannot be changed, as SQLite has lost a table.
        let broken = "DROP TABLE foreign_password; DROP TABLE backup_schedule";
        control.metadata.write(|change| Ok(change.execute_batch(broken)?)).unwrap();
        assert_eq!(delete_snapshot(&control, "p", "snap-a", None).unwrap_err().kind, Kind::Internal);
        assert_eq!(recover_branch(&control, "p", "br-b-b-b", None).unwrap_err().kind, Kind::Internal);
        // A store that cannot be removed.
        std::fs::write(control.dir.project("p"), "no directory").unwrap();
        assert_eq!(delete_project(&control, "p", true).unwrap_err().kind, Kind::Internal);
        assert_eq!(
            failed(&control),
            ["restore_snapshot", "delete_snapshot", "recover_branch", "delete_project"]
        );
        assert!(control.operations.all().is_empty());
    }

    #[test]
    fn what_a_rule_refused_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let control = control(&dir);
        assert_eq!(recover_branch(&control, "p", "br-a-a-a", None).unwrap_err().kind, Kind::Refused);
        assert_eq!(recover_project(&control, "p").unwrap_err().kind, Kind::Refused);
        assert_eq!(failed(&control), [""; 0]);
    }

    #[test]
    fn a_project_that_is_being_made_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = crate::fleet::tests::fleet(&dir);
        let limits = crate::limits::HIDDEN_SERVERS;
        fleet.hidden_servers = Permits::new(crate::limits::PermitLimits { at_once: 1, ..limits });
        let control = crate::control::tests::control_of(fleet);
        // It waits for a place to make its cluster in.
        let held = hidden_permit(&control.fleet, "q").unwrap();
        std::thread::scope(|scope| {
            let making = scope.spawn(|| create_project(&control, &api::project::ProjectCreate::default()));
            while control.operations.all().is_empty() && !making.is_finished() {
                std::thread::yield_now();
            }
            let shown: Vec<String> = control.operations.all().into_iter().map(|row| row.action).collect();
            assert_eq!(shown, ["create_timeline"]);
            drop(held);
            // There is no program for its endpoint.
            assert!(making.join().unwrap().is_err());
        });
        assert!(control.operations.all().is_empty());
    }

    #[test]
    fn what_is_under_way_is_shown_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let under_way = crate::fleet::tests::fleet(&dir).operations;
        let begun = |project: &str| OperationRow::begun_in(Action::UpdateProject, project, 1).unwrap();
        let (first, second) = (begun("p"), begun("p"));
        let shown = under_way.show(&first);
        let _other = (under_way.show(&second), under_way.show(&begun("q")));
        let ids = || under_way.of_project("p").into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(), [second.id.clone(), first.id.clone()]);
        assert_eq!(under_way.all().len(), 3);
        drop(shown);
        assert_eq!(ids(), [second.id]);
    }
}
