//! Rows of projects.

use rusqlite::{Connection, Row, named_params};

use super::{many, one, run};
use crate::error::{Error, Result};

/// Its store and rows are being made; a crash undoes it.
pub const CREATING: &str = "creating";
/// It exists.
pub const READY: &str = "ready";
/// It is being deleted; a crash finishes that.
pub const DELETING: &str = "deleting";

/// One project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `CREATING`, `READY` or `DELETING`.
    pub state: String,
    /// Major version of Postgres.
    pub pg_version: i32,
    /// How far back branches may reach, in seconds.
    pub history_retention_s: i64,
    /// JSON as it was sent.
    pub settings: String,
    /// JSON as it was sent.
    pub default_endpoint_settings: String,
    /// When it was made.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
}

const COLUMNS: &str = "id, name, state, pg_version, history_retention_s, settings, default_endpoint_settings, \
                       created_us, updated_us";

fn read(row: &Row<'_>) -> rusqlite::Result<ProjectRow> {
    Ok(ProjectRow {
        id: row.get(0)?,
        name: row.get(1)?,
        state: row.get(2)?,
        pg_version: row.get(3)?,
        history_retention_s: row.get(4)?,
        settings: row.get(5)?,
        default_endpoint_settings: row.get(6)?,
        created_us: row.get(7)?,
        updated_us: row.get(8)?,
    })
}

/// Writes a row, over an older one of the same id.
///
/// # Errors
/// Those of SQLite.
pub fn put(connection: &Connection, row: &ProjectRow) -> Result<()> {
    let sql = format!(
        "INSERT INTO project ({COLUMNS}) VALUES (:id, :name, :state, :pg_version, :history_retention_s, :settings, \
         :default_endpoint_settings, :created_us, :updated_us) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         state = excluded.state, history_retention_s = excluded.history_retention_s, \
         settings = excluded.settings, default_endpoint_settings = excluded.default_endpoint_settings, \
         updated_us = excluded.updated_us"
    );
    let values = named_params! {
        ":id": row.id,
        ":name": row.name,
        ":state": row.state,
        ":pg_version": row.pg_version,
        ":history_retention_s": row.history_retention_s,
        ":settings": row.settings,
        ":default_endpoint_settings": row.default_endpoint_settings,
        ":created_us": row.created_us,
        ":updated_us": row.updated_us,
    };
    run(connection, &sql, values).map(|_| ())
}

/// A project that exists for clients.
///
/// # Errors
/// 404 if it does not.
pub fn get(connection: &Connection, id: &str) -> Result<ProjectRow> {
    let sql = format!("SELECT {COLUMNS} FROM project WHERE id = ? AND state = 'ready'");
    one(connection, &sql, [id], read)?.ok_or_else(|| Error::not_found("project", id))
}

/// Every project, whatever its state, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<ProjectRow>> {
    many(connection, &format!("SELECT {COLUMNS} FROM project ORDER BY rowid"), [], read)
}

/// At most `limit` projects whose name or id holds `search`, newest first, after the one with id `cursor`; of all, or
/// of the one with id `only`.
///
/// # Errors
/// Those of SQLite.
pub fn page(
    connection: &Connection,
    cursor: &str,
    limit: usize,
    search: &str,
    only: Option<&str>,
) -> Result<Vec<ProjectRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM project WHERE state = 'ready' AND (:only IS NULL OR id = :only) \
         AND (:cursor = '' OR rowid < (SELECT rowid FROM project WHERE id = :cursor)) \
         AND (instr(lower(name), lower(:search)) > 0 OR instr(id, :search) > 0) \
         ORDER BY rowid DESC LIMIT :limit"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = named_params! { ":cursor": cursor, ":search": search, ":limit": limit, ":only": only };
    many(connection, &sql, values, read)
}

/// Sets the state.
///
/// # Errors
/// Those of SQLite.
pub fn set_state(connection: &Connection, id: &str, state: &str) -> Result<()> {
    run(connection, "UPDATE project SET state = ? WHERE id = ?", [state, id]).map(|_| ())
}

/// Removes the row and all that belongs to it.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "UPDATE branch SET parent_id = NULL WHERE project_id = ?", [id])?;
    run(connection, "DELETE FROM project WHERE id = ?", [id]).map(|_| ())
}
