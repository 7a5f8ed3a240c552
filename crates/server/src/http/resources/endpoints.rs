//! Routes of endpoints and connection strings.

use api::connection::ConnectionUri;
use api::endpoint::{
    Endpoint, EndpointCreateRequest, EndpointList, EndpointOperations, EndpointResponse, EndpointState,
    EndpointUpdateRequest, ReplicationSlotList,
};
use api::pagination::CursorPagination;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::view;
use crate::control::Control;
use crate::control::catalog::change::{Rows, known_catalog, read_catalog};
use crate::control::endpoint::create::{create_endpoint, delete_endpoint};
use crate::control::endpoint::options::{put_to_sleep, restart_endpoint, update_endpoint, wake_endpoint};
use crate::control::endpoint::slots::replication_slots;
use crate::error::{Error, Result};
use crate::fleet::endpoints::{observe, runs};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::cursor::Cursor;
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::OperationRow;
use crate::metadata::{branch, project};
use crate::names;

/// The row as it is now: a start may have changed its port.
///
/// # Errors
/// 404 if it is gone.
pub fn fresh(control: &Control, row: &EndpointRow) -> Result<EndpointRow> {
    control.metadata.read(|connection| endpoint::get(connection, &row.project_id, &row.id))
}

fn view_all(control: &Control, rows: &[EndpointRow]) -> EndpointList {
    let endpoints = rows.iter().map(|row| view::endpoint(control, row)).collect();
    EndpointList { endpoints, pagination: None }
}

/// Which page of a list; all of it if no limit is given.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    limit: Option<usize>,
    cursor: String,
}

/// `GET /projects/{project_id}/endpoints`.
pub async fn list(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    answer::ok(move || {
        let mut rows = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            endpoint::of_project(connection, &project)
        })?;
        rows.sort_by_key(EndpointRow::place);
        if let Some(after) = Cursor::parse(&page.cursor)? {
            rows.retain(|row| row.place() > after);
        }
        let more = page.limit.is_some_and(|limit| limit < rows.len());
        rows.truncate(page.limit.unwrap_or(usize::MAX).max(1));
        let last =
            rows.last().filter(|_| more).map(|row| CursorPagination { cursor: row.place().to_string() });
        Ok(EndpointList { pagination: last, ..view_all(&context.control, &rows) })
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}/endpoints`.
pub async fn list_of_branch(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || {
        let rows = context.control.metadata.read(|connection| {
            branch::get(connection, &project, &id)?;
            endpoint::of_branch(connection, &id)
        })?;
        Ok(view_all(&context.control, &rows))
    })
    .await
}

/// `POST /projects/{project_id}/endpoints`.
pub async fn create(State(context): State<Context>, Path(project): Path<String>, bytes: Bytes) -> Response {
    answer::created(move || {
        let request: EndpointCreateRequest = answer::body(&bytes)?;
        let (row, operations) = create_endpoint(&context.control, &project, &request.endpoint)?;
        show(&context.control, &row, operations)
    })
    .await
}

fn show(control: &Control, row: &EndpointRow, operations: Vec<OperationRow>) -> Result<EndpointOperations> {
    let row = fresh(control, row)?;
    Ok(EndpointOperations {
        endpoint: view::endpoint(control, &row),
        operations: view::operations(&operations),
    })
}

/// `GET /projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let row = context.control.metadata.read(|connection| endpoint::get(connection, &project, &id))?;
        // What the reconciler saw may be a second old.
        observe(&context.control.fleet, &id);
        Ok(EndpointResponse { endpoint: view::endpoint(&context.control, &row) })
    })
    .await
}

/// `GET /projects/{project_id}/endpoints/{endpoint_id}/replication_slots`.
pub async fn slots(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let replication_slots = replication_slots(&context.control, &project, &id)?;
        Ok(ReplicationSlotList { replication_slots })
    })
    .await
}

/// `PATCH /projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn update(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: EndpointUpdateRequest = answer::body(&bytes)?;
        let (row, operations) = update_endpoint(&context.control, &project, &id, &request.endpoint)?;
        show(&context.control, &row, operations)
    })
    .await
}

