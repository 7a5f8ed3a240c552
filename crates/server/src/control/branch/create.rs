//! Branches: create from the head, an LSN or a time; change.
//!
//! The path of creating one is kept short: ask the parent's Postgres how far it has flushed, wait until the store has
//! that, one manifest write in the store, one SQLite transaction.

use api::branch::{BranchCreateRequest, BranchRestoreRequest, BranchUpdate};
use store::BranchPoint;

use crate::clock;
use crate::control::Control;
use crate::control::branch::delete::purge;
use crate::control::branch::point::{At, discard, fork, parse_at};
use crate::control::branch::restore::restore_branch;
use crate::control::branch::schema_only::{Copied, copy_schema};
use crate::control::branch::{expiry, history};
use crate::control::catalog::change::know_roles;
use crate::control::endpoint::create::{check_endpoints, insert_endpoints, start_all};
use crate::control::endpoint::options::check_new;
use crate::error::{Error, Result};
use crate::fleet::endpoints::remove_endpoint;
use crate::limits::ANNOTATION_BYTES;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::idempotency::{self, Key};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::role::Moment;
use crate::metadata::{catalog, password, project, quarantine};
use crate::names::{self, parse_branch};

/// What a branch can begin with (`init_source`).
pub const PARENT_DATA: &str = "parent-data";
/// See [`PARENT_DATA`].
pub const SCHEMA_ONLY: &str = "schema-only";

/// Where the data of a new branch came from.
enum Origin {
    /// From that branch at that point, which may be in the history of an ancestor.
    Data(Box<BranchRow>, BranchPoint),
    /// Of a schema.
    Schema(Copied),
}

/// A branch that was made.
#[derive(Debug)]
pub struct Created {
    /// Its row.
    pub branch: BranchRow,
    /// Rows of its endpoints.
    pub endpoints: Vec<EndpointRow>,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// What to do if there is a branch of the name asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse.
    #[default]
    Refuse,
    /// Answer with that branch, as it is.
    Return,
    /// Give that branch the data asked for.
    Reset,
}

/// How to treat a request to create that may have been sent before.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Its key, if it has one.
    pub key: Option<Key>,
    /// See there.
    pub on_conflict: OnConflict,
}

/// Makes a branch and starts its endpoints.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict`, `Refused` for a request that cannot be done; `Unavailable` and `DiskFull` for
/// what failed. Then nothing is left of it.
pub fn create_branch(
    control: &Control,
    project: &str,
    request: &BranchCreateRequest,
    options: &CreateOptions,
) -> Result<Created> {
    let began_us = clock::now_us();
    check_request(request)?;
    let at = parse_at(request.branch.parent_lsn.as_deref(), request.branch.parent_timestamp.as_deref())?;
    let _once = options.key.as_ref().map(|key| control.locks.take_key(project, &key.key)).transpose()?;
    if let Some(made) = made_before(control, project, request, options)? {
        return Ok(made);
    }
    let id = names::branch_id()?;
    let begun = OperationRow::begun(Action::CreateBranch, project, &id, began_us)?;
    control.operations.run(&begun, || create_anew(control, &begun, request, options, at))
}

