//! Ours: is it well?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::endpoint::EndpointState;
use crate::operation::Operation;

/// Answer of `GET /status`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the server.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// When the server started.
    pub started_at: String,
    /// The data directory.
    pub data_dir: String,
    /// Resident memory of the server, in bytes.
    pub memory_bytes: u64,
    /// Bytes the stores of all projects hold on disk.
    pub disk_bytes: u64,
    /// Bytes free on the disk of the data directory.
    pub disk_free_bytes: u64,
    /// How many projects there are.
    pub projects: u64,
    /// Every branch.
    pub branches: Vec<BranchStatus>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointStatus>,
    /// Projects whose store cannot be opened, and why. All others work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable_projects: Vec<UnusableProject>,
    /// What is under way, newest first, of projects too that are being made or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations_under_way: Vec<Operation>,
}

/// A project in a [`Status`] whose store cannot be opened.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnusableProject {
    /// Its id.
    pub project_id: String,
    /// Its name.
    pub name: String,
    /// What is wrong with its store.
    pub reason: String,
}

/// One branch in a [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchStatus {
    /// Its project.
    pub project_id: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// End of the last whole record the store holds.
    pub head_lsn: String,
    /// Where its own log begins.
    pub start_lsn: String,
    /// Bytes on disk that are this branch's alone.
    pub own_data_bytes: i64,
}

/// One endpoint in a [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointStatus {
    /// Its project.
    pub project_id: String,
    /// Its branch.
    pub branch_id: String,
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub current_state: EndpointState,
    /// Why, when that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// The newest page read that the store refused since its process was started: relation, block and why. Its
    /// Postgres told the client of an I/O error only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_read_error: Option<String>,
    /// Bytes of WAL its Postgres has flushed and the store does not hold yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
}
