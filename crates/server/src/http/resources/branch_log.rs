//! Routes of the log of a branch.

use api::log::BranchLogEndRequest;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::error::Error;
use crate::http::{Context, answer};

/// `GET /projects/{project_id}/branches/{branch_id}/log`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || context.server.branch_log(&project, &id)).await
}

/// `POST /projects/{project_id}/branches/{branch_id}/log/retry`.
pub async fn retry(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || context.server.retry_branch_log(&project, &id)).await
}

/// `POST /projects/{project_id}/branches/{branch_id}/log/end`.
pub async fn end(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: BranchLogEndRequest = answer::body(&bytes)?;
        let at = request.at_lsn.parse();
        let at = at.map_err(|error: types::ParseLsnError| Error::malformed(format!("at_lsn: {error}")))?;
        context.server.end_branch_log(&project, &id, at)
    })
    .await
}
