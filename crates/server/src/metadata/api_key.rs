//! Rows of API keys. Of the key itself only its hash is there.

use rusqlite::{Connection, named_params};

use super::{Columns, many, one, run};
use crate::error::{Error, Result};

row! {
    /// One API key.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ApiKeyRow in "api_key" {
        /// Its id; 0 in a row that is not written yet.
        pub id: i64,
        /// Its name.
        pub name: String,
        /// SHA-256 of the key.
        pub hash: [u8; 32],
        /// The only project it reaches.
        pub project_id: Option<String>,
        /// When it was made.
        pub created_us: i64,
        /// When it was last used.
        pub used_us: Option<i64>,
        /// Where from.
        pub used_from: String,
    }
}

const COLUMNS: &str = ApiKeyRow::COLUMNS;

/// Writes a new row; its id. None is given twice.
///
/// # Errors
/// Those of SQLite.
pub fn insert(connection: &Connection, row: &ApiKeyRow) -> Result<i64> {
    let sql = "INSERT INTO api_key (name, hash, project_id, created_us, used_us, used_from) VALUES (:name, :hash, \
               :project_id, :created_us, :used_us, :used_from)";
    let values = named_params! {
        ":name": row.name,
        ":hash": row.hash,
        ":project_id": row.project_id,
        ":created_us": row.created_us,
        ":used_us": row.used_us,
        ":used_from": row.used_from,
    };
    run(connection, sql, values)?;
    Ok(connection.last_insert_rowid())
}

/// Every key, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<ApiKeyRow>> {
    many(connection, &format!("SELECT {COLUMNS} FROM api_key ORDER BY id"), [], ApiKeyRow::read)
}

/// One key.
///
/// # Errors
/// `NotFound` if there is none.
pub fn get(connection: &Connection, id: i64) -> Result<ApiKeyRow> {
    one(connection, &format!("SELECT {COLUMNS} FROM api_key WHERE id = ?"), [id], ApiKeyRow::read)?
        .ok_or_else(|| Error::not_found("API key", &id.to_string()))
}

/// Notes a use.
///
/// # Errors
/// Those of SQLite.
pub fn set_used(connection: &Connection, id: i64, used_us: i64, from: &str) -> Result<()> {
    let sql = "UPDATE api_key SET used_us = ?2, used_from = ?3 WHERE id = ?1";
    run(connection, sql, (id, used_us, from)).map(|_| ())
}

/// Removes the row.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, id: i64) -> Result<()> {
    run(connection, "DELETE FROM api_key WHERE id = ?", [id]).map(|_| ())
}
