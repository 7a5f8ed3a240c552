//! Routes of the databases of a branch.

use api::database::{
    DatabaseCreateRequest, DatabaseList, DatabaseOperations, DatabaseResponse, DatabaseUpdateRequest,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use super::view;
use crate::control::catalog::change::{
    Changed, create_database, delete_database, read_catalog, update_database,
};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::role::{DatabaseRow, named_database};

/// A branch of a project.
type Branch = Path<(String, String)>;
/// A database of a branch of a project.
type Named = Path<(String, String, String)>;

fn show(changed: &Changed<DatabaseRow>) -> DatabaseOperations {
    DatabaseOperations {
        database: view::database(&changed.value),
        operations: view::operations(&changed.operations),
    }
}

/// `GET /projects/{project_id}/branches/{branch_id}/databases`.
pub async fn list(State(context): State<Context>, Path((project, id)): Branch) -> Response {
    answer::ok(move || {
        let (_, rows) = read_catalog(&context.control, &project, &id)?;
        Ok(DatabaseList { databases: rows.iter().map(view::database).collect() })
    })
    .await
}

/// `POST /projects/{project_id}/branches/{branch_id}/databases`.
pub async fn create(State(context): State<Context>, Path((project, id)): Branch, bytes: Bytes) -> Response {
    answer::created(move || {
        let wanted = answer::body::<DatabaseCreateRequest>(&bytes)?.database;
        let made = create_database(&context.control, &project, &id, &wanted.name, &wanted.owner_name)?;
        Ok(show(&made))
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}/databases/{database_name}`.
pub async fn get(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok(move || {
        let (_, rows) = read_catalog(&context.control, &project, &id)?;
        Ok(DatabaseResponse { database: view::database(&named_database(rows, &name)?) })
    })
    .await
}

/// `PATCH /projects/{project_id}/branches/{branch_id}/databases/{database_name}`.
pub async fn update(
    State(context): State<Context>,
    Path((project, id, name)): Named,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let wanted = answer::body::<DatabaseUpdateRequest>(&bytes)?.database;
        let new = (wanted.name.as_deref(), wanted.owner_name.as_deref());
        Ok(show(&update_database(&context.control, &project, &id, &name, new)?))
    })
    .await
}

/// `DELETE /projects/{project_id}/branches/{branch_id}/databases/{database_name}`.
pub async fn delete(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok_or_gone(move || {
        let done = delete_database(&context.control, &project, &id, &name)?;
        Ok(done.as_ref().map(show))
    })
    .await
}
