//! Schemas of databases, and what differs between two.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET .../schema`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SchemaText {
    /// What `pg_dump --schema-only` writes.
    pub sql: String,
}

/// Answer of `GET .../compare_schema`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SchemaDiff {
    /// A unified diff of the two schemas; empty if they are the same.
    pub diff: String,
}
