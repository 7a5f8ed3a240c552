//! Branches: (parent, LSN) and what was written since.

pub mod schema;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::database::Database;
use crate::endpoint::connection::ConnectionDetails;
use crate::endpoint::{BranchEndpointCreate, Endpoint};
use crate::operation::Operation;
use crate::role::Role;

/// A branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Branch {
    /// Its id: `br-calm-river-8q2k5x1a`.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// Its name, unique in the project.
    pub name: String,
    /// The branch it was made from; absent for a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Ours: the branch whose history it began in, when that is not the parent: the moment asked for was before the parent
    /// itself began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_branch_id: Option<String>,
    /// Where in the parent's log it begins: everything before this position is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_lsn: Option<String>,
    /// Time of the last commit it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_timestamp: Option<String>,
    /// Ours: the LSN asked for, when `parent_lsn` was rounded down from it to the end of a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_lsn: Option<String>,
    /// Ours: end of the last whole record the store holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lsn: Option<String>,
    /// Ours: bytes on disk that are this branch's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_data_bytes: Option<i64>,
    /// Ours: what of this branch cannot be read, and why; absent if all can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// `init` or `ready`.
    pub current_state: String,
    /// `storage_deleted` while it is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_state: Option<String>,
    /// When `current_state` last changed.
    pub state_changed_at: String,
    /// Who made it.
    pub creation_source: String,
    /// The same as `default`; Neon's older word.
    pub primary: bool,
    /// Whether it is the parent of branches that name none.
    pub default: bool,
    /// Whether it is protected from deletion and restore; what begins on it has passwords of its own.
    pub protected: bool,
    /// What of the parent it began with: `parent-data`, or `schema-only`.
    pub init_source: String,
    /// Seconds of processor time; not counted.
    pub cpu_used_sec: i64,
    /// Seconds of compute; not counted.
    pub compute_time_seconds: i64,
    /// Seconds of activity; not counted.
    pub active_time_seconds: i64,
    /// Bytes of WAL written on it.
    pub written_data_bytes: i64,
    /// Bytes sent to clients; not counted.
    pub data_transfer_bytes: i64,
    /// When it is deleted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How long after its creation or last reset that is, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_interval_seconds: Option<i64>,
    /// How it can be brought back, if it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<BranchRecovery>,
    /// When it was last given other data: reset to its parent, or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reset_at: Option<String>,
    /// The snapshot it was made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// The branch whose place it took, or is to take when its restore is finalized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_as: Option<String>,
    /// `restored`, or `finalized` once it took that place; absent unless it was made of a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_status: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Body of `POST /projects/{project_id}/branches`; may be empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BranchCreateRequest {
    /// The branch wanted.
    pub branch: BranchCreate,
    /// Its endpoints; none are made if left out.
    pub endpoints: Vec<BranchEndpointCreate>,
    /// Free JSON kept with the branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation_value: Option<serde_json::Value>,
}

/// What a new branch should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BranchCreate {
    /// Its name, 1 to 256 characters, unique in the project; its id if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The branch to make it from; the default branch if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Where in the parent's log to begin; its head if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_lsn: Option<String>,
    /// When in the parent's history to begin, RFC 3339; not together with `parent_lsn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_timestamp: Option<String>,
    /// Whether it is protected from deletion and restore; what begins on it has passwords of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// What of the parent to begin with: `parent-data`, or `schema-only` for a branch without a parent that has the
    /// roles, databases and schemas that this one had there, and no rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_source: Option<String>,
    /// Ours: false leaves what the parent had that acts by itself as it is: subscriptions, jobs of `pg_cron` and
    /// `pg_timetable`. Otherwise they are switched off before the first client is let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<bool>,
    /// When to delete it, RFC 3339, at most 30 days from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Body of `PATCH /projects/{project_id}/branches/{branch_id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BranchUpdateRequest {
    /// What to change.
    pub branch: BranchUpdate,
}

/// How a deleted branch can be brought back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchRecovery {
    /// When it was deleted.
    pub deleted_at: String,
    /// When its data goes.
    pub recoverable_until: String,
    /// `user`, or `ttl` if it had expired.
    pub deletion_method: String,
}

/// Body of `POST /projects/{project_id}/branches/{branch_id}/recover`; may be empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BranchRecoverRequest {
    /// Ours: another name for it, if its own was taken meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What to change of a branch; what is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BranchUpdate {
    /// Its name, 1 to 256 characters, unique in the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is protected from deletion and restore; what begins on it has passwords of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// When to delete it, RFC 3339, at most 30 days from now; `null` for never.
    #[serde(deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Option<String>>,
}

/// Tells `null` from a field that was left out.
pub(crate) fn sent<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

/// Body of `POST /projects/{project_id}/branches/{branch_id}/restore`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BranchRestoreRequest {
    /// The branch whose data to take; it may be the restored one itself.
    pub source_branch_id: String,
    /// Where in the log of that; its head if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_lsn: Option<String>,
    /// When in the history of that, RFC 3339; not together with `source_lsn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_timestamp: Option<String>,
    /// Name for a new branch that keeps what the branch holds now, and gets its children. Needed to restore a branch to
    /// its own past; a branch with children that gets other data is kept as `NAME (old)` if this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_under_name: Option<String>,
    /// Ours: when to delete it; if left out, a branch that expires lives for as long as it was made for, from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Ours: false leaves what acts by itself in its new data as it is, as when a branch is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<bool>,
}

/// Answer of `POST /projects/{project_id}/branches/{branch_id}/restore`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchRestored {
    /// The branch, with its new data.
    pub branch: Branch,
    /// Ours: what it held before, if that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_branch: Option<Branch>,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// Answer of `GET /projects/{project_id}/branches/count`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchCount {
    /// How many there are.
    pub count: i64,
}

/// Answer of `POST /projects/{project_id}/branches`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchCreated {
    /// The branch.
    pub branch: Branch,
    /// Its endpoints, ready for connections.
    pub endpoints: Vec<Endpoint>,
    /// What was done.
    pub operations: Vec<Operation>,
    /// Its roles, those of the parent.
    pub roles: Vec<Role>,
    /// Its databases, those of the parent.
    pub databases: Vec<Database>,
    /// How to connect; absent unless there is an endpoint, one role and one database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connection_uris: Vec<ConnectionDetails>,
}

/// Answer that holds one branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchResponse {
    /// The branch.
    pub branch: Branch,
    /// The free JSON it was made with; its value is empty if there was none.
    pub annotation: Annotation,
}

/// Answer that holds one branch and what was done to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchOperations {
    /// The branch.
    pub branch: Branch,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// Branches, oldest first unless asked otherwise. Clients rely on `annotations` being there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchList {
    /// The branches.
    pub branches: Vec<Branch>,
    /// The free JSON they were made with, by branch id.
    pub annotations: BTreeMap<String, Annotation>,
    /// Where the next page starts.
    pub pagination: BranchPagination,
}

/// Order of the branches, and where the next page starts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchPagination {
    /// To be sent as `cursor`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What they are sorted by.
    pub sort_by: String,
    /// `ASC` or `DESC`.
    pub sort_order: String,
}

/// Free JSON kept with a branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Annotation {
    /// What it belongs to.
    pub object: AnnotationObject,
    /// The JSON as it was sent.
    pub value: serde_json::Value,
}

/// What an annotation belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnnotationObject {
    /// Always `console/branch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the branch.
    pub id: String,
}
