//! Projects go: deleted ones can be brought back for a while, and then they are removed.
//!
//! ```text
//!   ready --delete--> deleted --7 days, hard_delete--> deleting --> nothing
//!     ^                  |
//!     +-----recover------+
//! ```
//!
//! What must hold
//! - Each arrow is one transaction over one row, so a crash leaves a project on one side of it. What follows from it is
//!   done after, and again by whoever comes next: the reconciler stops what runs of a deleted project, and the pass over
//!   deletions, or the next start, goes on with a removal.
//! - A deleted project keeps all rows and data, the ports of its endpoints and its API keys too, and nothing of it runs.
//!   To clients it is not there. Which endpoints are to run is kept as well, and they do once it is back.
//! - Nothing is added to a project that is being removed, so what is found then is all of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::clock::now_us;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::fleet::endpoints::{remove_endpoint, remove_endpoint_files, suspend_endpoint};
use crate::fleet::process::clear_leftovers;
use crate::limits::{RECOVERABLE_US, STOPS_AT_ONCE};
use crate::machine::threads;
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::project::{self, ProjectRow};
use crate::metadata::{branch, schedule};
use crate::storage::sweep::sweep_after;

/// Deletes a project with everything in it; with `hard`, for good.
///
/// # Errors
/// `NotFound` if it does not exist, `Refused` while it has a protected branch, `Busy` while it is being deleted or
/// brought back. Then it is as it was. Those of removing it, which goes on.
pub fn delete_project(control: &Control, id: &str, hard: bool) -> Result<ProjectRow> {
    let begun = OperationRow::begun_in(Action::DeleteProject, id, now_us())?;
    control.operations.run(&begun, || delete_project_as(control, &begun, hard))
}

fn delete_project_as(control: &Control, begun: &OperationRow, hard: bool) -> Result<ProjectRow> {
    let id = begun.project_id.as_str();
    let _held = control.locks.take(&[id])?;
    let (row, ran) = control.metadata.write(|change| {
        let there = |row: &ProjectRow| row.state == project::READY || (hard && row.state == project::DELETED);
        let row = project::find(change, id)?.filter(there).ok_or_else(|| Error::not_found("project", id))?;
        check_unprotected(change, id)?;
        let ran = endpoint::of_project(change, id)?;
        let now_us = now_us();
        let state = if hard { project::DELETING } else { project::DELETED }.to_owned();
        let deleted_us = row.deleted_us.or(Some(now_us));
        let row = ProjectRow { state, deleted_us, updated_us: now_us, ..row };
        project::put(change, &row)?;
        operation::put(change, &begun.clone().ended(None)).map(|()| (row, ran))
    })?;
    if hard {
        remove_project(control, id)?;
    } else {
        stop_all(control, &ran);
    }
    tracing::info!(project = id, hard, "project deleted");
    Ok(row)
}

/// Stops those that ran, many at once. One that does not stop is left to the reconciler.
fn stop_all(control: &Control, endpoints: &[EndpointRow]) {
    let ran: Vec<_> = endpoints.iter().filter(|row| row.desired == Desired::Active).collect();
    threads::each(&ran, STOPS_AT_ONCE, |row| {
        if let Err(error) = suspend_endpoint(&control.fleet, row) {
            tracing::warn!(endpoint = row.id, %error, "its project is deleted, and it does not stop");
        }
    });
}

/// Brings a deleted project back; the endpoints that ran are started soon. Its schedules go on with their next planned
/// times: nothing is made up for the time in which the project was deleted.
///
/// # Errors
/// `NotFound` if there is none or it is too late, `Refused` if it is not deleted, `Busy` while it is being deleted.
pub fn recover_project(control: &Control, id: &str) -> Result<ProjectRow> {
    let begun = OperationRow::begun_in(Action::RecoverProject, id, now_us())?;
    control.operations.run(&begun, || recover_project_as(control, &begun))
}

