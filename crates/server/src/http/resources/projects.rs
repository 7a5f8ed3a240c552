//! Routes of projects and operations.

use std::sync::Arc;

use api::operation::{OperationList, OperationResponse};
use api::pagination::CursorPagination;
use api::project::{
    ProjectCreateRequest, ProjectCreated, ProjectList, ProjectOperations, ProjectRecovered, ProjectResponse,
    ProjectUpdateRequest,
};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::view;
use crate::access::keys::Key;
use crate::control::Control;
use crate::control::project::create::{create_project, update_project};
use crate::control::project::delete::{delete_project, recover_project};
use crate::http::answer;
use crate::http::context::Context;
use crate::limits::{OPERATIONS_OF_PAGE, PROJECTS_OF_PAGE};
use crate::metadata::cursor::Cursor;
use crate::metadata::project::Listed;
use crate::metadata::{branch, operation, project, role};

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    limit: Option<usize>,
    cursor: String,
    search: String,
    recoverable: bool,
}

impl Page {
    fn limit(&self, (usual, max): (usize, usize)) -> usize {
        self.limit.unwrap_or(usual).clamp(1, max)
    }
}

/// `GET /projects`: those that the key reaches.
pub async fn list(
    State(context): State<Context>,
    Extension(key): Extension<Arc<Key>>,
    Query(page): Query<Page>,
) -> Response {
    answer::ok(move || {
        let limit = page.limit(PROJECTS_OF_PAGE);
        let state = if page.recoverable { project::DELETED } else { project::READY };
        let listed = Listed { state, search: &page.search, only: key.project.as_deref() };
        let after = Cursor::parse(&page.cursor)?;
        let rows = context.control.metadata.read(|c| project::page(c, after.as_ref(), limit, listed))?;
        let pagination = rows.last().map(|row| CursorPagination { cursor: row.place().to_string() });
        let projects = rows.iter().map(|row| view::project(row, None)).collect();
        Ok(ProjectList { projects, pagination, ..ProjectList::default() })
    })
    .await
}

/// `GET /projects/shared`.
pub async fn shared() -> Response {
    answer::ok(|| Ok(ProjectList::default())).await
}

/// `POST /projects`.
pub async fn create(State(context): State<Context>, bytes: Bytes) -> Response {
    answer::created(move || {
        let control = &context.control;
        let request: ProjectCreateRequest = answer::body(&bytes)?;
        let made = create_project(control, &request.project)?;
        let (roles, databases) = control.metadata.read(|connection| {
            Ok((role::roles(connection, &made.branch.id)?, role::databases(connection, &made.branch.id)?))
        })?;
        // The port may have changed since the row was written.
        let endpoint = super::endpoints::fresh(control, &made.endpoint)?;
        Ok(ProjectCreated {
            project: view::project(&made.project, None),
            branch: view::branch_now(control, &made.branch)?,
            connection_uris: view::connections(std::slice::from_ref(&endpoint), &roles, &databases),
            endpoints: vec![view::endpoint(control, &endpoint)],
            roles: roles.iter().map(|row| view::role(row, true)).collect(),
            databases: databases.iter().map(view::database).collect(),
            operations: view::operations(&made.operations),
        })
    })
    .await
}

fn disk_bytes(control: &Control, project: &str) -> Option<u64> {
    let infos = view::store_infos(control, project).ok()?;
    Some(infos.values().map(|info| info.own_bytes).sum())
}

/// `GET /projects/{project_id}`.
pub async fn get(State(context): State<Context>, Path(id): Path<String>) -> Response {
    answer::ok(move || {
        let row = context.control.metadata.read(|connection| project::get(connection, &id))?;
        Ok(ProjectResponse { project: view::project(&row, disk_bytes(&context.control, &id)) })
    })
    .await
}

/// `PATCH /projects/{project_id}`.
pub async fn update(State(context): State<Context>, Path(id): Path<String>, bytes: Bytes) -> Response {
    answer::ok(move || {
        let request: ProjectUpdateRequest = answer::body(&bytes)?;
        let (row, operations) = update_project(&context.control, &id, &request.project)?;
        let operations = view::operations(&operations);
        Ok(ProjectOperations { project: view::project(&row, None), operations })
    })
    .await
}

/// How to delete a project.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HowToDelete {
    hard_delete: bool,
}

/// `DELETE /projects/{project_id}`.
pub async fn delete(
    State(context): State<Context>,
    Path(id): Path<String>,
    Query(how): Query<HowToDelete>,
) -> Response {
    answer::ok(move || {
        let row = delete_project(&context.control, &id, how.hard_delete)?;
        Ok(ProjectResponse { project: view::project(&row, None) })
    })
    .await
}

/// `POST /projects/{project_id}/recover`.
pub async fn recover(State(context): State<Context>, Path(id): Path<String>) -> Response {
    answer::ok(move || {
        let row = recover_project(&context.control, &id)?;
        let infos = view::store_infos(&context.control, &id)?;
        let branches = context.control.metadata.read(|connection| branch::live(connection, &id))?;
        let shown = branches.iter().map(|row| view::branch(row, infos.get(&row.store_id))).collect();
        Ok(ProjectRecovered { project: view::project(&row, None), branches: shown })
    })
    .await
}

/// `GET /projects/{project_id}/operations`.
pub async fn operations(
    State(context): State<Context>,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    answer::ok(move || {
        let rows = context.control.metadata.read(|connection| {
            project::get(connection, &id)?;
            operation::page(
                connection,
                &id,
                &page.cursor,
                page.limit((OPERATIONS_OF_PAGE, OPERATIONS_OF_PAGE)),
            )
        })?;
        let pagination = rows.last().map(|row| CursorPagination { cursor: row.id.clone() });
        // What is under way is the newest, and on the first page.
        let first = page.cursor.is_empty();
        let running = if first { context.control.operations.of_project(&id) } else { Vec::new() };
        let ended = rows.into_iter().filter(|row| running.iter().all(|running| running.id != row.id));
        let shown: Vec<_> = running.iter().cloned().chain(ended).collect();
        Ok(OperationList { operations: view::operations(&shown), pagination })
    })
    .await
}

/// `GET /projects/{project_id}/operations/{operation_id}`.
pub async fn operation(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || {
        let row = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            let running =
                context.control.operations.of_project(&project).into_iter().find(|row| row.id == id);
            running.map_or_else(|| operation::get(connection, &project, &id), Ok)
        })?;
        Ok(OperationResponse { operation: view::operation(&row) })
    })
    .await
}
