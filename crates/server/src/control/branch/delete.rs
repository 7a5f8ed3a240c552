//! Branches go: by request or because they expired. They can be brought back for a while, and then they are purged.
//!
//! ```text
//!   live --delete, expiry--> deleted --7 days, hard_delete--> purging --no row begins on it--> no row --sweep--> no data
//!     ^                         |
//!     +--------recover----------+
//! ```
//!
//! What must hold
//! - Deleting is one transaction over all branches that go together. Before it, unless they are purged, all that their
//!   endpoints wrote is in the store.
//! - Data goes only in a sweep, which sees what still begins on it.

use crate::control::Control;
use crate::control::branch::expiry;
use crate::error::{Error, Result};
use crate::fleet::endpoints::{change_under, remove_endpoint};
use crate::limits::RECOVERABLE_US;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{project, schedule};
use crate::storage::sweep::sweep_after;
use crate::{clock, names};

/// How to delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// With everything that begins on it.
    pub recursive: bool,
    /// For good, at once.
    pub hard: bool,
    /// Because it expired.
    pub expired: bool,
    /// Only if its time has come at this moment, which is looked at again in the transaction that deletes it.
    pub due_us: Option<i64>,
}

/// Deletes a branch with its endpoints. `None` if it was deleted before, or its time has not come.
///
/// # Errors
/// `NotFound` if there never was one; `Refused` for the default, a protected branch and one with children; `Busy` while
/// another request changes one of them; `Unavailable` if an endpoint could not bring what it wrote to the store.
pub fn delete_branch(
    control: &Control,
    project: &str,
    id: &str,
    how: How,
) -> Result<Option<(BranchRow, Vec<OperationRow>)>> {
    let begun = OperationRow::begun(Action::DeleteTimeline, project, id, clock::now_us())?;
    control.operations.run(&begun, || delete_as(control, &begun, id, how))
}

fn delete_as(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    how: How,
) -> Result<Option<(BranchRow, Vec<OperationRow>)>> {
    let (project, began_us) = (begun.project_id.as_str(), begun.created_us);
    let going = control.metadata.read(|connection| {
        project::get(connection, project)?;
        going(connection, project, id, how)
    })?;
    let ids: Vec<&str> = going.iter().map(|row| row.id.as_str()).collect();
    let _held = control.locks.take(&ids)?;
    let endpoints = control.metadata.read(|connection| {
        // While this waited, it may have been brought back, or told to live on.
        if self::going(connection, project, id, how)?.is_empty() {
            return Ok(None);
        }
        let of = |row: &BranchRow| endpoint::of_branch(connection, &row.id);
        Ok(Some(going.iter().map(of).collect::<Result<Vec<_>>>()?.concat()))
    })?;
    let Some(endpoints) = endpoints else { return Ok(None) };
    let mut operations = Vec::new();
    for endpoint in &endpoints {
        let begun = OperationRow::begun(Action::SuspendCompute, project, &endpoint.branch_id, began_us)?;
        operations.push(begun.about_endpoint(&endpoint.id));
    }
    for row in &going {
        let its = OperationRow::begun(Action::DeleteTimeline, project, &row.id, began_us)?;
        operations.push(if row.id == id { begun.clone() } else { its });
    }
    let mut gone = None;
    change_under(&control.fleet, &endpoints, !how.hard, || {
        gone = record_deletion(control, project, id, how, &ids, &mut operations)?;
        Ok(())
    })?;
    if gone.is_none() {
        return Ok(None);
    }
    for endpoint in &endpoints {
        remove_endpoint(&control.fleet, &endpoint.id)?;
    }
    if how.hard {
        purge(control, project);
    }
    tracing::info!(branch = id, ?how, "branch deleted");
    Ok(gone.map(|row| (row, operations)))
}

/// The transaction that deletes; `None` if there was nothing to delete any more.
fn record_deletion(
    control: &Control,
    project: &str,
    id: &str,
    how: How,
    held: &[&str],
    operations: &mut [OperationRow],
) -> Result<Option<BranchRow>> {
    let now_us = clock::now_us();
    control.metadata.write(|change| {
        let rows = going(change, project, id, how)?;
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.iter().any(|row| !held.contains(&row.id.as_str())) {
            return Err(Error::busy(format!("branch {id} got a child while it was being deleted")));
        }
        for row in &rows {
            for endpoint in endpoint::of_branch(change, &row.id)? {
                endpoint::set_desired(change, &endpoint.id, Desired::Gone, now_us)?;
            }
            let row = BranchRow {
                deleted_us: row.deleted_us.or(Some(now_us)),
                purging: how.hard,
                expired: how.expired,
                updated_us: now_us,
                ..row.clone()
            };
            branch::update(change, &row)?;
        }
        for operation in operations {
            *operation = operation.clone().ended(None);
            operation::put(change, operation)?;
        }
        branch::find(change, project, id)
    })
}

