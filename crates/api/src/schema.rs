//! Schemas of databases, and what differs between two.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET .../schema`, in the format asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaAnswer {
    /// What `pg_dump --schema-only` writes.
    Sql(String),
    /// The tables.
    Json(SchemaTables),
}

/// The tables of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaTables {
    /// In order of their names.
    pub tables: Vec<SchemaTable>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// In their order in the table.
    pub columns: Vec<SchemaColumn>,
    /// Keys, in order of their names.
    pub constraints: Vec<SchemaConstraint>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaColumn {
    /// Its name.
    pub name: String,
    /// Its type, as SQL writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether it is computed.
    pub generated: bool,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaConstraint {
    /// `primary_key`, `unique` or `foreign_key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Its name.
    pub name: String,
    /// What a foreign key refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referenced_table: Option<ReferencedTable>,
}

/// What a foreign key refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReferencedTable {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
}

/// Answer of `GET .../compare_schema`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SchemaDiff {
    /// A unified diff of the two schemas; empty if they are the same.
    pub diff: String,
}
