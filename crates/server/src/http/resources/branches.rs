//! Routes of branches.

use api::branch::{
    BranchCount, BranchCreateRequest, BranchCreated, BranchList, BranchOperations, BranchRecoverRequest,
    BranchResponse, BranchRestoreRequest, BranchRestored, BranchUpdateRequest,
};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::branch_list::Wanted;
use super::view;
use crate::control::Control;
use crate::control::branch::create::{
    CreateOptions, OnConflict, create_branch, set_default_branch, update_branch,
};
use crate::control::branch::delete::{How, delete_branch, recover_branch};
use crate::control::branch::restore::restore_branch;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::idempotency::Key;
use crate::metadata::operation::OperationRow;
use crate::metadata::{endpoint, project, role};

/// `GET /projects/{project_id}/branches`.
pub async fn list(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        let (page, noted) = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            let page = wanted.page(connection, &project)?;
            let noted = branch::annotations(connection, &page.rows)?;
            Ok((page, noted))
        })?;
        let annotation = |(id, noted): (String, String)| (id.clone(), view::annotation(&id, Some(&noted)));
        Ok(BranchList {
            branches: view::branches_now(&context.control, &project, &page.rows)?,
            annotations: noted.into_iter().map(annotation).collect(),
            pagination: page.pagination,
        })
    })
    .await
}

/// `GET /projects/{project_id}/branches/count`.
pub async fn count(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        let count = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            branch::count(connection, &project, wanted.listed())
        })?;
        Ok(BranchCount { count })
    })
    .await
}

/// What to do if the name is taken.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conflict {
    on_conflict: String,
}

impl Conflict {
    fn read(&self) -> Result<OnConflict> {
        match self.on_conflict.as_str() {
            "" | "error" => Ok(OnConflict::Refuse),
            "return" => Ok(OnConflict::Return),
            "reset" => Ok(OnConflict::Reset),
            other => {
                Err(Error::malformed(format!("on_conflict is error, return or reset, and not {other:?}")))
            }
        }
    }
}

/// The key that tells a request sent twice from two requests.
fn key(headers: &HeaderMap, wanted: &Conflict, bytes: &Bytes) -> Result<Option<Key>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.ok_or_else(|| Error::malformed("an Idempotency-Key has 1 to 255 printable characters"))?;
    let mut hash = Sha256::new();
    hash.update(wanted.on_conflict.as_bytes());
    hash.update([0]);
    hash.update(bytes);
    Ok(Some(Key { key: key.to_owned(), request: hex::encode(hash.finalize()) }))
}

/// `POST /projects/{project_id}/branches`.
pub async fn create(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(wanted): Query<Conflict>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    answer::created(move || {
        let control = &context.control;
        let request: BranchCreateRequest = answer::body(&bytes)?;
        let options = CreateOptions { key: key(&headers, &wanted, &bytes)?, on_conflict: wanted.read()? };
        let made = create_branch(control, &project, &request, &options)?;
        let (roles, databases) = control.metadata.read(|connection| {
            Ok((role::roles(connection, &made.branch.id)?, role::databases(connection, &made.branch.id)?))
        })?;
        let mut endpoints = Vec::new();
        for row in &made.endpoints {
            endpoints.push(super::endpoints::fresh(control, row)?);
        }
        Ok(BranchCreated {
            branch: view::branch(&made.branch, None),
            connection_uris: view::connections(&endpoints, &roles, &databases),
            endpoints: endpoints.iter().map(|row| view::endpoint(control, row)).collect(),
            operations: view::operations(&made.operations),
            roles: roles.iter().map(|row| view::role(row, true)).collect(),
            databases: databases.iter().map(view::database).collect(),
        })
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let (row, endpoints, noted) = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            let row = branch::get(connection, &project, &id)?;
            Ok((row, endpoint::of_branch(connection, &id)?, branch::annotation(connection, &id)?))
        })?;
        let info = view::store_info(&context.control, &row)?;
        let annotation = view::annotation(&row.id, noted.as_deref());
        let mut branch = view::branch(&row, info.as_ref());
        if let Some(info) = &info {
            branch.warnings = view::warnings_in_full(&context.control, &project, info)?;
        }
        branch.warnings.extend(view::read_errors(&context.control, &endpoints));
        Ok(BranchResponse { branch, annotation })
    })
    .await
}

/// `PATCH /projects/{project_id}/branches/{branch_id}`.
pub async fn update(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: BranchUpdateRequest = answer::body(&bytes)?;
        let (row, operation) = update_branch(&context.control, &project, &id, &request.branch)?;
        show(&context.control, &row, operation)
    })
    .await
}

fn show(control: &Control, row: &BranchRow, operation: OperationRow) -> Result<BranchOperations> {
    Ok(BranchOperations {
        branch: view::branch_now(control, row)?,
        operations: view::operations(&[operation]),
    })
}

/// `POST /projects/{project_id}/branches/{branch_id}/set_as_default`.
pub async fn set_default(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || {
        let (row, operation) = set_default_branch(&context.control, &project, &id)?;
        show(&context.control, &row, operation)
    })
    .await
}

/// `POST /projects/{project_id}/branches/{branch_id}/restore`.
pub async fn restore(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: BranchRestoreRequest = answer::body(&bytes)?;
        let done = restore_branch(&context.control, &project, &id, &request)?;
        let shown = |row| view::branch_now(&context.control, row);
        Ok(BranchRestored {
            branch: shown(&done.branch)?,
            backup_branch: done.backup.as_ref().map(shown).transpose()?,
            operations: view::operations(&done.operations),
        })
    })
    .await
}

/// How to delete.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deletion {
    recursive: bool,
    hard_delete: bool,
}

/// `DELETE /projects/{project_id}/branches/{branch_id}`; 204 if it was deleted before.
pub async fn delete(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    Query(wanted): Query<Deletion>,
) -> Response {
    answer::ok_or_gone(move || {
        let how = How { recursive: wanted.recursive, hard: wanted.hard_delete, ..How::default() };
        let Some((row, operations)) = delete_branch(&context.control, &project, &id, how)? else {
            return Ok(None);
        };
        let mut branch = view::branch(&row, None);
        branch.pending_state = Some("storage_deleted".to_owned());
        Ok(Some(BranchOperations { branch, operations: view::operations(&operations) }))
    })
    .await
}

/// `POST /projects/{project_id}/branches/{branch_id}/recover`.
pub async fn recover(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: BranchRecoverRequest = answer::body(&bytes)?;
        let (row, operation) = recover_branch(&context.control, &project, &id, request.name.as_deref())?;
        show(&context.control, &row, operation)
    })
    .await
}
