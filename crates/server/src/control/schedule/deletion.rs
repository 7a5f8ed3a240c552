//! What goes because its time has come: branches and snapshots that expired, deleted ones that nobody brought back, and
//! what is remembered of old requests.
//!
//! What must hold: what was found due is looked at again in the transaction that deletes it.
//!
//! Not here: how something goes (`branch::delete`, `snapshot::create`, `project::delete`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::control::Control;
use crate::control::branch::delete::{How, delete_branch, purge};
use crate::control::project::delete::remove_old_projects;
use crate::control::snapshot::create::delete_snapshot;
use crate::error::Result;
use crate::limits::{
    DELETION_AGAIN_AFTER, DELETIONS_EVERY, KEYS_OF_REQUESTS_KEPT_US, OPERATIONS_PRUNED_EVERY, RECOVERABLE_US,
};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::{idempotency, snapshot};
use crate::{clock, failpoint};

/// Looks for projects and branches whose time has come, until the process ends.
pub fn run(control: &Arc<Control>) {
    let mut failed: HashMap<String, Instant> = HashMap::new();
    let mut pruned: Option<Instant> = None;
    control.life.again_and_again(
        // The end of the process wakes it (`serve`).
        || std::thread::park_timeout(DELETIONS_EVERY),
        || {
            if pruned.is_none_or(|at| at.elapsed() >= OPERATIONS_PRUNED_EVERY) {
                pruned = Some(Instant::now());
                if let Err(error) = control.operations.prune() {
                    tracing::error!(%error, "cannot forget old operations");
                }
            }
            failed.retain(|_, at| at.elapsed() < DELETION_AGAIN_AFTER);
            let _pass = failpoint::at("deletion");
            if let Err(error) = pass(control, &mut failed) {
                tracing::error!(%error, "cannot look for expired branches");
            }
        },
    );
}

fn pass(control: &Control, failed: &mut HashMap<String, Instant>) -> Result<()> {
    remove_old_projects(control, failed)?;
    let now_us = clock::now_us();
    let rows =
        control.metadata.read(|connection| branch::due(connection, now_us, now_us - RECOVERABLE_US))?;
    let mut purged: Vec<&str> = Vec::new();
    for row in &rows {
        if failed.contains_key(&row.id) {
            continue;
        }
        if row.purging {
            if !purged.contains(&row.project_id.as_str()) {
                purged.push(&row.project_id);
                purge(control, &row.project_id);
            }
            continue;
        }
        if let Err(error) = delete_branch(control, &row.project_id, &row.id, when_due(row, now_us)) {
            tracing::warn!(branch = row.id, %error, "its time has come, but it cannot be deleted");
            failed.insert(row.id.clone(), Instant::now());
        }
    }
    for row in control.metadata.read(|connection| snapshot::due(connection, now_us))? {
        if let Err(error) = delete_snapshot(control, &row.project_id, &row.id, Some(now_us)) {
            tracing::warn!(snapshot = row.id, %error, "it has expired, but cannot be deleted");
        }
    }
    control.metadata.write(|change| idempotency::forget_before(change, now_us - KEYS_OF_REQUESTS_KEPT_US))
}

