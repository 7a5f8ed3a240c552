//! Rows of endpoints: what should be, not what is.

use std::sync::LazyLock;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};

use super::cursor::Cursor;
use super::{Columns, many, one, project, run};
use crate::error::{Error, Result};

/// What an endpoint should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desired {
    /// Running.
    Active,
    /// Stopped.
    Idle,
    /// Deleted; hidden from clients, a crash finishes that.
    Gone,
}

impl Desired {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Gone => "gone",
        }
    }
}

impl ToSql for Desired {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Desired {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value.as_str()? {
            "active" => Self::Active,
            "gone" => Self::Gone,
            _ => Self::Idle,
        })
    }
}

row! {
    /// One endpoint.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EndpointRow in "endpoint" {
        /// Its id.
        pub id: String,
        /// Its project.
        pub project_id: String,
        /// Its branch.
        pub branch_id: String,
        /// Its TCP port.
        pub port: u16,
        /// Whether it only reads.
        pub read_only: bool,
        /// What it should be.
        pub desired: Desired,
        /// `api::endpoint::EndpointOptions` as JSON.
        pub options: String,
        /// Those it is being restarted with, which it has once it runs; a crash takes them back.
        pub tried: Option<String>,
        /// When it was last started.
        pub started_us: Option<i64>,
        /// When it was last stopped.
        pub suspended_us: Option<i64>,
        /// When it was made.
        pub created_us: i64,
        /// When it was last changed.
        pub updated_us: i64,
    }
}

impl EndpointRow {
    /// Its place in lists.
    pub fn place(&self) -> Cursor {
        Cursor::at(self.created_us, &self.id)
    }
}

const COLUMNS: &str = EndpointRow::COLUMNS;
/// What reads rows. Nothing of a deleted project is to run; what should run again is known when it comes back.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let desired = "CASE WHEN desired = 'active' AND \
                   (SELECT state FROM project WHERE project.id = endpoint.project_id) = 'deleted' \
                   THEN 'idle' ELSE desired END";
    format!("SELECT {} FROM endpoint", COLUMNS.replace("desired", desired))
});

/// Writes a new row.
///
/// # Errors
/// Those of SQLite.
pub fn insert(connection: &Connection, row: &EndpointRow) -> Result<()> {
    run(connection, EndpointRow::INSERT, &*row.values()).map(|_| ())
}

/// An endpoint that exists for clients.
///
/// # Errors
/// `NotFound` if it does not.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<EndpointRow> {
    project::check_not_deleted(connection, project)?;
    find(connection, id)?
        .filter(|row| row.project_id == project && row.desired != Desired::Gone)
        .ok_or_else(|| Error::not_found("endpoint", id))
}

/// A row, whatever its state.
///
/// # Errors
/// Those of SQLite.
pub fn find(connection: &Connection, id: &str) -> Result<Option<EndpointRow>> {
    one(connection, &format!("{} WHERE id = ?", *SELECT), [id], EndpointRow::read)
}

/// Every row of all projects, whatever its state, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<EndpointRow>> {
    many(connection, &format!("{} ORDER BY rowid", *SELECT), [], EndpointRow::read)
}

/// Endpoints of a project that exist for clients, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn of_project(connection: &Connection, project: &str) -> Result<Vec<EndpointRow>> {
    let sql = format!("{} WHERE project_id = ? AND desired <> 'gone' ORDER BY rowid", *SELECT);
    many(connection, &sql, [project], EndpointRow::read)
}

/// Endpoints of a project, whatever their state.
///
/// # Errors
/// Those of SQLite.
pub fn all_of_project(connection: &Connection, project: &str) -> Result<Vec<EndpointRow>> {
    many(connection, &format!("{} WHERE project_id = ?", *SELECT), [project], EndpointRow::read)
}

/// The ports that endpoints have.
///
/// # Errors
/// Those of SQLite.
pub fn ports(connection: &Connection) -> Result<Vec<u16>> {
    many(connection, "SELECT port FROM endpoint", [], |row| row.get(0))
}

/// Endpoints of a branch that exist for clients, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn of_branch(connection: &Connection, branch: &str) -> Result<Vec<EndpointRow>> {
    let sql = format!("{} WHERE branch_id = ? AND desired <> 'gone' ORDER BY rowid", *SELECT);
    many(connection, &sql, [branch], EndpointRow::read)
}

/// Says what an endpoint should be from now on.
///
/// # Errors
/// Those of SQLite.
pub fn set_desired(connection: &Connection, id: &str, desired: Desired, now_us: i64) -> Result<()> {
    let sql = "UPDATE endpoint SET desired = ?2, updated_us = ?3 WHERE id = ?1 AND desired <> 'gone'";
    run(connection, sql, (id, desired.as_str(), now_us)).map(|_| ())
}

/// Writes what may be set of an endpoint; nothing else is tried any more.
///
/// # Errors
/// Those of SQLite.
pub fn set_options(connection: &Connection, id: &str, options: &str, now_us: i64) -> Result<()> {
    let sql = "UPDATE endpoint SET options = ?2, tried = NULL, updated_us = ?3 WHERE id = ?1";
    run(connection, sql, (id, options, now_us)).map(|_| ())
}

/// Says what it is to be started with until its options are set.
///
/// # Errors
/// Those of SQLite.
pub fn set_tried(connection: &Connection, id: &str, options: Option<&str>) -> Result<()> {
    run(connection, "UPDATE endpoint SET tried = ?2 WHERE id = ?1", (id, options)).map(|_| ())
}

/// Notes a start.
///
/// # Errors
/// Those of SQLite.
pub fn set_started(connection: &Connection, id: &str, now_us: i64) -> Result<()> {
    run(connection, "UPDATE endpoint SET started_us = ?2 WHERE id = ?1", (id, now_us)).map(|_| ())
}

/// Notes a stop.
///
/// # Errors
/// Those of SQLite.
pub fn set_suspended(connection: &Connection, id: &str, now_us: i64) -> Result<()> {
    run(connection, "UPDATE endpoint SET suspended_us = ?2 WHERE id = ?1", (id, now_us)).map(|_| ())
}

/// Gives an endpoint to another branch.
///
/// # Errors
/// Those of SQLite.
pub fn set_branch(connection: &Connection, id: &str, branch: &str, now_us: i64) -> Result<()> {
    let sql = "UPDATE endpoint SET branch_id = ?2, updated_us = ?3 WHERE id = ?1";
    run(connection, sql, (id, branch, now_us)).map(|_| ())
}

/// Gives an endpoint another port.
///
/// # Errors
/// Those of SQLite.
pub fn set_port(connection: &Connection, id: &str, port: u16) -> Result<()> {
    run(connection, "UPDATE endpoint SET port = ?2 WHERE id = ?1", (id, port)).map(|_| ())
}

/// Removes the row.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "DELETE FROM endpoint WHERE id = ?", [id]).map(|_| ())
}
