//! Projects: one system identifier, one major version, a tree of branches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::branch::Branch;
use crate::database::Database;
use crate::endpoint::Endpoint;
use crate::endpoint::connection::ConnectionDetails;
use crate::operation::Operation;
use crate::pagination::CursorPagination;
use crate::role::Role;

/// A project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its id: `calm-river-8q2k5x1a`.
    pub id: String,
    /// Its name; not unique.
    pub name: String,
    /// Where it runs; always `local`.
    pub region_id: String,
    /// The platform; always `scion`.
    pub platform_id: String,
    /// Major version of Postgres.
    pub pg_version: i32,
    /// What runs the endpoints; always `scion`.
    pub provisioner: String,
    /// Host that proxies connections.
    pub proxy_host: String,
    /// How far back branches may reach, in seconds.
    pub history_retention_seconds: i64,
    /// Whether role passwords can be shown again; always true.
    pub store_passwords: bool,
    /// Settings given to new endpoints, as they were sent.
    pub default_endpoint_settings: serde_json::Value,
    /// Settings of the project, as they were sent.
    pub settings: serde_json::Value,
    /// The organization; one exists.
    pub org_id: String,
    /// The owner; one exists.
    pub owner_id: String,
    /// Who made it.
    pub creation_source: String,
    /// Bytes written by its endpoints; not counted yet.
    pub written_data_bytes: i64,
    /// Bytes sent to clients; not counted.
    pub data_transfer_bytes: i64,
    /// Seconds of compute; not counted.
    pub compute_time_seconds: i64,
    /// Seconds of activity; not counted.
    pub active_time_seconds: i64,
    /// The same by its older name.
    pub active_time: i64,
    /// Bytes stored times hours; not counted.
    pub data_storage_bytes_hour: i64,
    /// Seconds of processor time; not counted.
    pub cpu_used_sec: i64,
    /// Limit on the size of a branch; 0 is none.
    pub branch_logical_size_limit: i64,
    /// Limit on the size of a branch in bytes; 0 is none.
    pub branch_logical_size_limit_bytes: i64,
    /// Bytes on disk of all its branches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic_storage_size: Option<i64>,
    /// Start of the accounting period; the creation time.
    pub consumption_period_start: String,
    /// End of the accounting period; never.
    pub consumption_period_end: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// When it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Until when it can be brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<String>,
}

/// Body of `POST /projects`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectCreateRequest {
    /// The project wanted.
    #[serde(default)]
    pub project: ProjectCreate,
}

/// What a new project should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProjectCreate {
    /// Its name, 1 to 256 characters; its id if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its first branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<ProjectCreateBranch>,
    /// Major version of Postgres, 15 to 18; the server must have it. The default is 15, or the newest it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pg_version: Option<i32>,
    /// Accepted and not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_id: Option<String>,
    /// Accepted and not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// How far back branches may reach, in seconds, 0 to 2592000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_retention_seconds: Option<i64>,
    /// Kept as sent. With `enable_logical_replication` all of its endpoints run with `wal_level=logical`, from then on,
    /// and the roles that scion makes may replicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
    /// What new endpoints are made with, unless they, or the endpoint of the branch they begin on, say otherwise;
    /// `pg_settings` too, which are checked as an endpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_settings: Option<serde_json::Value>,
}

/// The first branch of a new project.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProjectCreateBranch {
    /// Its name; `main` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The owner role; `neondb_owner` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_name: Option<String>,
    /// The database; `neondb` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_name: Option<String>,
}

/// Body of `PATCH /projects/{project_id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectUpdateRequest {
    /// What to change.
    #[serde(default)]
    pub project: ProjectUpdate,
}

/// What to change of a project; what is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProjectUpdate {
    /// Its name, 1 to 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far back branches may reach, in seconds, 0 to 2592000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_retention_seconds: Option<i64>,
    /// Kept as sent. With `enable_logical_replication` all of its endpoints run with `wal_level=logical`, from then on,
    /// and the roles that scion makes may replicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
    /// What new endpoints are made with, unless they, or the endpoint of the branch they begin on, say otherwise;
    /// `pg_settings` too, which are checked as an endpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_settings: Option<serde_json::Value>,
}

/// Answer of `POST /projects`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectCreated {
    /// The project.
    pub project: Project,
    /// Its first branch.
    pub branch: Branch,
    /// The endpoint of that branch.
    pub endpoints: Vec<Endpoint>,
    /// The owner role, with its password.
    pub roles: Vec<Role>,
    /// The database.
    pub databases: Vec<Database>,
    /// How to connect.
    pub connection_uris: Vec<ConnectionDetails>,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// Answer that holds one project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectResponse {
    /// The project.
    pub project: Project,
}

/// Answer of `POST /projects/{project_id}/recover`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectRecovered {
    /// The project.
    pub project: Project,
    /// Its branches, oldest first.
    pub branches: Vec<Branch>,
}

/// Answer that holds one project and what was done to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectOperations {
    /// The project.
    pub project: Project,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// One page of projects, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// The projects.
    pub projects: Vec<Project>,
    /// Always empty, and there because clients expect it.
    pub applications: serde_json::Map<String, serde_json::Value>,
    /// Always empty, and there because clients expect it.
    pub integrations: serde_json::Map<String, serde_json::Value>,
    /// Where the next page starts; absent if this one is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<CursorPagination>,
}
