//! Snapshots: named moments of a branch whose data outlives the branch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::branch::{Branch, sent};
use crate::endpoint::connection::ConnectionDetails;
use crate::endpoint::{BranchEndpointCreate, Endpoint};
use crate::operation::Operation;

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id: `snap-calm-river-8q2k5x1a`.
    pub id: String,
    /// Its name, unique in the project.
    pub name: String,
    /// A second name that never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The branch it was made of; it stays when that is deleted.
    pub source_branch_id: String,
    /// Ours: the branch whose history it is of, when that is not the source: its moment was before the source itself began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_branch_id: Option<String>,
    /// Where in the log of that: everything before this position is in it.
    pub lsn: String,
    /// Time of the last commit in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Whether a request made it; false for one that a schedule made.
    pub manual: bool,
    /// Bytes of all tables and indexes in it; absent for one that an older version of the server made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_size: Option<i64>,
    /// Bytes of log between it and the snapshot of the branch that was before it when it was made; absent if there was
    /// none, or if the branch was restored to before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_size: Option<i64>,
    /// When it is deleted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Ours: when it was last changed.
    pub updated_at: String,
}

/// What a snapshot is to be, as the query of `POST /projects/{project_id}/branches/{branch_id}/snapshot`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotCreate {
    /// Its name; that of the branch and the time if left out.
    pub name: Option<String>,
    /// A second name that never changes.
    pub slug: Option<String>,
    /// Where in the log of the branch; its head if left out.
    pub lsn: Option<String>,
    /// When in the history of the branch, RFC 3339; not together with `lsn`.
    pub timestamp: Option<String>,
    /// When to delete it, RFC 3339.
    pub expires_at: Option<String>,
}

/// Body of `PATCH /projects/{project_id}/snapshots/{snapshot_id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SnapshotUpdateRequest {
    /// What to change.
    pub snapshot: SnapshotUpdate,
}

/// What to change of a snapshot; what is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SnapshotUpdate {
    /// Its name, 1 to 256 characters, unique in the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When to delete it, RFC 3339; `null` for never.
    #[serde(deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Option<String>>,
}

/// Answer that holds one snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResponse {
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// Answer that holds one snapshot and what was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotOperations {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What was done.
    pub operations: Vec<Operation>,
}

/// Snapshots, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotList {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// Body of `POST /projects/{project_id}/snapshots/{snapshot_id}/restore`; may be empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SnapshotRestoreRequest {
    /// Name of the new branch; made of the snapshot's name if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The branch whose place the new one is to take; that which the snapshot was made of, or what took its place
    /// since, if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_branch_id: Option<String>,
    /// Whether it takes that place at once. If not, `finalize_restore` of the new branch does, when it was looked at.
    pub finalize_restore: bool,
    /// Ours: whether subscriptions and scheduled jobs in it are put to rest before the first client; they are if left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<bool>,
    /// Ours: endpoints of the new branch until it takes that place; one `read_write` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<BranchEndpointCreate>>,
}

/// Answer of `POST /projects/{project_id}/snapshots/{snapshot_id}/restore`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotRestored {
    /// The new branch.
    pub branch: Branch,
    /// Ours: the branch whose place it took, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_branch: Option<Branch>,
    /// Its endpoints, ready for connections.
    pub endpoints: Vec<Endpoint>,
    /// What was done.
    pub operations: Vec<Operation>,
    /// How to connect; absent unless there is an endpoint, one role and one database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connection_uris: Vec<ConnectionDetails>,
}

/// Body of `POST /projects/{project_id}/branches/{branch_id}/finalize_restore`; may be empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FinalizeRestoreRequest {
    /// New name for the branch that loses its place; `NAME (old)` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Answer of `POST /projects/{project_id}/branches/{branch_id}/finalize_restore`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RestoreFinalized {
    /// Ours: the branch that took the place.
    pub branch: Branch,
    /// Ours: the branch whose place it was.
    pub replaced_branch: Branch,
    /// What was done.
    pub operations: Vec<Operation>,
}