/// Makes the branch that `begun` is about, which there is not.
fn create_anew(
    control: &Control,
    begun: &OperationRow,
    request: &BranchCreateRequest,
    options: &CreateOptions,
    at: At,
) -> Result<Created> {
    let (project, id) = (begun.project_id.as_str(), begun.branch_id.clone().unwrap_or_default());
    let name = request.branch.name.clone().unwrap_or_else(|| id.clone());
    let parent = control.metadata.read(|connection| {
        project::get(connection, project)?;
        branch::check_free(connection, project, &name)?;
        let parent = match &request.branch.parent_id {
            Some(parent) => branch::get(connection, project, parent)?,
            None => branch::default(connection, project)?,
        };
        if !is_schema_only(request) {
            expiry::check_parent(&parent)?;
        }
        Ok(parent)
    })?;
    check_new(control, project, Some(&parent.id), &request.endpoints)?;
    if !is_schema_only(request) {
        know_roles(control, &parent)?;
    }
    let data = parse_branch(&id)?;
    // Until it runs, or nothing is left of it, nobody changes it and nothing begins on it.
    let _held = control.locks.take(&[&id])?;
    let _making = control.storage.unborn.make(&data);
    let row = new_row(&id, name, project, request);
    let (row, origin) = if row.schema_only {
        (row, Origin::Schema(copy_schema(control, &parent, at, &data)?))
    } else {
        let (parent, point) = fork(control, &parent, at, &data)?;
        (begun_at(row, &parent, at, &point), Origin::Data(Box::new(parent), point))
    };
    let (row, endpoints, operation) =
        record_branch(control, row, &origin, begun.clone(), (request, options.key.as_ref()))?;
    let mut operations = vec![operation];
    operations.extend(start_first(control, &row, &endpoints)?);
    tracing::info!(branch = row.id, parent = row.parent_id, lsn = row.parent_lsn, "branch created");
    Ok(Created { branch: row, endpoints, operations })
}

/// The branch that the request is content with, if there is one: of an earlier request with its key, or of its name.
fn made_before(
    control: &Control,
    project: &str,
    request: &BranchCreateRequest,
    options: &CreateOptions,
) -> Result<Option<Created>> {
    let (by_key, by_name) = control.metadata.read(|connection| {
        project::get(connection, project)?;
        let key = options.key.as_ref().map(|key| idempotency::find(connection, project, key));
        let by_key = key.transpose()?.flatten();
        let by_key = by_key.map(|id| branch::get(connection, project, &id)).transpose()?;
        let name = request.branch.name.as_ref().filter(|_| options.on_conflict != OnConflict::Refuse);
        let by_name = name.map(|name| branch::named(connection, project, name)).transpose()?.flatten();
        Ok((by_key, by_name))
    })?;
    let (row, operations) = match (by_key, by_name) {
        (Some(row), _) => (row, Vec::new()),
        (None, Some(_)) if options.on_conflict == OnConflict::Reset && is_schema_only(request) => {
            let text = "a branch cannot be reset to a schema\nhint: delete it and make it anew";
            return Err(Error::refused("NOT_SUPPORTED", text));
        }
        (None, Some(row)) if options.on_conflict == OnConflict::Reset => {
            let source = match (&request.branch.parent_id, &row.parent_id) {
                (Some(asked), _) => asked.clone(),
                (None, Some(parent)) => parent.clone(),
                (None, None) => control.metadata.read(|connection| branch::default(connection, project))?.id,
            };
            let reset = BranchRestoreRequest {
                source_branch_id: source,
                source_lsn: request.branch.parent_lsn.clone(),
                source_timestamp: request.branch.parent_timestamp.clone(),
                preserve_under_name: None,
                expires_at: request.branch.expires_at.clone(),
                quarantine: request.branch.quarantine,
            };
            let done = restore_branch(control, project, &row.id, &reset)?;
            (done.branch, done.operations)
        }
        (None, Some(row)) => (row, Vec::new()),
        (None, None) => return Ok(None),
    };
    let endpoints = control.metadata.read(|connection| endpoint::of_branch(connection, &row.id))?;
    Ok(Some(Created { branch: row, endpoints, operations }))
}

