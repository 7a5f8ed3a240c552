//! Schemas of databases, and what differs between two.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET .../schema`: one of `sql` and `json`, as was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SchemaAnswer {
    /// What `pg_dump --schema-only` writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<SchemaTables>,
    /// Ours: the branch whose history it was, when the moment asked for was before the branch itself began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_branch_id: Option<String>,
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
    /// Ours: the branch whose history the first schema is of, when its moment was before the branch itself began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_branch_id: Option<String>,
    /// Ours: the same of the schema it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_history_branch_id: Option<String>,
}