/// Brings a deleted branch back, without an endpoint and without a time to expire. Its backup schedule goes on with the
/// next planned time: no backup is made up for the time in which the branch was deleted.
///
/// # Errors
/// `NotFound` if there is none, or it is too late; `Conflict` if its name is taken; `Refused` if it is not deleted, or
/// its parent is or expires.
pub fn recover_branch(
    control: &Control,
    project: &str,
    id: &str,
    name: Option<&str>,
) -> Result<(BranchRow, OperationRow)> {
    if let Some(name) = name {
        names::check_name("branch", name)?;
    }
    let begun = OperationRow::begun(Action::RecoverBranch, project, id, clock::now_us())?;
    control.operations.run(&begun, || recover_as(control, &begun, id, name))
}

fn recover_as(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    name: Option<&str>,
) -> Result<(BranchRow, OperationRow)> {
    let project = begun.project_id.as_str();
    let _held = control.locks.take(&[id])?;
    control.metadata.write(|change| {
        project::get(change, project)?;
        let found = branch::find(change, project, id)?.filter(|row| !row.purging);
        let mut row = found.ok_or_else(|| Error::not_found("branch", id))?;
        if row.deleted_us.is_none() {
            let text = format!("branch {} is not deleted", row.name);
            return Err(Error::refused("BRANCH_NOT_DELETED", text));
        }
        let parent = row.parent_id.as_deref().map(|parent| branch::find(change, project, parent));
        let parent = parent.transpose()?.flatten();
        if let Some(parent) = parent.as_ref().filter(|parent| parent.deleted_us.is_some()) {
            let text = format!("its parent {} is deleted\nhint: recover {} first", parent.name, parent.id);
            return Err(Error::refused("PARENT_DELETED", text));
        }
        if let Some(parent) = &parent {
            expiry::check_parent(parent)?;
        }
        row.name = name.map_or(row.name, str::to_owned);
        branch::check_free(change, project, &row.name)?;
        row.deleted_us = None;
        row.expired = false;
        row.expires_us = None;
        row.ttl_s = None;
        row.updated_us = clock::now_us();
        branch::update(change, &row)?;
        schedule::resume_branch(change, &row.id, row.updated_us)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((row, ended))
    })
}

/// Removes the rows of branches that are purged, children before parents, and their data.
pub fn purge(control: &Control, project: &str) {
    match control.metadata.write(|change| branch::purge(change, project)) {
        Ok(0) => {}
        Ok(_) => sweep_after(&control.storage, project),
        Err(error) => tracing::error!(project, %error, "cannot purge branches"),
    }
}

/// The rows to be deleted with branch `id`.
fn going(connection: &rusqlite::Connection, project: &str, id: &str, how: How) -> Result<Vec<BranchRow>> {
    let row = branch::find(connection, project, id)?.filter(|row| !row.purging);
    let row = row.ok_or_else(|| Error::not_found("branch", id))?;
    let live = |row: &BranchRow| row.deleted_us.is_none();
    if (!live(&row) && !how.hard) || how.due_us.is_some_and(|now_us| !is_due(&row, how.hard, now_us)) {
        return Ok(Vec::new());
    }
    let children: Vec<BranchRow> = branch::children(connection, id)?;
    if live(&row) {
        check_deletable(&row)?;
    }
    if !children.is_empty() && !how.recursive {
        let names = branch::names_of(&children);
        let hint = "hint: delete all children first, or ask for recursive=true";
        let text = format!("branch {} has children: {names}\n{hint}", row.name);
        return Err(Error::refused("BRANCH_HAS_CHILDREN", text));
    }
    // Deleted ones could never be brought back.
    let below = branch::below(connection, id, how.hard)?;
    below.iter().filter(|row| live(row)).try_for_each(check_deletable)?;
    Ok([vec![row], below].concat())
}

/// Whether the time of a branch has come: to be purged because nobody brought it back, or to be deleted.
fn is_due(row: &BranchRow, purged: bool, now_us: i64) -> bool {
    let (since_us, at_us) = match (purged, row.deleted_us) {
        (true, Some(deleted_us)) => (deleted_us, now_us - RECOVERABLE_US),
        (false, None) => (row.expires_us.unwrap_or(i64::MAX), now_us),
        _ => return false,
    };
    since_us <= at_us
}

fn check_deletable(row: &BranchRow) -> Result<()> {
    if row.protected {
        return Err(Error::refused("BRANCH_PROTECTED", "cannot delete protected branch"));
    }
    if row.is_default {
        let hint = "hint: make another one the default first, or delete the project";
        let text = format!("cannot delete default branch {}\n{hint}", row.name);
        return Err(Error::refused("BRANCH_IS_DEFAULT", text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::branch_row;

    #[test]
    fn defaults_and_protected_branches_stay() {
        let mut row = branch_row("br-a-b-c", "dev");
        assert!(check_deletable(&row).is_ok());
        row.is_default = true;
        assert_eq!(check_deletable(&row).unwrap_err().code, "BRANCH_IS_DEFAULT");
        row.protected = true;
        assert_eq!(check_deletable(&row).unwrap_err().message, "cannot delete protected branch");
    }
}
