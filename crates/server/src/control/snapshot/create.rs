//! Snapshots: a moment of a branch gets a name, and its data stays for as long as the name does.
//!
//! ```text
//!   create    a branch of the store is made at that moment; one transaction makes a snapshot's row name it
//!   restore   a branch of the store is made on that; one transaction makes a new branch's row name it
//!   delete    the row goes; a sweep removes the data unless something begins on it
//! ```
//!
//! What must hold
//! - Nothing ever runs on the data of a snapshot: no endpoint can name it, so it stays what it was.
//! - The row alone keeps the data. So it outlives its source, however that is deleted, and nobody has to ask whether a
//!   snapshot is in the way.
//!
//! A crash before a transaction leaves data that no row names, which the next start sweeps.
//!
//! Not here: how a restored branch takes the place of another (`finalize`), how large one is (`snapshot::size`).

use api::endpoint::{BranchEndpointCreate, EndpointOptions, EndpointType};
use api::snapshot::{SnapshotCreate, SnapshotRestoreRequest, SnapshotUpdate};
use types::Lsn;

use crate::clock;
use crate::control::Control;
use crate::control::branch::create::start_first;
use crate::control::branch::history;
use crate::control::branch::point::{At, discard, fork, parse_at};
use crate::control::catalog::change::know_roles;
use crate::control::endpoint::create::{check_endpoints, insert_endpoints};
use crate::control::endpoint::options::{self, check_new};
use crate::control::snapshot::finalize::{Finalized, make_in_place};
use crate::control::snapshot::size::snapshot_sizes;
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::EndpointRow;
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::secret::Secrets;
use crate::metadata::snapshot::{self, SnapshotRow};
use crate::metadata::{password, project, quarantine};
use crate::names::{self, parse_branch};
use crate::storage::sweep::sweep_after;

/// A branch that was made of a snapshot.
#[derive(Debug)]
pub struct FromSnapshot {
    /// Its row.
    pub branch: BranchRow,
    /// The row of the branch whose place it took, if it did.
    pub replaced: Option<BranchRow>,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// Who makes a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A request.
    Request,
    /// A schedule.
    Schedule,
}

/// Makes a snapshot of a branch. `also` is done in the transaction that writes its row.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict`, `Refused` for a request that cannot be done; `Unavailable` and `DiskFull` for
/// what failed. Then nothing is left of it.
pub fn create_snapshot(
    control: &Control,
    project: &str,
    source: &str,
    request: &SnapshotCreate,
    by: By,
    also: impl Fn(&rusqlite::Connection) -> Result<()>,
) -> Result<(SnapshotRow, OperationRow)> {
    let now_us = clock::now_us();
    let expires_us = parse_expiry(request.expires_at.as_deref(), now_us)?;
    for name in request.name.iter().chain(&request.slug) {
        names::check_name("snapshot", name)?;
    }
    let at = parse_at(request.lsn.as_deref(), request.timestamp.as_deref())?;
    let source = control.metadata.read(|connection| {
        if let Some(name) = &request.name {
            snapshot::check_free(connection, project, name)?;
        }
        branch::get(connection, project, source)
    })?;
    let begun = OperationRow::begun(Action::CreateSnapshot, project, &source.id, now_us)?;
    control
        .operations
        .run(&begun, || snapshot_as(control, &begun, (source, at), (request, expires_us), by, also))
}

fn snapshot_as(
    control: &Control,
    begun: &OperationRow,
    (source, at): (BranchRow, At),
    (request, expires_us): (&SnapshotCreate, Option<i64>),
    by: By,
    also: impl Fn(&rusqlite::Connection) -> Result<()>,
) -> Result<(SnapshotRow, OperationRow)> {
    let (project, now_us) = (begun.project_id.as_str(), begun.created_us);
    know_roles(control, &source)?;
    let data = parse_branch(&names::branch_id()?)?;
    let _making = control.storage.unborn.make(&data);
    let (source, point) = fork(control, &source, at, &data)?;
    let sizes = snapshot_sizes(control, &source, &data, &point);
    let sizes = sizes.inspect_err(|_| discard(control, project, data.as_str()))?;
    let mut row = SnapshotRow {
        id: names::snapshot_id()?,
        project_id: project.to_owned(),
        store_id: data.to_string(),
        name: request.name.clone().unwrap_or_else(|| format!("{} {}", source.name, clock::show(now_us))),
        slug: request.slug.clone(),
        source_branch_id: source.id.clone(),
        history_id: None,
        lsn: point.lsn.to_string(),
        time_us: point.last_commit.map(|(time, _)| time.unix_us()),
        manual: by == By::Request,
        full_bytes: Some(sizes.full_bytes),
        diff_bytes: sizes.diff_bytes,
        expires_us,
        created_us: now_us,
        updated_us: now_us,
    };
    let written = control.metadata.write_with_secrets(|change, secrets| {
        // The source may have been deleted or restored since.
        let history = history::of(change, &source, &point)?;
        row.history_id = history.other;
        snapshot::insert(change, &row)?;
        let both = (change, secrets);
        password::begin(both, &history.roles, &row.id, point.lsn, history.protected)?;
        also(change)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok(ended)
    });
    let ended = written.inspect_err(|_| discard(control, project, data.as_str()))?;
    tracing::info!(snapshot = row.id, branch = source.id, lsn = row.lsn, "snapshot created");
    Ok((row, ended))
}