/// Writes the rows of a new branch whose data is there.
fn record_branch(
    control: &Control,
    mut row: BranchRow,
    origin: &Origin,
    begun: OperationRow,
    (request, key): (&BranchCreateRequest, Option<&Key>),
) -> Result<(BranchRow, Vec<EndpointRow>, OperationRow)> {
    let written = control.metadata.write_with_secrets(|change, secrets| {
        project::get(change, &row.project_id)?;
        match origin {
            // The parent may have been deleted or restored, or the name taken, since the request came in.
            Origin::Data(parent, point) => {
                let history = history::of(change, parent, point)?;
                row.parent_id = Some(branch::holder(change, parent)?);
                row.history_id = history.other;
                branch::insert(change, &row)?;
                let both = (change, secrets);
                password::begin(both, &history.roles, &row.id, point.lsn, history.protected)?;
            }
            Origin::Schema(copied) => {
                branch::insert(change, &row)?;
                let (both, moment) = ((row.id.as_str(), copied.source.as_str()), Moment::At(copied.lsn));
                catalog::take_over_copied(change, both, &copied.found, moment, row.created_us)?;
                if copied.foreign {
                    password::renew((change, secrets), &row.id)?;
                }
            }
        }
        if let Some(value) = &request.annotation_value {
            branch::annotate(change, &row.id, &value.to_string())?;
        }
        if request.branch.quarantine == Some(false) {
            quarantine::note_done(change, &row.id, clock::now_us())?;
        }
        let from = match origin {
            Origin::Data(..) => row.parent_id.as_deref(),
            Origin::Schema(copied) => Some(copied.parent.as_str()),
        };
        let endpoints = insert_endpoints(change, &row, from, &request.endpoints)?;
        if let Some(key) = key {
            idempotency::insert(change, &row.project_id, key, &row.id, row.created_us)?;
        }
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((endpoints, ended))
    });
    match written {
        Ok((endpoints, ended)) => Ok((row, endpoints, ended)),
        Err(error) => {
            discard(control, &row.project_id, &row.store_id);
            Err(error)
        }
    }
}

/// Starts the endpoints of a branch that was just made. If one does not start, nothing is left of the branch.
///
/// # Errors
/// As `start_endpoint`.
pub fn start_first(
    control: &Control,
    row: &BranchRow,
    endpoints: &[EndpointRow],
) -> Result<Vec<OperationRow>> {
    let started = start_all(control, endpoints);
    if started.is_err() {
        undo_branch(control, row, endpoints);
    }
    started
}

/// Removes a branch that was just made, and what remembers the request that made it.
pub fn undo_branch(control: &Control, row: &BranchRow, endpoints: &[EndpointRow]) {
    let undone = control.metadata.write(|change| {
        let now_us = clock::now_us();
        for endpoint in endpoints {
            endpoint::set_desired(change, &endpoint.id, Desired::Gone, now_us)?;
        }
        idempotency::forget(change, &row.id)?;
        let going = branch::find(change, &row.project_id, &row.id)?;
        let going = going.map(|row| BranchRow { deleted_us: Some(now_us), purging: true, ..row });
        going.map_or(Ok(()), |row| branch::update(change, &row))
    });
    let removed = endpoints.iter().try_for_each(|endpoint| remove_endpoint(&control.fleet, &endpoint.id));
    if let Err(error) = undone.and(removed) {
        tracing::error!(branch = row.id, %error, "cannot undo a branch at once; it is removed later");
    }
    purge(control, &row.project_id);
    let left = control.metadata.read(|connection| branch::find(connection, &row.project_id, &row.id));
    if left.is_ok_and(|left| left.is_none()) {
        discard(control, &row.project_id, &row.store_id);
    }
}

/// Renames or protects a branch, or says when it expires.
///
/// # Errors
/// `NotFound` if it does not exist, `Conflict` if the name is taken, `Refused` for an expiry that it cannot have.
pub fn update_branch(
    control: &Control,
    project: &str,
    id: &str,
    update: &BranchUpdate,
) -> Result<(BranchRow, OperationRow)> {
    if let Some(name) = &update.name {
        names::check_name("branch", name)?;
    }
    change_branch(control, project, id, Action::UpdateBranch, |change, row| {
        if let Some(name) = update.name.as_ref().filter(|name| **name != row.name) {
            branch::check_free(change, project, name)?;
            row.name.clone_from(name);
        }
        row.protected = update.protected.unwrap_or(row.protected);
        if let Some(expires_at) = &update.expires_at {
            let expiry = expiry::parse(expires_at.as_deref(), clock::now_us())?;
            row.expires_us = expiry.map(|expiry| expiry.at_us);
            row.ttl_s = expiry.map(|expiry| expiry.ttl_s);
        }
        expiry::check(row, &branch::children(change, id)?)
    })
}