fn recover_project_as(control: &Control, begun: &OperationRow) -> Result<ProjectRow> {
    let id = begun.project_id.as_str();
    let _held = control.locks.take(&[id])?;
    let row = control.metadata.write(|change| {
        let row = project::find(change, id)?.ok_or_else(|| Error::not_found("project", id))?;
        match row.state.as_str() {
            project::READY => {
                let text = format!("project {id} is not deleted");
                return Err(Error::refused("PROJECT_NOT_DELETED", text));
            }
            project::DELETED => {}
            _ => return Err(Error::not_found("project", id)),
        }
        let state = project::READY.to_owned();
        let row = ProjectRow { state, deleted_us: None, updated_us: now_us(), ..row };
        project::put(change, &row)?;
        schedule::resume_project(change, id, row.updated_us)?;
        operation::put(change, &begun.clone().ended(None)).map(|()| row)
    })?;
    control.fleet.bell.ring();
    // A crash may have left data in it, which no start has looked at since.
    sweep_after(&control.storage, id);
    tracing::info!(project = id, "project recovered");
    Ok(row)
}

/// Removes deleted projects that nobody can bring back any more, and goes on with removals that failed. Those in
/// `failed` are left alone, and what fails now is added to them.
///
/// # Errors
/// Those of SQLite.
pub fn remove_old_projects(control: &Control, failed: &mut HashMap<String, Instant>) -> Result<()> {
    let old = |change: &rusqlite::Connection| project::due(change, now_us() - RECOVERABLE_US);
    for id in control.metadata.read(old)?.iter().filter(|id| !failed.contains_key(*id)).collect::<Vec<_>>() {
        // Otherwise a request removes it, or brings it back.
        let Some(_held) = control.locks.take_now(&[id]) else { continue };
        if !control.metadata.read(old)?.contains(id) {
            continue;
        }
        let begun = OperationRow::begun_in(Action::DeleteProject, id, now_us())?;
        let _shown = control.operations.show(&begun);
        match remove_project(control, id) {
            Ok(()) => tracing::info!(project = id, "project removed"),
            Err(error) => {
                tracing::warn!(project = id, %error, "its time has come, but it is not removed");
                failed.insert(id.clone(), Instant::now());
            }
        }
    }
    Ok(())
}

/// Removes every trace of a project, whatever there is of it.
///
/// # Errors
/// Those of the file system and SQLite; calling again goes on.
pub fn remove_project(control: &Control, id: &str) -> Result<()> {
    let endpoints = control.metadata.write(|change| {
        project::set_state(change, id, project::DELETING)?;
        let its = endpoint::all_of_project(change, id)?;
        for endpoint in &its {
            endpoint::set_desired(change, &endpoint.id, Desired::Gone, now_us())?;
        }
        Ok(its)
    })?;
    for endpoint in &endpoints {
        remove_endpoint(&control.fleet, &endpoint.id)?;
    }
    end_hidden(control, id);
    control.storage.in_tree(id, || {
        // A server that was killed leaves `initdb` at work.
        clear_leftovers(&control.dir.bootstrap(id));
        remove_dir(&control.dir.bootstrap(id))?;
        remove_dir(&control.dir.project(id))?;
        failpoint::passed(Step::StoreRemoved);
        Ok(())
    })?;
    control.storage.forget(id);
    control.metadata.write(|change| project::remove(change, id))?;
    control.keys.forget_project(id);
    Ok(())
}

/// Ends hidden endpoints of a project; the requests that started them fail.
fn end_hidden(control: &Control, project: &str) {
    let hidden = control.fleet.hidden.lock().clone();
    for row in hidden.values().filter(|row| row.project_id == project) {
        if let Err(error) = remove_endpoint_files(&control.fleet, &row.id) {
            tracing::warn!(endpoint = row.id, %error, "the files of a hidden endpoint are not removed");
        }
    }
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

fn check_unprotected(connection: &rusqlite::Connection, id: &str) -> Result<()> {
    match branch::any_protected(connection, id)? {
        None => Ok(()),
        Some(branch) => {
            let text =
                format!("project {id} has the protected branch {}\nhint: unprotect it first", branch.name);
            Err(Error::refused("BRANCH_PROTECTED", text))
        }
    }
}