/// Renames a snapshot, or says when it expires.
///
/// # Errors
/// `NotFound` if it does not exist, `Conflict` if the name is taken, `Refused` for a time in the past.
pub fn update_snapshot(
    control: &Control,
    project: &str,
    id: &str,
    update: &SnapshotUpdate,
) -> Result<SnapshotRow> {
    if let Some(name) = &update.name {
        names::check_name("snapshot", name)?;
    }
    let now_us = clock::now_us();
    let begun = OperationRow::begun_in(Action::UpdateSnapshot, project, now_us)?;
    control.metadata.write(|change| {
        let mut row = snapshot::get(change, project, id)?;
        if let Some(name) = update.name.as_ref().filter(|name| **name != row.name) {
            snapshot::check_free(change, project, name)?;
            row.name.clone_from(name);
        }
        if let Some(expires_at) = &update.expires_at {
            row.expires_us = parse_expiry(expires_at.as_deref(), now_us)?;
        }
        row.updated_us = now_us;
        snapshot::update(change, &row)?;
        let branch_id = Some(row.source_branch_id.clone());
        operation::put(change, &OperationRow { branch_id, ..begun }.ended(None)).map(|()| row)
    })
}

/// Deletes a snapshot, and its data unless a branch begins on it. `None` if it does not expire by `due_us`, if that is
/// given.
///
/// # Errors
/// `NotFound` if it does not exist.
pub fn delete_snapshot(
    control: &Control,
    project: &str,
    id: &str,
    due_us: Option<i64>,
) -> Result<Option<(SnapshotRow, OperationRow)>> {
    let source = control.metadata.read(|connection| snapshot::get(connection, project, id))?.source_branch_id;
    let begun = OperationRow::begun(Action::DeleteSnapshot, project, &source, clock::now_us())?;
    control.operations.run(&begun, || delete_snapshot_as(control, &begun, id, due_us))
}

fn delete_snapshot_as(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    due_us: Option<i64>,
) -> Result<Option<(SnapshotRow, OperationRow)>> {
    let project = begun.project_id.as_str();
    let done = control.metadata.write(|change| {
        let row = snapshot::get(change, project, id)?;
        if due_us.is_some_and(|due_us| row.expires_us.is_none_or(|at_us| at_us > due_us)) {
            return Ok(None);
        }
        snapshot::remove(change, project, id)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok(Some((row, ended)))
    })?;
    if done.is_none() {
        return Ok(None);
    }
    sweep_after(&control.storage, project);
    tracing::info!(snapshot = id, "snapshot deleted");
    Ok(done)
}

/// Makes a branch of a snapshot; with `finalize_restore`, one that takes the place of another at once.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict`, `Refused` for a request that cannot be done; `Unavailable` and `DiskFull` for
/// what failed. Then nothing is left of it, unless the error says that it took the place and does not run yet.
pub fn restore_snapshot(
    control: &Control,
    project: &str,
    id: &str,
    request: &SnapshotRestoreRequest,
) -> Result<FromSnapshot> {
    if let Some(name) = &request.name {
        names::check_name("branch", name)?;
    }
    names::check_id("target_branch_id", request.target_branch_id.as_deref())?;
    check_endpoints(&wanted_endpoints(request))?;
    let (snapshot, target) = control.metadata.read(|connection| {
        project::get(connection, project)?;
        let snapshot = snapshot::get(connection, project, id)?;
        let target = target(connection, &snapshot, request)?;
        Ok((snapshot, target))
    })?;
    check_new(control, project, Some(&snapshot.source_branch_id), &wanted_endpoints(request))?;
    let begun = OperationRow::begun(Action::RestoreSnapshot, project, &names::branch_id()?, clock::now_us())?;
    control.operations.run(&begun, || restore_snapshot_as(control, &begun, (&snapshot, target), request))
}