/// How a branch goes whose time had come when it was looked at.
fn when_due(row: &BranchRow, now_us: i64) -> How {
    let purged = row.deleted_us.is_some();
    How { hard: purged, expired: !purged || row.expired, due_us: Some(now_us), recursive: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::branch::create::update_branch;
    use crate::control::branch::delete::recover_branch;
    use crate::control::snapshot::create::update_snapshot;
    use crate::metadata::project;
    use crate::metadata::snapshot::SnapshotRow;
    use crate::metadata::tests::{branch_row, project_row};

    /// A server whose project has the branches `main`, `dev` and `other`, and nothing that runs.
    fn control(dir: &tempfile::TempDir) -> Control {
        let control = crate::control::tests::control(dir);
        let write = control.metadata.write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            branch::insert(change, &BranchRow { is_default: true, ..branch_row("br-a-a-a", "main") })?;
            branch::insert(change, &branch_row("br-b-b-b", "dev"))?;
            branch::insert(change, &branch_row("br-c-c-c", "other"))
        });
        write.unwrap();
        control
    }

    fn change(control: &Control, id: &str, edit: impl FnOnce(&mut BranchRow)) {
        let write = control.metadata.write(|change| {
            let mut row = branch::find(change, "p", id)?.unwrap();
            edit(&mut row);
            branch::update(change, &row)
        });
        write.unwrap();
    }

    /// What a pass finds due, and is about to delete.
    fn due(control: &Control, now_us: i64) -> Vec<BranchRow> {
        control.metadata.read(|connection| branch::due(connection, now_us, now_us - RECOVERABLE_US)).unwrap()
    }

    #[test]
    fn a_branch_that_was_brought_back_in_time_is_not_purged() {
        let dir = tempfile::tempdir().unwrap();
        let (control, now_us) = (control(&dir), clock::now_us());
        for id in ["br-b-b-b", "br-c-c-c"] {
            change(&control, id, |row| row.deleted_us = Some(now_us - RECOVERABLE_US - 1));
        }
        let found = due(&control, now_us);
        assert_eq!(found.len(), 2);
        recover_branch(&control, "p", "br-b-b-b", None).unwrap();
        for row in &found {
            let _ = delete_branch(&control, "p", &row.id, when_due(row, now_us)).unwrap();
        }
        let row = |id: &str| control.metadata.read(|connection| branch::find(connection, "p", id)).unwrap();
        assert!(row("br-b-b-b").is_some_and(|row| row.deleted_us.is_none() && !row.purging));
        assert_eq!(row("br-c-c-c"), None);
    }

    #[test]
    fn a_branch_that_was_told_to_live_on_in_time_is_not_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (control, now_us) = (control(&dir), clock::now_us());
        for id in ["br-b-b-b", "br-c-c-c"] {
            change(&control, id, |row| row.expires_us = Some(now_us - 1));
        }
        let found = due(&control, now_us);
        assert_eq!(found.len(), 2);
        let update = api::branch::BranchUpdate { expires_at: Some(None), ..Default::default() };
        update_branch(&control, "p", "br-b-b-b", &update).unwrap();
        for row in &found {
            let _ = delete_branch(&control, "p", &row.id, when_due(row, now_us)).unwrap();
        }
        assert!(due(&control, now_us).is_empty());
        let row = |id: &str| control.metadata.read(|connection| branch::find(connection, "p", id)).unwrap();
        assert!(row("br-b-b-b").unwrap().deleted_us.is_none());
        assert!(row("br-c-c-c").is_some_and(|row| row.deleted_us.is_some() && row.expired));
    }

    #[test]
    fn a_snapshot_that_was_told_to_live_on_in_time_is_not_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (control, now_us) = (control(&dir), clock::now_us());
        let row = |id: &str| SnapshotRow {
            id: id.to_owned(),
            project_id: "p".to_owned(),
            store_id: format!("br-{id}-s-s"),
            name: id.to_owned(),
            slug: None,
            source_branch_id: "br-a-a-a".to_owned(),
            history_id: None,
            lsn: "0/1".to_owned(),
            time_us: None,
            manual: true,
            full_bytes: None,
            diff_bytes: None,
            expires_us: Some(now_us - 1),
            created_us: 1,
            updated_us: 1,
        };
        let write = control.metadata.write(|change| {
            snapshot::insert(change, &row("kept"))?;
            snapshot::insert(change, &row("old"))
        });
        write.unwrap();
        let found = control.metadata.read(|connection| snapshot::due(connection, now_us)).unwrap();
        assert_eq!(found.len(), 2);
        let update = api::snapshot::SnapshotUpdate { expires_at: Some(None), ..Default::default() };
        update_snapshot(&control, "p", "kept", &update).unwrap();
        for row in &found {
            let _ = delete_snapshot(&control, "p", &row.id, Some(now_us)).unwrap();
        }
        let left = control.metadata.read(|connection| snapshot::all(connection, "p")).unwrap();
        assert_eq!(left.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["kept"]);
    }
}
