//! Which handler answers which route, and what comes before it.

use std::sync::Arc;

use api::platform::{BucketList, CredentialList, FunctionList};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post};

use crate::error::Error;
use crate::http::context::Context;
use crate::http::resources::{
    api_keys, branch_log, branches, databases, endpoints, fixed, projects, roles, schedules, schema,
    snapshots, status,
};
use crate::http::{access, answer, lanes, repeats, requests};
use crate::limits::BODY_BYTES;

/// The whole interface.
pub fn router(context: Context) -> Router {
    let connections = Arc::clone(&context.connections);
    let routes = Router::new()
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/shared", get(projects::shared))
        .route("/projects/{project}", get(projects::get).patch(projects::update).delete(projects::delete))
        .route("/projects/{project}/recover", post(projects::recover))
        .route("/projects/{project}/branches", get(branches::list).post(branches::create))
        .route("/projects/{project}/branches/count", get(branches::count))
        .route("/projects/{project}/branches/{branch}/restore", post(branches::restore))
        .route("/projects/{project}/branches/{branch}/recover", post(branches::recover))
        .route("/projects/{project}/branches/{branch}/set_as_default", post(branches::set_default))
        .route(
            "/projects/{project}/branches/{branch}",
            get(branches::get).patch(branches::update).delete(branches::delete),
        )
        .route("/projects/{project}/branches/{branch}/endpoints", get(endpoints::list_of_branch))
        .merge(catalog_routes())
        .merge(snapshot_routes())
        .merge(schedule_routes())
        .route("/projects/{project}/endpoints", get(endpoints::list).post(endpoints::create))
        .route(
            "/projects/{project}/endpoints/{endpoint}",
            get(endpoints::get).patch(endpoints::update).delete(endpoints::delete),
        )
        .route("/projects/{project}/endpoints/{endpoint}/restart", post(endpoints::restart))
        .route("/projects/{project}/endpoints/{endpoint}/start", post(endpoints::start))
        .route("/projects/{project}/endpoints/{endpoint}/suspend", post(endpoints::suspend))
        .route("/projects/{project}/endpoints/{endpoint}/replication_slots", get(endpoints::slots))
        .route("/projects/{project}/operations", get(projects::operations))
        .route("/projects/{project}/operations/{operation}", get(projects::operation))
        .route("/projects/{project}/connection_uri", get(endpoints::connection_uri))
        .merge(key_routes())
        .merge(platform_routes())
        .route("/users/me", get(fixed::user))
        .route("/users/me/organizations", get(fixed::organizations))
        .route("/regions", get(fixed::regions))
        .route("/auth", get(fixed::auth))
        .route("/status", get(status::status))
        .route("/shutdown", post(status::shutdown))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&context.lanes), lanes::enter))
        .layer(middleware::from_fn_with_state(Arc::clone(&context.repeats), repeats::once))
        .layer(middleware::from_fn(access::read_body))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&context.control.keys), access::check))
        .with_state(context);
    Router::new()
        .nest(api::PREFIX, routes)
        .fallback(unknown_route)
        .layer(middleware::from_fn_with_state(connections, requests::follow))
}

fn catalog_routes() -> Router<Context> {
    let branch = |rest: &str| format!("/projects/{{project}}/branches/{{branch}}{rest}");
    Router::new()
        .route(&branch("/roles"), get(roles::list).post(roles::create))
        .route(&branch("/roles/{role}"), get(roles::get).delete(roles::delete))
        .route(&branch("/roles/{role}/reveal_password"), get(roles::reveal_password))
        .route(&branch("/roles/{role}/reset_password"), post(roles::reset_password))
        .route(&branch("/schema"), get(schema::get))
        .route(&branch("/compare_schema"), get(schema::compare))
        .route(&branch("/log"), get(branch_log::get))
        .route(&branch("/log/retry"), post(branch_log::retry))
        .route(&branch("/log/end"), post(branch_log::end))
        .route(&branch("/databases"), get(databases::list).post(databases::create))
        .route(
            &branch("/databases/{database}"),
            get(databases::get).patch(databases::update).delete(databases::delete),
        )
}

fn platform_routes() -> Router<Context> {
    let branch = |rest: &str| format!("/projects/{{project}}/branches/{{branch}}{rest}");
    Router::new()
        .route(&branch("/buckets"), get(fixed::none_of::<BucketList>))
        .route(&branch("/functions"), get(fixed::none_of::<FunctionList>))
        .route(&branch("/credentials"), get(fixed::none_of::<CredentialList>))
}

fn key_routes() -> Router<Context> {
    let of_org = "/organizations/{org}/api_keys";
    Router::new()
        .route("/api_keys", get(api_keys::list).post(api_keys::create))
        .route("/api_keys/{key}", delete(api_keys::revoke))
        .route(of_org, get(api_keys::list_of_org).post(api_keys::create_of_org))
        .route(&format!("{of_org}/{{key}}"), delete(api_keys::revoke_of_org))
}

fn snapshot_routes() -> Router<Context> {
    let snapshot = |rest: &str| format!("/projects/{{project}}/snapshots{rest}");
    let branch = |rest: &str| format!("/projects/{{project}}/branches/{{branch}}{rest}");
    Router::new()
        .route(&branch("/snapshot"), post(snapshots::create))
        .route(&branch("/finalize_restore"), post(snapshots::finalize))
        .route(&snapshot(""), get(snapshots::list))
        .route(
            &snapshot("/{snapshot}"),
            get(snapshots::get).patch(snapshots::update).delete(snapshots::delete),
        )
        .route(&snapshot("/{snapshot}/restore"), post(snapshots::restore))
}

fn schedule_routes() -> Router<Context> {
    let schedule = |rest: &str| format!("/projects/{{project}}/branch_schedules{rest}");
    Router::new()
        .route(
            "/projects/{project}/branches/{branch}/backup_schedule",
            get(schedules::get_backups).put(schedules::set_backups),
        )
        .route(&schedule(""), get(schedules::list).post(schedules::create))
        .route(&schedule("/{schedule}"), get(schedules::get).delete(schedules::delete))
        .route(&schedule("/{schedule}/run"), post(schedules::run))
}

async fn unknown_route(request: Request) -> Response {
    answer::failed(&Error::not_found("route", &format!("{} {}", request.method(), request.uri().path())))
}

#[cfg(test)]
mod tests;