/// Makes a branch the parent of branches that name none.
///
/// # Errors
/// `NotFound` if it does not exist.
pub fn set_default_branch(control: &Control, project: &str, id: &str) -> Result<(BranchRow, OperationRow)> {
    change_branch(control, project, id, Action::SetDefaultBranch, |change, row| {
        row.is_default = true;
        expiry::check(row, &[])?;
        branch::set_default(change, project, id)
    })
}

/// Changes a row, and keeps a record of it.
fn change_branch(
    control: &Control,
    project: &str,
    id: &str,
    action: Action,
    edit: impl FnOnce(&rusqlite::Connection, &mut BranchRow) -> Result<()>,
) -> Result<(BranchRow, OperationRow)> {
    let begun = OperationRow::begun(action, project, id, clock::now_us())?;
    let _held = control.locks.take(&[id])?;
    control.metadata.write(|change| {
        let mut row = branch::get(change, project, id)?;
        edit(change, &mut row)?;
        row.updated_us = clock::now_us();
        branch::update(change, &row)?;
        let ended = begun.ended(None);
        operation::put(change, &ended)?;
        Ok((row, ended))
    })
}

fn check_request(request: &BranchCreateRequest) -> Result<()> {
    if let Some(name) = &request.branch.name {
        names::check_name("branch", name)?;
    }
    names::check_id("parent_id", request.branch.parent_id.as_deref())?;
    check_endpoints(&request.endpoints)?;
    if request.annotation_value.as_ref().is_some_and(|value| value.to_string().len() > ANNOTATION_BYTES) {
        let text = format!("annotation_value has more than {ANNOTATION_BYTES} bytes as JSON");
        return Err(Error::malformed(format!("{text}\nhint: note where the rest is to be found")));
    }
    if request
        .branch
        .init_source
        .as_deref()
        .is_some_and(|source| ![PARENT_DATA, SCHEMA_ONLY].contains(&source))
    {
        let text = format!("init_source is {PARENT_DATA} or {SCHEMA_ONLY}\nhint: leave it out");
        return Err(Error::refused("NOT_SUPPORTED", text));
    }
    let expiring = expiry::parse(request.branch.expires_at.as_deref(), clock::now_us())?.is_some();
    if expiring && request.branch.protected.unwrap_or(false) {
        return Err(expiry::refusal("a protected branch cannot expire"));
    }
    Ok(())
}

fn is_schema_only(request: &BranchCreateRequest) -> bool {
    request.branch.init_source.as_deref() == Some(SCHEMA_ONLY)
}

/// A row without a parent, whose history begins now.
fn new_row(id: &str, name: String, project: &str, request: &BranchCreateRequest) -> BranchRow {
    let now_us = clock::now_us();
    // Checked with the rest of the request.
    let expiry = expiry::parse(request.branch.expires_at.as_deref(), now_us).unwrap_or_default();
    BranchRow {
        parent_time_us: Some(now_us),
        schema_only: is_schema_only(request),
        protected: request.branch.protected.unwrap_or(false),
        expires_us: expiry.map(|expiry| expiry.at_us),
        ttl_s: expiry.map(|expiry| expiry.ttl_s),
        ..BranchRow::new(id, project, name, now_us)
    }
}

/// A new row of a branch that begins there on `parent`.
fn begun_at(row: BranchRow, parent: &BranchRow, at: At, point: &BranchPoint) -> BranchRow {
    let requested_lsn = match at {
        At::Lsn(asked) if asked != point.lsn => Some(asked.to_string()),
        _ => None,
    };
    BranchRow {
        parent_id: Some(parent.id.clone()),
        parent_lsn: Some(point.lsn.to_string()),
        parent_time_us: point.last_commit.map(|(time, _)| time.unix_us()),
        requested_lsn,
        ..row
    }
}
