//! Endpoints: the compute of a branch.

pub mod connection;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::operation::Operation;
use crate::pagination::CursorPagination;

/// What an endpoint may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointType {
    /// Reads and writes.
    ReadWrite,
    /// Reads only: a hot standby, for a branch that nothing else writes.
    ReadOnly,
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Starting or stopping.
    Init,
    /// Accepts connections.
    Active,
    /// Not running.
    Idle,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Its id: `ep-calm-river-8q2k5x1a`.
    pub id: String,
    /// Host and port to connect to.
    pub host: String,
    /// The host without the endpoint's own part.
    pub proxy_host: String,
    /// Its name; need not be unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its project.
    pub project_id: String,
    /// Its branch.
    pub branch_id: String,
    /// Kept as sent; not enforced.
    pub autoscaling_limit_min_cu: f64,
    /// Kept as sent; not enforced.
    pub autoscaling_limit_max_cu: f64,
    /// Where it runs; always `local`.
    pub region_id: String,
    /// What it may do.
    #[serde(rename = "type")]
    pub kind: EndpointType,
    /// Where it is in its life.
    pub current_state: EndpointState,
    /// Where it is going, if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_state: Option<EndpointState>,
    /// Ours: why it is in this state, when that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// Ours: The newest page read that the store refused since its process was started: relation, block and why. Its
    /// Postgres told the client of an I/O error only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_read_error: Option<String>,
    /// Ours: all that differ, oldest first; of many, the first ones and how many more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_errors: Vec<String>,
    /// Ours: how many page reads failed since its process was started.
    #[serde(default)]
    pub read_failures: u64,
    /// Ours: what the last start spent its time on, in milliseconds, in order of the phases' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub start_phases_ms: BTreeMap<String, f64>,
    /// Ours: process id of its Postgres, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_pid: Option<u32>,
    /// Ours: process id of its `scion compute`, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_pid: Option<u32>,
    /// Ours: directory of its unix socket, for the superuser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_dir: Option<String>,
    /// Settings of Postgres and others, as they were sent.
    pub settings: serde_json::Value,
    /// Whether connections are pooled. Always false: not supported.
    pub pooler_enabled: bool,
    /// How connections would be pooled.
    pub pooler_mode: String,
    /// Whether it may not be started.
    pub disabled: bool,
    /// Always false: not supported.
    pub passwordless_access: bool,
    /// Seconds without activity after which it stops; not enforced yet. 0 is the default, -1 never.
    pub suspend_timeout_seconds: i64,
    /// What runs it; always `scion`.
    pub provisioner: String,
    /// Who made it.
    pub creation_source: String,
    /// When it was last known to be active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active: Option<String>,
    /// When it was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it was last stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// An endpoint to be made together with its branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchEndpointCreate {
    /// What it may do; `read_write` if left out.
    #[serde(rename = "type", default = "read_write")]
    pub kind: EndpointType,
    /// What may be set.
    #[serde(flatten)]
    pub options: EndpointOptions,
}

/// What may be set of an endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct EndpointOptions {
    /// Its name, 1 to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kept; not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling_limit_min_cu: Option<f64>,
    /// Kept; not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling_limit_max_cu: Option<f64>,
    /// Kept; not enforced yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend_timeout_seconds: Option<i64>,
    /// `pg_settings` in it are given to Postgres. Those that name files, programs, networks, or libraries by path, and those
    /// that scion sets itself, are refused; so are values that Postgres does not start with, and then nothing is changed.
    /// A new endpoint begins with those of the endpoint of the branch that its own begins on. One that is set no more is
    /// as the project says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
    /// Whether it may not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Body of `PATCH /projects/{project_id}/endpoints/{endpoint_id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct EndpointUpdateRequest {
    /// What to change; what is left out stays. Other `pg_settings` restart an endpoint that runs, `disabled` stops it;
    /// either drops its replication slots.
    pub endpoint: EndpointOptions,
}

/// Body of `POST /projects/{project_id}/endpoints`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointCreateRequest {
    /// The endpoint wanted.
    pub endpoint: EndpointCreate,
}

/// What a new endpoint should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointCreate {
    /// Its branch.
    pub branch_id: String,
    /// What it may do; `read_write` if left out.
    #[serde(rename = "type", default = "read_write")]
    pub kind: EndpointType,
    /// What may be set.
    #[serde(flatten)]
    pub options: EndpointOptions,
}

/// Answer that holds one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointResponse {
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// Ours: a replication slot of an endpoint's Postgres. A stop or restart of the endpoint drops it, and its subscriber misses
/// what is written from then on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplicationSlot {
    /// Its name.
    pub slot_name: String,
    /// `logical` or `physical`.
    pub slot_type: String,
    /// What decodes the log for it, if it is logical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The database it is of, if it is logical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Whether somebody receives by it now.
    pub active: bool,
}

/// Ours: what a stop or restart of an endpoint would drop now. Nobody is asked before one over the API.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplicationSlotList {
    /// The slots, by name; none of an endpoint that does not run.
    pub replication_slots: Vec<ReplicationSlot>,
}

/// Answer that holds one endpoint and what was done to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointOperations {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// Endpoints, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointList {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Where the next page starts; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<CursorPagination>,
}

fn read_write() -> EndpointType {
    EndpointType::ReadWrite
}
