//! Which branches need no quarantine any more: one that had it, and one that was made without.

use rusqlite::Connection;

use super::{one, run};
use crate::error::Result;

/// True if what the branch inherited was not put to rest yet and is to be.
///
/// # Errors
/// Those of SQLite.
pub fn is_due(connection: &Connection, branch: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM branch WHERE id = ?1 AND coalesce(parent_id, restored_from) IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM quarantine WHERE branch_id = ?1)";
    Ok(one(connection, sql, [branch], |_| Ok(()))?.is_some())
}

/// Notes that a branch needs no quarantine from now on; false if that was known.
///
/// # Errors
/// Those of SQLite.
pub fn note_done(connection: &Connection, branch: &str, now_us: i64) -> Result<bool> {
    let sql = "INSERT INTO quarantine (branch_id, settled_us) SELECT id, ?2 FROM branch WHERE id = ?1 \
               ON CONFLICT (branch_id) DO NOTHING";
    Ok(run(connection, sql, (branch, now_us))? > 0)
}

/// Notes that `branch` holds other data, which needs quarantine; what it held is as it was, under `backup` if at all.
///
/// # Errors
/// Those of SQLite.
pub fn begin_again(connection: &Connection, branch: &str, backup: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO quarantine (branch_id, settled_us) SELECT ?2, settled_us FROM quarantine \
               WHERE branch_id = ?1 AND ?2 IS NOT NULL";
    run(connection, sql, (branch, backup))?;
    run(connection, "DELETE FROM quarantine WHERE branch_id = ?1", [branch]).map(|_| ())
}