/// `POST /projects/{project_id}/endpoints/{endpoint_id}/restart`.
pub async fn restart(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || {
        let (row, operations) = restart_endpoint(&context.control, &project, &id)?;
        show(&context.control, &row, operations)
    })
    .await
}

/// `POST /projects/{project_id}/endpoints/{endpoint_id}/start`.
pub async fn start(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let (row, operation) = wake_endpoint(&context.control, &project, &id)?;
        show(&context.control, &row, vec![operation])
    })
    .await
}

/// `POST /projects/{project_id}/endpoints/{endpoint_id}/suspend`.
pub async fn suspend(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || {
        let (row, operation) = put_to_sleep(&context.control, &project, &id)?;
        show(&context.control, &row, vec![operation])
    })
    .await
}

/// `DELETE /projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn delete(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let control = &context.control;
        let (row, ended) = delete_endpoint(control, &project, &id)?;
        // Nothing of its process is known any more.
        let shown = view::endpoint(control, &row);
        let endpoint = Endpoint { current_state: EndpointState::Idle, pending_state: None, ..shown };
        Ok(EndpointOperations { endpoint, operations: view::operations(&[ended]) })
    })
    .await
}

/// Which connection string.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    branch_id: Option<String>,
    endpoint_id: Option<String>,
    database_name: Option<String>,
    role_name: Option<String>,
}

/// `GET /projects/{project_id}/connection_uri`.
pub async fn connection_uri(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        let uri = find_uri(&context.control, &project, &wanted)?;
        Ok(ConnectionUri { uri })
    })
    .await
}

fn find_uri(control: &Control, project: &str, wanted: &Wanted) -> Result<String> {
    let row = control.metadata.read(|connection| endpoint_wanted(connection, project, wanted))?;
    let (role, database) = (wanted.role_name.as_deref(), wanted.database_name.as_deref());
    let chosen = |(roles, databases): Rows| -> Result<String> {
        let role = choose("role", "role_name", role, &roles, |row| &row.name)?;
        let database = choose("database", "database_name", database, &databases, |row| &row.name)?;
        Ok(view::uri(&row, role, &database.name))
    };
    // An endpoint that does not run is not started for this: what was seen last is enough if all is in it.
    if !runs(&control.fleet, &row.id)
        && let Ok(uri) = chosen(known_catalog(control, &row.branch_id)?)
    {
        return Ok(uri);
    }
    chosen(read_catalog(control, project, &row.branch_id)?)
}

fn endpoint_wanted(connection: &rusqlite::Connection, project: &str, wanted: &Wanted) -> Result<EndpointRow> {
    project::get(connection, project)?;
    names::check_id("endpoint_id", wanted.endpoint_id.as_deref())?;
    names::check_id("branch_id", wanted.branch_id.as_deref())?;
    if let Some(id) = &wanted.endpoint_id {
        return endpoint::get(connection, project, id);
    }
    let branch = match &wanted.branch_id {
        Some(id) => branch::get(connection, project, id)?,
        None => branch::default(connection, project)?,
    };
    endpoint::of_branch(connection, &branch.id)?.into_iter().next().ok_or_else(|| {
        let hint = "hint: create an endpoint for it";
        Error::not_found("endpoint", &format!("branch {} has none\n{hint}", branch.name))
    })
}

/// The one named, or the only one.
fn choose<'a, T>(
    kind: &str,
    parameter: &str,
    wanted: Option<&str>,
    rows: &'a [T],
    name: impl Fn(&T) -> &str,
) -> Result<&'a T> {
    match (wanted, rows) {
        (Some(wanted), _) => {
            rows.iter().find(|row| name(row) == wanted).ok_or_else(|| Error::not_found(kind, wanted))
        }
        (None, [only]) => Ok(only),
        (None, _) => {
            Err(Error::malformed(format!("the branch has {} {kind}s; give {parameter}", rows.len())))
        }
    }
}
