//! Fixed answers about the only user, organization and region, and about what no branch has: published clients ask for
//! them.

use api::account::{AuthDetails, Organization, OrganizationList, Region, RegionList, User};
use axum::extract::{Path, State};
use axum::response::Response;

use crate::clock::show;
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::{branch, project};

/// Id of the only user.
pub const USER: &str = "00000000-0000-4000-8000-000000000000";
/// Id of the only organization.
pub const ORGANIZATION: &str = "org-local-scion-00000000";
/// Id of the only region.
pub const REGION: &str = "local";

/// `GET /users/me`.
pub async fn user() -> Response {
    answer::ok(|| {
        Ok(User {
            id: USER.to_owned(),
            login: "scion".to_owned(),
            email: "scion@scion.internal".to_owned(),
            name: "scion".to_owned(),
            last_name: String::new(),
            image: String::new(),
            active_seconds_limit: 0,
            projects_limit: 1_000_000,
            branches_limit: 1_000_000,
            max_autoscaling_limit: 64.0,
            auth_accounts: Vec::new(),
            plan: "scion".to_owned(),
        })
    })
    .await
}

/// `GET /users/me/organizations`.
pub async fn organizations(State(context): State<Context>) -> Response {
    answer::ok(move || {
        let organization = Organization {
            id: ORGANIZATION.to_owned(),
            name: "scion".to_owned(),
            handle: "scion".to_owned(),
            plan: "scion".to_owned(),
            managed_by: "console".to_owned(),
            created_at: show(context.control.started_us),
            updated_at: show(context.control.started_us),
        };
        Ok(OrganizationList { organizations: vec![organization] })
    })
    .await
}

/// `GET /regions`.
pub async fn regions() -> Response {
    answer::ok(|| {
        let region = Region {
            region_id: REGION.to_owned(),
            name: "this machine".to_owned(),
            default: true,
            geo_lat: String::new(),
            geo_long: String::new(),
        };
        Ok(RegionList { regions: vec![region] })
    })
    .await
}

/// `GET /auth`.
pub async fn auth() -> Response {
    answer::ok(|| {
        Ok(AuthDetails { account_id: ORGANIZATION.to_owned(), auth_method: "api_key_user".to_owned() })
    })
    .await
}

/// `GET .../branches/{branch_id}/buckets`, `/functions` and `/credentials`: the empty list, of a branch that is there.
pub async fn none_of<T>(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
) -> Response
where
    T: Default + serde::Serialize + Send + 'static,
{
    answer::ok(move || {
        context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            branch::get(connection, &project, &id)
        })?;
        Ok(T::default())
    })
    .await
}
