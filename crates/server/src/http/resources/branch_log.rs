//! Routes of the log of a branch.

use api::log::BranchLogEndRequest;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::control::branch::log::{branch_log, end_branch_log, retry_branch_log};
use crate::error::Error;
use crate::http::answer;
use crate::http::context::Context;

/// `GET /projects/{project_id}/branches/{branch_id}/log`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || branch_log(&context.control, &project, &id)).await
}

/// `POST /projects/{project_id}/branches/{branch_id}/log/retry`.
pub async fn retry(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || retry_branch_log(&context.control, &project, &id)).await
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
        end_branch_log(&context.control, &project, &id, at)
    })
    .await
}
