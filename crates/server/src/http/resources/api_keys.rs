//! Routes of API keys, under both of the paths that clients know.

use api::api_key::{
    ApiKey, ApiKeyCreateRequest, ApiKeyCreateResponse, ApiKeyCreator, ApiKeyList, ApiKeyRevokeResponse,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use super::fixed::{ORGANIZATION, USER};
use crate::clock::show;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::api_key::ApiKeyRow;

/// `GET /api_keys`.
pub async fn list(State(context): State<Context>) -> Response {
    answer::ok(move || all(&context.control)).await
}

/// `POST /api_keys`.
pub async fn create(State(context): State<Context>, bytes: Bytes) -> Response {
    answer::ok(move || made(&context.control, &bytes)).await
}

/// `DELETE /api_keys/{key_id}`.
pub async fn revoke(State(context): State<Context>, Path(id): Path<String>) -> Response {
    answer::ok(move || revoked(&context.control, &id)).await
}

/// `GET /organizations/{org_id}/api_keys`.
pub async fn list_of_org(State(context): State<Context>, Path(org): Path<String>) -> Response {
    answer::ok(move || check_org(&org).and_then(|()| all(&context.control))).await
}

/// `POST /organizations/{org_id}/api_keys`.
pub async fn create_of_org(
    State(context): State<Context>,
    Path(org): Path<String>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || check_org(&org).and_then(|()| made(&context.control, &bytes))).await
}

/// `DELETE /organizations/{org_id}/api_keys/{key_id}`.
pub async fn revoke_of_org(
    State(context): State<Context>,
    Path((org, id)): Path<(String, String)>,
) -> Response {
    answer::ok(move || check_org(&org).and_then(|()| revoked(&context.control, &id))).await
}

fn check_org(id: &str) -> Result<()> {
    if id == ORGANIZATION { Ok(()) } else { Err(Error::not_found("organization", id)) }
}

fn all(control: &Control) -> Result<ApiKeyList> {
    let rows = control.keys.list(&control.metadata)?;
    Ok(ApiKeyList(rows.into_iter().map(view).collect()))
}

fn view(row: ApiKeyRow) -> ApiKey {
    ApiKey {
        id: row.id,
        name: row.name,
        created_at: show(row.created_us),
        created_by: ApiKeyCreator { id: USER.to_owned(), name: "scion".to_owned(), image: String::new() },
        last_used_at: row.used_us.map(show),
        last_used_from_addr: row.used_from,
        project_id: row.project_id,
    }
}

fn made(control: &Control, bytes: &Bytes) -> Result<ApiKeyCreateResponse> {
    let request: ApiKeyCreateRequest = answer::body(bytes)?;
    let (key, row) =
        control.keys.create(&control.metadata, &request.key_name, request.project_id.as_deref())?;
    Ok(ApiKeyCreateResponse {
        id: row.id,
        key,
        name: row.name,
        created_at: show(row.created_us),
        created_by: USER.to_owned(),
        project_id: row.project_id,
    })
}

fn revoked(control: &Control, id: &str) -> Result<ApiKeyRevokeResponse> {
    let number = id.parse().map_err(|_| Error::not_found("API key", id))?;
    let row = control.keys.revoke(&control.metadata, number)?;
    Ok(ApiKeyRevokeResponse {
        id: row.id,
        name: row.name,
        created_at: show(row.created_us),
        created_by: USER.to_owned(),
        last_used_at: row.used_us.map(show),
        last_used_from_addr: row.used_from,
        revoked: true,
    })
}
