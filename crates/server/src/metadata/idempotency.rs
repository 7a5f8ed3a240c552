//! Rows of requests that carry a key of their client's, so that the same request sent twice makes one branch.

use rusqlite::Connection;

use super::{one, run};
use crate::error::{Error, Result};

/// The key of a request, and what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What the client sent as `Idempotency-Key`.
    pub key: String,
    /// Hash of the request's body.
    pub request: String,
}

/// The branch that an earlier request with this key made.
///
/// # Errors
/// `Refused` if that asked for something else.
pub fn find(connection: &Connection, project: &str, key: &Key) -> Result<Option<String>> {
    let sql = "SELECT request, branch_id FROM idempotency WHERE project_id = ? AND key = ?";
    let found = one(connection, sql, [project, &key.key], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    match found {
        Some((request, _)) if request != key.request => {
            let text = format!("Idempotency-Key {:?} was used for another request", key.key);
            Err(Error::refused("IDEMPOTENCY_KEY_REUSED", text))
        }
        found => Ok(found.map(|(_, branch)| branch)),
    }
}

/// Remembers what a request made.
///
/// # Errors
/// Those of SQLite.
pub fn insert(connection: &Connection, project: &str, key: &Key, branch: &str, now_us: i64) -> Result<()> {
    let sql =
        "INSERT INTO idempotency (project_id, key, request, branch_id, created_us) VALUES (?, ?, ?, ?, ?)";
    run(connection, sql, (project, &key.key, &key.request, branch, now_us)).map(|_| ())
}

/// Forgets the request that made a branch which is not to be: sent again, it makes another.
///
/// # Errors
/// Those of SQLite.
pub fn forget(connection: &Connection, branch: &str) -> Result<()> {
    run(connection, "DELETE FROM idempotency WHERE branch_id = ?", [branch]).map(|_| ())
}

/// Forgets keys of requests before `us`.
///
/// # Errors
/// Those of SQLite.
pub fn forget_before(connection: &Connection, us: i64) -> Result<()> {
    run(connection, "DELETE FROM idempotency WHERE created_us < ?", [us]).map(|_| ())
}
