//! API keys: who may ask, and for what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /api_keys`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyCreateRequest {
    /// Its name, 1 to 64 characters; need not be unique.
    pub key_name: String,
    /// The only project it reaches; every project and the server itself if left out. A key of one project cannot
    /// delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A key that was made. This answer is the only place where it is ever shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyCreateResponse {
    /// Its id.
    pub id: i64,
    /// The key, to be sent as `Authorization: Bearer <key>`. Only its hash is kept.
    pub key: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: String,
    /// Id of the only user.
    pub created_by: String,
    /// The only project it reaches; absent if it reaches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// Who made a key: the only user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyCreator {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// The user's picture; empty.
    pub image: String,
}

/// A key, without the key itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: String,
    /// Who made it.
    pub created_by: ApiKeyCreator,
    /// When it was last used; null if never.
    pub last_used_at: Option<String>,
    /// The address it was last used from; empty if never.
    pub last_used_from_addr: String,
    /// The only project it reaches; absent if it reaches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// Keys, oldest first: a bare array.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyList(pub Vec<ApiKey>);

/// A key that opens nothing any more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyRevokeResponse {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: String,
    /// Id of the only user.
    pub created_by: String,
    /// When it was last used; null if never.
    pub last_used_at: Option<String>,
    /// The address it was last used from; empty if never.
    pub last_used_from_addr: String,
    /// True.
    pub revoked: bool,
}
