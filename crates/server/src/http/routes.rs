//! Which handler answers which route, and what comes before it.
//!
//! Method and path of a route are said in one place, `api::routes`; a handler is found by its operation id.

use std::sync::Arc;

use api::platform::{BucketList, CredentialList, FunctionList};
use api::routes::{Method, ROUTES, Route};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};

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
    let mut routes = Router::new();
    for route in ROUTES {
        if let Some(handler) = handler(route) {
            routes = routes.route(route.path, handler);
        }
    }
    let routes = routes
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

/// What answers a route.
fn handler(route: &Route) -> Option<MethodRouter<Context>> {
    let method = match route.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    };
    let groups = [
        of_projects,
        of_branches,
        of_catalogs,
        of_snapshots,
        of_schedules,
        of_endpoints,
        of_keys,
        of_the_rest,
    ];
    groups.iter().find_map(|group| group(route.id, method))
}

fn of_projects(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listProjects" => on(method, projects::list),
        "createProject" => on(method, projects::create),
        "listSharedProjects" => on(method, projects::shared),
        "getProject" => on(method, projects::get),
        "updateProject" => on(method, projects::update),
        "deleteProject" => on(method, projects::delete),
        "recoverProject" => on(method, projects::recover),
        "listProjectOperations" => on(method, projects::operations),
        "getProjectOperation" => on(method, projects::operation),
        _ => return None,
    })
}

fn of_branches(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listProjectBranches" => on(method, branches::list),
        "countProjectBranches" => on(method, branches::count),
        "createProjectBranch" => on(method, branches::create),
        "getProjectBranch" => on(method, branches::get),
        "updateProjectBranch" => on(method, branches::update),
        "deleteProjectBranch" => on(method, branches::delete),
        "recoverProjectBranch" => on(method, branches::recover),
        "restoreProjectBranch" => on(method, branches::restore),
        "setDefaultProjectBranch" => on(method, branches::set_default),
        "getProjectBranchSchema" => on(method, schema::get),
        "getProjectBranchSchemaComparison" => on(method, schema::compare),
        "getBranchLog" => on(method, branch_log::get),
        "retryBranchLog" => on(method, branch_log::retry),
        "endBranchLog" => on(method, branch_log::end),
        _ => return None,
    })
}

fn of_catalogs(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listProjectBranchRoles" => on(method, roles::list),
        "createProjectBranchRole" => on(method, roles::create),
        "getProjectBranchRole" => on(method, roles::get),
        "deleteProjectBranchRole" => on(method, roles::delete),
        "getProjectBranchRolePassword" => on(method, roles::reveal_password),
        "resetProjectBranchRolePassword" => on(method, roles::reset_password),
        "listProjectBranchDatabases" => on(method, databases::list),
        "createProjectBranchDatabase" => on(method, databases::create),
        "getProjectBranchDatabase" => on(method, databases::get),
        "updateProjectBranchDatabase" => on(method, databases::update),
        "deleteProjectBranchDatabase" => on(method, databases::delete),
        _ => return None,
    })
}

fn of_snapshots(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "createSnapshot" => on(method, snapshots::create),
        "finalizeRestoreBranch" => on(method, snapshots::finalize),
        "listSnapshots" => on(method, snapshots::list),
        "getSnapshot" => on(method, snapshots::get),
        "updateSnapshot" => on(method, snapshots::update),
        "deleteSnapshot" => on(method, snapshots::delete),
        "restoreSnapshot" => on(method, snapshots::restore),
        _ => return None,
    })
}

fn of_schedules(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "getSnapshotSchedule" => on(method, schedules::get_backups),
        "setSnapshotSchedule" => on(method, schedules::set_backups),
        "listBranchSchedules" => on(method, schedules::list),
        "createBranchSchedule" => on(method, schedules::create),
        "getBranchSchedule" => on(method, schedules::get),
        "deleteBranchSchedule" => on(method, schedules::delete),
        "runBranchSchedule" => on(method, schedules::run),
        _ => return None,
    })
}

fn of_endpoints(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listProjectBranchEndpoints" => on(method, endpoints::list_of_branch),
        "listProjectEndpoints" => on(method, endpoints::list),
        "createProjectEndpoint" => on(method, endpoints::create),
        "getProjectEndpoint" => on(method, endpoints::get),
        "updateProjectEndpoint" => on(method, endpoints::update),
        "restartProjectEndpoint" => on(method, endpoints::restart),
        "listEndpointReplicationSlots" => on(method, endpoints::slots),
        "deleteProjectEndpoint" => on(method, endpoints::delete),
        "startProjectEndpoint" => on(method, endpoints::start),
        "suspendProjectEndpoint" => on(method, endpoints::suspend),
        "getConnectionURI" => on(method, endpoints::connection_uri),
        _ => return None,
    })
}

fn of_keys(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listApiKeys" => on(method, api_keys::list),
        "createApiKey" => on(method, api_keys::create),
        "revokeApiKey" => on(method, api_keys::revoke),
        "listOrgApiKeys" => on(method, api_keys::list_of_org),
        "createOrgApiKey" => on(method, api_keys::create_of_org),
        "revokeOrgApiKey" => on(method, api_keys::revoke_of_org),
        _ => return None,
    })
}

fn of_the_rest(id: &str, method: MethodFilter) -> Option<MethodRouter<Context>> {
    Some(match id {
        "listProjectBranchBuckets" => on(method, fixed::none_of::<BucketList>),
        "listProjectBranchFunctions" => on(method, fixed::none_of::<FunctionList>),
        "listCredentials" => on(method, fixed::none_of::<CredentialList>),
        "getCurrentUserInfo" => on(method, fixed::user),
        "getCurrentUserOrganizations" => on(method, fixed::organizations),
        "getActiveRegions" => on(method, fixed::regions),
        "getAuthDetails" => on(method, fixed::auth),
        "getStatus" => on(method, status::status),
        "shutdown" => on(method, status::shutdown),
        _ => return None,
    })
}

async fn unknown_route(request: Request) -> Response {
    answer::failed(&Error::not_found("route", &format!("{} {}", request.method(), request.uri().path())))
}

#[cfg(test)]
mod tests;
