//! The log of a branch: how far it can be read, what is held beyond, and ways out of that.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Ours: how far the log of a branch is held and can be read.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchLog {
    /// The branch.
    pub branch_id: String,
    /// End of the last record that can be read.
    pub head_lsn: String,
    /// What is held beyond it; absent if all can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<UnreadLog>,
}

/// Ours: log that is held and cannot be read.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnreadLog {
    /// What is wrong with the first record of it.
    pub reason: String,
    /// False if that passes by itself; true if only another version of the server, a sound file, or an end of the log there
    /// helps.
    pub lasting: bool,
    /// Log is held up to here.
    pub held_lsn: String,
    /// Whole records in it.
    pub records: i64,
    /// How many of them ended a transaction.
    pub transactions: i64,
    /// When the latest of those ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transaction_at: Option<String>,
}

/// Ours: body of `POST .../log/end`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BranchLogEndRequest {
    /// Where the log is to end: its `head_lsn`, so that nothing is given up but what was shown.
    pub at_lsn: String,
}
