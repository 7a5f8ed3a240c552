//! Rows of branches.

use rusqlite::{Connection, Row, named_params};

use super::{many, one, run};
use crate::error::{Error, Result};

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// Its name, unique in the project.
    pub name: String,
    /// The branch it was made from.
    pub parent_id: Option<String>,
    /// Where in the parent's log it begins.
    pub parent_lsn: Option<String>,
    /// Time of the last commit it was made with.
    pub parent_time_us: Option<i64>,
    /// The LSN asked for, if another was taken.
    pub requested_lsn: Option<String>,
    /// Whether it is the parent of branches that name none.
    pub is_default: bool,
    /// Whether it is protected from deletion.
    pub protected: bool,
    /// It is being deleted; a crash finishes that.
    pub deleting: bool,
    /// JSON it was made with.
    pub annotation: Option<String>,
    /// When it was made.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
}

const COLUMNS: &str = "id, project_id, name, parent_id, parent_lsn, parent_time_us, requested_lsn, is_default, \
                       protected, deleting, annotation, created_us, updated_us";

fn read(row: &Row<'_>) -> rusqlite::Result<BranchRow> {
    Ok(BranchRow {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        parent_id: row.get(3)?,
        parent_lsn: row.get(4)?,
        parent_time_us: row.get(5)?,
        requested_lsn: row.get(6)?,
        is_default: row.get(7)?,
        protected: row.get(8)?,
        deleting: row.get(9)?,
        annotation: row.get(10)?,
        created_us: row.get(11)?,
        updated_us: row.get(12)?,
    })
}

/// Writes a new row.
///
/// # Errors
/// 409 if the name is taken.
pub fn insert(connection: &Connection, row: &BranchRow) -> Result<()> {
    check_free(connection, &row.project_id, &row.name)?;
    let sql = format!(
        "INSERT INTO branch ({COLUMNS}) VALUES (:id, :project_id, :name, :parent_id, :parent_lsn, :parent_time_us, \
         :requested_lsn, :is_default, :protected, :deleting, :annotation, :created_us, :updated_us)"
    );
    let values = named_params! {
        ":id": row.id,
        ":project_id": row.project_id,
        ":name": row.name,
        ":parent_id": row.parent_id,
        ":parent_lsn": row.parent_lsn,
        ":parent_time_us": row.parent_time_us,
        ":requested_lsn": row.requested_lsn,
        ":is_default": row.is_default,
        ":protected": row.protected,
        ":deleting": row.deleting,
        ":annotation": row.annotation,
        ":created_us": row.created_us,
        ":updated_us": row.updated_us,
    };
    run(connection, &sql, values).map(|_| ())
}

/// Checks that no branch of the project is called `name`.
///
/// # Errors
/// 409 if one is.
pub fn check_free(connection: &Connection, project: &str, name: &str) -> Result<()> {
    let sql = "SELECT 1 FROM branch WHERE project_id = ? AND name = ?";
    match one(connection, sql, [project, name], |_| Ok(()))? {
        None => Ok(()),
        Some(()) => Err(Error::conflict(format!("branch with the provided name {name:?} already exists"))),
    }
}

/// A branch that exists for clients.
///
/// # Errors
/// 404 if it does not.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<BranchRow> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND id = ? AND NOT deleting");
    one(connection, &sql, [project, id], read)?.ok_or_else(|| Error::not_found("branch", id))
}

/// The default branch of a project.
///
/// # Errors
/// 404 if there is none.
pub fn default(connection: &Connection, project: &str) -> Result<BranchRow> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND is_default");
    one(connection, &sql, [project], read)?.ok_or_else(|| Error::not_found("branch", "default"))
}

/// Every branch of a project, those being deleted too, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? ORDER BY rowid");
    many(connection, &sql, [project], read)
}

/// Names of the children of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn children(connection: &Connection, id: &str) -> Result<Vec<String>> {
    many(connection, "SELECT name FROM branch WHERE parent_id = ? ORDER BY rowid", [id], |row| row.get(0))
}

/// Changes name and protection.
///
/// # Errors
/// 409 if the name is taken.
pub fn update(connection: &Connection, row: &BranchRow) -> Result<()> {
    let sql =
        "UPDATE branch SET name = :name, protected = :protected, updated_us = :updated_us WHERE id = :id";
    let values = named_params! {
        ":id": row.id,
        ":name": row.name,
        ":protected": row.protected,
        ":updated_us": row.updated_us,
    };
    run(connection, sql, values).map(|_| ())
}

/// Hides a branch from clients until it is removed.
///
/// # Errors
/// Those of SQLite.
pub fn set_deleting(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "UPDATE branch SET deleting = 1 WHERE id = ?", [id]).map(|_| ())
}

/// Removes the row and all that belongs to it.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "DELETE FROM branch WHERE id = ?", [id]).map(|_| ())
}
