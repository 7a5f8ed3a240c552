//! Rows of roles and databases: what a branch's connection strings are made of.
//!
//! A child begins with the rows of its parent, as it begins with the parent's roles and databases.

use rusqlite::{Connection, Row};

use super::{many, run};
use crate::error::Result;

/// One role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRow {
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// Its password, as it is typed.
    pub password: String,
    /// When it was made.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRow {
    /// A number of ours.
    pub id: i64,
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner_name: String,
    /// When it was made.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
}

fn read_role(row: &Row<'_>) -> rusqlite::Result<RoleRow> {
    Ok(RoleRow {
        branch_id: row.get(0)?,
        name: row.get(1)?,
        password: row.get(2)?,
        created_us: row.get(3)?,
        updated_us: row.get(4)?,
    })
}

fn read_database(row: &Row<'_>) -> rusqlite::Result<DatabaseRow> {
    Ok(DatabaseRow {
        id: row.get(0)?,
        branch_id: row.get(1)?,
        name: row.get(2)?,
        owner_name: row.get(3)?,
        created_us: row.get(4)?,
        updated_us: row.get(5)?,
    })
}

/// Writes a new role.
///
/// # Errors
/// 409 if the name is taken.
pub fn insert_role(
    connection: &Connection,
    branch: &str,
    name: &str,
    password: &str,
    now_us: i64,
) -> Result<()> {
    let sql =
        "INSERT INTO role (branch_id, name, password, created_us, updated_us) VALUES (?1, ?2, ?3, ?4, ?4)";
    run(connection, sql, (branch, name, password, now_us)).map(|_| ())
}

/// Writes a new database.
///
/// # Errors
/// 409 if the name is taken.
pub fn insert_database(
    connection: &Connection,
    branch: &str,
    name: &str,
    owner: &str,
    now_us: i64,
) -> Result<()> {
    let sql = "INSERT INTO database (branch_id, name, owner_name, created_us, updated_us) VALUES (?1, ?2, ?3, ?4, ?4)";
    run(connection, sql, (branch, name, owner, now_us)).map(|_| ())
}

/// Gives `child` the roles and databases of `parent`.
///
/// # Errors
/// Those of SQLite.
pub fn inherit(connection: &Connection, parent: &str, child: &str) -> Result<()> {
    let sql = "INSERT INTO role (branch_id, name, password, created_us, updated_us) \
               SELECT ?2, name, password, created_us, updated_us FROM role WHERE branch_id = ?1 ORDER BY rowid";
    run(connection, sql, [parent, child])?;
    let sql = "INSERT INTO database (branch_id, name, owner_name, created_us, updated_us) \
               SELECT ?2, name, owner_name, created_us, updated_us FROM database WHERE branch_id = ?1 ORDER BY id";
    run(connection, sql, [parent, child]).map(|_| ())
}

/// Roles of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn roles(connection: &Connection, branch: &str) -> Result<Vec<RoleRow>> {
    let sql = "SELECT branch_id, name, password, created_us, updated_us FROM role WHERE branch_id = ? ORDER BY rowid";
    many(connection, sql, [branch], read_role)
}

/// Databases of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn databases(connection: &Connection, branch: &str) -> Result<Vec<DatabaseRow>> {
    let sql = "SELECT id, branch_id, name, owner_name, created_us, updated_us FROM database WHERE branch_id = ? \
               ORDER BY id";
    many(connection, sql, [branch], read_database)
}
