//! Databases of a branch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::operation::Operation;

/// A database, whoever made it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// A number of ours, not Postgres's OID.
    pub id: i64,
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner_name: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Databases of a branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseList {
    /// The databases.
    pub databases: Vec<Database>,
}

/// Body of `POST .../databases`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseCreateRequest {
    /// The database wanted.
    pub database: DatabaseCreate,
}

/// What a new database should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseCreate {
    /// Its name, 1 to 63 bytes.
    pub name: String,
    /// The role that is to own it.
    pub owner_name: String,
}

/// Body of `PATCH .../databases/{database_name}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseUpdateRequest {
    /// What to change.
    pub database: DatabaseUpdate,
}

/// What to change of a database; what is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DatabaseUpdate {
    /// Its name; a rename ends its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The role that is to own it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
}

/// Answer that holds one database.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseResponse {
    /// The database.
    pub database: Database,
}

/// Answer that holds one database and what was done to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatabaseOperations {
    /// The database.
    pub database: Database,
    /// What was done.
    pub operations: Vec<Operation>,
}
