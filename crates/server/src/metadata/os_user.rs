//! Which user of the operating system is a project's.

use rusqlite::Connection;

use super::{one, run};
use crate::error::Result;

/// The user of a project.
///
/// # Errors
/// Those of SQLite.
pub fn find(connection: &Connection, project: &str) -> Result<Option<u32>> {
    one(connection, "SELECT number FROM os_user WHERE project_id = ?", [project], |row| row.get(0))
}

/// Gives `user` to a project; false if another one has it.
///
/// # Errors
/// Those of SQLite.
pub fn claim(change: &Connection, project: &str, user: u32) -> Result<bool> {
    let sql = "INSERT OR IGNORE INTO os_user (project_id, number) VALUES (?, ?)";
    run(change, sql, (project, user))?;
    Ok(find(change, project)? == Some(user))
}
