//! What Neon's platform gives a branch beside Postgres, and scion does not: lists that are always empty, which published
//! clients ask for before they work on a branch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET .../branches/{branch_id}/buckets`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BucketList {
    /// Buckets of objects; none.
    pub buckets: Vec<serde_json::Value>,
}

/// Answer of `GET .../branches/{branch_id}/functions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FunctionList {
    /// Functions that run beside the database; none.
    pub functions: Vec<serde_json::Value>,
}

/// Answer of `GET .../branches/{branch_id}/credentials`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CredentialList {
    /// Credentials for these; none.
    pub credentials: Vec<serde_json::Value>,
}
