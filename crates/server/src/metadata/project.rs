//! Rows of projects.

use rusqlite::{Connection, named_params};

use super::cursor::Cursor;
use super::{Columns, many, one, run};
use crate::error::{Error, Result};

/// Its store and rows are being made; a crash undoes it.
pub const CREATING: &str = "creating";
/// It exists.
pub const READY: &str = "ready";
/// It is deleted and can be brought back.
pub const DELETED: &str = "deleted";
/// It is being removed; a crash finishes that.
pub const DELETING: &str = "deleting";

row! {
    /// One project.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProjectRow in "project" {
        /// Its id.
        pub id: String,
        /// Its name.
        pub name: String,
        /// `CREATING`, `READY`, `DELETED` or `DELETING`.
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
        /// When it was deleted.
        pub deleted_us: Option<i64>,
    }
}

impl ProjectRow {
    /// Whether the log of its endpoints holds what logical decoding needs.
    pub fn replicates_logically(&self) -> bool {
        let settings: serde_json::Value = serde_json::from_str(&self.settings).unwrap_or_default();
        settings["enable_logical_replication"] == true
    }
}

/// Whether the log of a project's endpoints holds what logical decoding needs.
///
/// # Errors
/// Those of SQLite.
pub fn replicates_logically(connection: &Connection, id: &str) -> Result<bool> {
    Ok(find(connection, id)?.is_some_and(|row| row.replicates_logically()))
}

const COLUMNS: &str = ProjectRow::COLUMNS;

/// Writes a row, over an older one of the same id.
///
/// # Errors
/// Those of SQLite.
pub fn put(connection: &Connection, row: &ProjectRow) -> Result<()> {
    run(connection, ProjectRow::PUT, &*row.values()).map(|_| ())
}

/// A project that exists for clients.
///
/// # Errors
/// `NotFound` if it does not.
pub fn get(connection: &Connection, id: &str) -> Result<ProjectRow> {
    let sql = format!("SELECT {COLUMNS} FROM project WHERE id = ? AND state = 'ready'");
    one(connection, &sql, [id], ProjectRow::read)?.ok_or_else(|| Error::not_found("project", id))
}

/// A row, whatever its state.
///
/// # Errors
/// Those of SQLite.
pub fn find(connection: &Connection, id: &str) -> Result<Option<ProjectRow>> {
    one(connection, &format!("SELECT {COLUMNS} FROM project WHERE id = ?"), [id], ProjectRow::read)
}

/// Checks that a project is neither deleted nor being removed: nothing in it is there for clients then.
///
/// # Errors
/// `NotFound` if it is.
pub fn check_not_deleted(connection: &Connection, id: &str) -> Result<()> {
    let sql = "SELECT 1 FROM project WHERE id = ? AND state IN ('deleted', 'deleting')";
    match one(connection, sql, [id], |_| Ok(()))? {
        Some(()) => Err(Error::not_found("project", id)),
        None => Ok(()),
    }
}

/// Every project, whatever its state, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<ProjectRow>> {
    many(connection, &format!("SELECT {COLUMNS} FROM project ORDER BY rowid"), [], ProjectRow::read)
}

/// Ids of the projects to be removed: those whose removal has begun, and those deleted before `deleted_us`.
///
/// # Errors
/// Those of SQLite.
pub fn due(connection: &Connection, deleted_us: i64) -> Result<Vec<String>> {
    let sql = "SELECT id FROM project WHERE state = 'deleting' OR (state = 'deleted' AND deleted_us <= ?)";
    many(connection, sql, [deleted_us], |row| row.get(0))
}

/// Which projects a list is of.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// `READY` or `DELETED`.
    pub state: &'a str,
    /// What their name or id holds.
    pub search: &'a str,
    /// The only one, by its id.
    pub only: Option<&'a str>,
}

impl ProjectRow {
    /// Its place in lists.
    pub fn place(&self) -> Cursor {
        Cursor::at(self.created_us, &self.id)
    }
}

/// At most `limit` projects, newest first, after a place.
///
/// # Errors
/// Those of SQLite.
pub fn page(
    connection: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    listed: Listed<'_>,
) -> Result<Vec<ProjectRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM project WHERE state = :state AND (:only IS NULL OR id = :only) \
         AND (:id IS NULL OR (printf('%020d', created_us), id) < (:key, :id)) \
         AND (instr(lower(name), lower(:search)) > 0 OR instr(id, :search) > 0) \
         ORDER BY created_us DESC, id DESC LIMIT :limit"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = named_params! {
        ":key": after.map(|place| &place.key),
        ":id": after.map(|place| &place.id),
        ":search": listed.search,
        ":limit": limit,
        ":only": listed.only,
        ":state": listed.state,
    };
    many(connection, &sql, values, ProjectRow::read)
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

/// The user of the operating system that its Postgres runs as.
///
/// # Errors
/// Those of SQLite.
pub fn os_user(connection: &Connection, project: &str) -> Result<Option<u32>> {
    one(connection, "SELECT number FROM os_user WHERE project_id = ?", [project], |row| row.get(0))
}

/// Gives `user` to a project; false if another one has it.
///
/// # Errors
/// Those of SQLite.
pub fn claim_os_user(change: &Connection, project: &str, user: u32) -> Result<bool> {
    let sql = "INSERT OR IGNORE INTO os_user (project_id, number) VALUES (?, ?)";
    run(change, sql, (project, user))?;
    Ok(os_user(change, project)? == Some(user))
}

#[cfg(test)]
mod tests {
    use super::super::tests::project_row;
    use super::*;

    #[test]
    fn logical_replication_is_on_only_if_it_was_asked_for() {
        let on = |settings: &str| {
            ProjectRow { settings: settings.to_owned(), ..project_row("p", READY) }.replicates_logically()
        };
        assert!(on(r#"{"enable_logical_replication":true}"#));
        for other in
            ["{}", "", r#"{"enable_logical_replication":false}"#, r#"{"enable_logical_replication":null}"#]
        {
            assert!(!on(other), "{other}");
        }
    }
}