/// Makes the branch that `begun` is about.
fn restore_snapshot_as(
    control: &Control,
    begun: &OperationRow,
    (snapshot, target): (&SnapshotRow, Option<BranchRow>),
    request: &SnapshotRestoreRequest,
) -> Result<FromSnapshot> {
    let (project, id, begun_us) = (begun.project_id.as_str(), snapshot.id.as_str(), begun.created_us);
    let data = parse_branch(begun.branch_id.as_deref().unwrap_or_default())?;
    // Until it runs, or nothing is left of it, nobody changes it and nothing begins on it.
    let _held = control.locks.take(&[data.as_str()])?;
    let _making = control.storage.unborn.make(&data);
    let lsn = snapshot.lsn.parse::<Lsn>().map_err(|error| Error::internal(error.to_string()))?;
    let store = control.storage.store(project)?;
    control.storage.in_tree(project, || {
        control.metadata.read(|connection| snapshot::get(connection, project, id))?;
        store.create_branch(&data, &parse_branch(&snapshot.store_id)?, lsn)?;
        failpoint::passed(Step::BranchMade);
        Ok(())
    })?;
    let row = restored_row(snapshot, data.as_str(), target.as_ref(), request.name.as_deref());
    let make = |change: &rusqlite::Connection, secrets: &mut Secrets| {
        record((change, secrets), row.clone(), (snapshot, lsn), request, begun.clone())
    };
    if let Some(target) = target.as_ref().filter(|_| request.finalize_restore) {
        let make = |change: &rusqlite::Connection, secrets: &mut Secrets| {
            make(change, secrets).map(|(row, _, ended)| (row, ended))
        };
        let done = make_in_place(control, target, lsn, begun_us, make).inspect_err(|_| {
            let named = control.metadata.read(|connection| branch::find(connection, project, data.as_str()));
            if named.is_ok_and(|named| named.is_none()) {
                discard(control, project, data.as_str());
            }
        })?;
        let Finalized { branch, replaced, operations } = done;
        return Ok(FromSnapshot { branch, replaced: Some(replaced), operations });
    }
    let written = control.metadata.write_with_secrets(make);
    let (row, endpoints, ended) = written.inspect_err(|_| discard(control, project, data.as_str()))?;
    let mut operations = vec![ended];
    operations.extend(start_first(control, &row, &endpoints)?);
    tracing::info!(branch = row.id, snapshot = id, "branch made of a snapshot");
    Ok(FromSnapshot { branch: row, replaced: None, operations })
}

/// Writes the rows of a branch whose data was made of a snapshot's.
fn record(
    (change, secrets): (&rusqlite::Connection, &mut Secrets),
    mut row: BranchRow,
    (snapshot, lsn): (&SnapshotRow, Lsn),
    request: &SnapshotRestoreRequest,
    begun: OperationRow,
) -> Result<(BranchRow, Vec<EndpointRow>, OperationRow)> {
    // It may have been deleted, and its roles with it.
    snapshot::get(change, &snapshot.project_id, &snapshot.id)?;
    if row.name.is_empty() {
        row.name = branch::free_name(change, &row.project_id, &names::noted(&snapshot.name, " (restored)"))?;
    }
    branch::insert(change, &row)?;
    password::begin((change, secrets), &snapshot.id, &row.id, lsn, false)?;
    if request.quarantine == Some(false) {
        quarantine::note_done(change, &row.id, row.created_us)?;
    }
    let from = options::begins_on(change, &row)?;
    let endpoints = insert_endpoints(change, &row, from.as_deref(), &wanted_endpoints(request))?;
    let ended = begun.ended(None);
    operation::put(change, &ended)?;
    Ok((row, endpoints, ended))
}

/// What a snapshot's branch runs on until it takes the place of another.
fn wanted_endpoints(request: &SnapshotRestoreRequest) -> Vec<BranchEndpointCreate> {
    let one = || BranchEndpointCreate { kind: EndpointType::ReadWrite, options: EndpointOptions::default() };
    match &request.endpoints {
        _ if request.finalize_restore => Vec::new(),
        Some(wanted) => wanted.clone(),
        None => vec![one()],
    }
}

/// The branch whose place is to be taken, if there is one.
fn target(
    connection: &rusqlite::Connection,
    snapshot: &SnapshotRow,
    request: &SnapshotRestoreRequest,
) -> Result<Option<BranchRow>> {
    let project = &snapshot.project_id;
    if let Some(id) = &request.target_branch_id {
        return branch::get(connection, project, id).map(Some);
    }
    let mut id = snapshot.source_branch_id.clone();
    // Nobody takes the place of a branch that took its own, so this ends.
    while let Some(next) = branch::who_took_the_place_of(connection, &id)? {
        id = next;
    }
    let found = branch::find(connection, project, &id)?.filter(|row| row.deleted_us.is_none());
    if found.is_none() && request.finalize_restore {
        let text = format!("the branch that snapshot {} was made of is gone", snapshot.name);
        let hint =
            "hint: give target_branch_id, or restore it as a branch of its own, without finalize_restore";
        return Err(Error::refused("SOURCE_DELETED", format!("{text}\n{hint}")));
    }
    Ok(found)
}

/// The row of a branch that begins on a snapshot. It has no parent: its source may go, or become the old one.
fn restored_row(
    snapshot: &SnapshotRow,
    id: &str,
    target: Option<&BranchRow>,
    name: Option<&str>,
) -> BranchRow {
    BranchRow {
        parent_time_us: snapshot.time_us,
        restored_from: Some(snapshot.id.clone()),
        restored_as: target.map(|row| row.id.clone()),
        ..BranchRow::new(id, &snapshot.project_id, name.unwrap_or_default(), clock::now_us())
    }
}

/// Reads the `expires_at` of a request. Unlike a branch, a snapshot may be meant for years.
fn parse_expiry(text: Option<&str>, now_us: i64) -> Result<Option<i64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let at_us = clock::parse(text)?;
    if at_us <= now_us {
        let text = format!("{text} is in the past; a snapshot expires in the future");
        return Err(Error::refused("EXPIRY_NOT_ALLOWED", text));
    }
    Ok(Some(at_us))
}
