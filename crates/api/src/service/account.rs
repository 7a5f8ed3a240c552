//! Fixed answers about the only user, organization and region, which clients ask for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The only user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Seconds that endpoints may be active; 0 is no limit.
    pub active_seconds_limit: i64,
    /// Its login.
    pub login: String,
    /// Its address; not a real one.
    pub email: String,
    /// Its name.
    pub name: String,
    /// Its family name; empty.
    pub last_name: String,
    /// Its picture; empty.
    pub image: String,
    /// How many projects it may have.
    pub projects_limit: i64,
    /// How many branches each may have.
    pub branches_limit: i64,
    /// Limit on autoscaling; not enforced.
    pub max_autoscaling_limit: f64,
    /// Ways to log in; none.
    pub auth_accounts: Vec<serde_json::Value>,
    /// Always `scion`.
    pub plan: String,
}

/// An organization.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Organization {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its name in URLs.
    pub handle: String,
    /// Always `scion`.
    pub plan: String,
    /// Who manages it; always `console`.
    pub managed_by: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Answer of `GET /users/me/organizations`; holds exactly one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OrganizationList {
    /// The organizations.
    pub organizations: Vec<Organization>,
}

/// A region.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Its id.
    pub region_id: String,
    /// Its name.
    pub name: String,
    /// Whether it is used if none is named.
    pub default: bool,
    /// Position on a map; empty.
    pub geo_lat: String,
    /// Position on a map; empty.
    pub geo_long: String,
}

/// Answer of `GET /regions`; holds exactly one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RegionList {
    /// The regions.
    pub regions: Vec<Region>,
}

/// Answer of `GET /auth`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuthDetails {
    /// Who asks.
    pub account_id: String,
    /// How it was recognized; always `api_key_user`.
    pub auth_method: String,
}
