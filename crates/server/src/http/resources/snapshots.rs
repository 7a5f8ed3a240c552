//! Routes of snapshots.

use api::snapshot::{
    FinalizeRestoreRequest, RestoreFinalized, Snapshot, SnapshotCreate, SnapshotList, SnapshotOperations,
    SnapshotResponse, SnapshotRestoreRequest, SnapshotRestored, SnapshotUpdateRequest,
};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;

use super::view;
use crate::clock::show;
use crate::control::snapshot::create::{
    By, create_snapshot, delete_snapshot, restore_snapshot, update_snapshot,
};
use crate::control::snapshot::finalize::finalize_restore;
use crate::error::Error;
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::snapshot::{self, SnapshotRow};
use crate::metadata::{endpoint, project, role};

fn shown(row: &SnapshotRow) -> Snapshot {
    Snapshot {
        id: row.id.clone(),
        name: row.name.clone(),
        slug: row.slug.clone(),
        source_branch_id: row.source_branch_id.clone(),
        history_branch_id: row.history_id.clone(),
        lsn: row.lsn.clone(),
        timestamp: row.time_us.map(show),
        manual: row.manual,
        full_size: row.full_bytes,
        diff_size: row.diff_bytes,
        expires_at: row.expires_us.map(show),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    }
}

/// `POST /projects/{project_id}/branches/{branch_id}/snapshot`; what it is to be is in the query.
pub async fn create(
    State(context): State<Context>,
    Path((project, branch)): Path<(String, String)>,
    Query(wanted): Query<SnapshotCreate>,
) -> Response {
    answer::ok(move || {
        let (row, operation) =
            create_snapshot(&context.control, &project, &branch, &wanted, By::Request, |_| Ok(()))?;
        Ok(SnapshotOperations { snapshot: shown(&row), operations: view::operations(&[operation]) })
    })
    .await
}

/// `GET /projects/{project_id}/snapshots`.
pub async fn list(State(context): State<Context>, Path(project): Path<String>) -> Response {
    answer::ok(move || {
        let rows = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            snapshot::all(connection, &project)
        })?;
        Ok(SnapshotList { snapshots: rows.iter().map(shown).collect() })
    })
    .await
}

/// `GET /projects/{project_id}/snapshots/{snapshot_id}`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let row = context.control.metadata.read(|connection| snapshot::get(connection, &project, &id))?;
        Ok(SnapshotResponse { snapshot: shown(&row) })
    })
    .await
}

/// `PATCH /projects/{project_id}/snapshots/{snapshot_id}`.
pub async fn update(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: SnapshotUpdateRequest = answer::body(&bytes)?;
        let row = update_snapshot(&context.control, &project, &id, &request.snapshot)?;
        Ok(SnapshotResponse { snapshot: shown(&row) })
    })
    .await
}

/// `DELETE /projects/{project_id}/snapshots/{snapshot_id}`.
pub async fn delete(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::accepted(move || {
        let deleted = delete_snapshot(&context.control, &project, &id, None)?;
        let (row, operation) = deleted.ok_or_else(|| Error::not_found("snapshot", &id))?;
        Ok(SnapshotOperations { snapshot: shown(&row), operations: view::operations(&[operation]) })
    })
    .await
}

/// `POST /projects/{project_id}/snapshots/{snapshot_id}/restore`.
pub async fn restore(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let control = &context.control;
        let request: SnapshotRestoreRequest = answer::body(&bytes)?;
        let done = restore_snapshot(control, &project, &id, &request)?;
        let branch = &done.branch.id;
        let (endpoints, roles, databases) = control.metadata.read(|connection| {
            let endpoints = endpoint::of_branch(connection, branch)?;
            Ok((endpoints, role::roles(connection, branch)?, role::databases(connection, branch)?))
        })?;
        let shown = |row| view::branch_now(control, row);
        Ok(SnapshotRestored {
            branch: shown(&done.branch)?,
            replaced_branch: done.replaced.as_ref().map(shown).transpose()?,
            connection_uris: view::connections(&endpoints, &roles, &databases),
            endpoints: endpoints.iter().map(|row| view::endpoint(control, row)).collect(),
            operations: view::operations(&done.operations),
        })
    })
    .await
}

/// `POST /projects/{project_id}/branches/{branch_id}/finalize_restore`.
pub async fn finalize(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: FinalizeRestoreRequest = answer::body(&bytes)?;
        let name = request.name.as_deref().filter(|name| !name.is_empty());
        let done = finalize_restore(&context.control, &project, &id, name)?;
        let shown = |row| view::branch_now(&context.control, row);
        Ok(RestoreFinalized {
            branch: shown(&done.branch)?,
            replaced_branch: shown(&done.replaced)?,
            operations: view::operations(&done.operations),
        })
    })
    .await
}
