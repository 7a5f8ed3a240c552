//! Operations: what was done, when, and how it ended.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::pagination::CursorPagination;

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Under way.
    Running,
    /// Done.
    Finished,
    /// Not done; `error` says why.
    Failed,
}

/// Something done to a project, branch or endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id, a UUID.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// The branch it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_id: Option<String>,
    /// The endpoint it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    /// What was done, in one of the words that Neon has for it.
    pub action: String,
    /// Ours: what was done in our own word, where Neon has none as exact, such as `restore_branch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scion_action: Option<String>,
    /// How it stands.
    pub status: OperationStatus,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Ours: what exactly was done, where that is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
    /// Times it failed.
    pub failures_count: i32,
    /// When it began.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// How long it took, in milliseconds.
    pub total_duration_ms: i64,
}

/// One page of operations, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OperationList {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Where the next page starts; absent if this one is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<CursorPagination>,
}

/// Answer that holds one operation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OperationResponse {
    /// The operation.
    pub operation: Operation,
}
