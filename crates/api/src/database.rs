//! Databases of a branch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A database that was made through the interface.
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
