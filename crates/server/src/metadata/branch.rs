//! Rows of branches.
//!
//! A branch is *live* until it is deleted, then *deleted* and can be brought back, then *purged*: hidden for good, and
//! its row goes when no row of a child is left.

use rusqlite::{Connection, Row, named_params};

use super::{many, one, project, run};
use crate::error::{Error, Result};

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// What the store calls the data it has now; a restore gives it another.
    pub store_id: String,
    /// Its name, unique among the live branches of the project.
    pub name: String,
    /// The branch its data began on.
    pub parent_id: Option<String>,
    /// The branch whose history it began in, if that is an ancestor of the parent.
    pub history_id: Option<String>,
    /// Where in the parent's log it begins.
    pub parent_lsn: Option<String>,
    /// Time of the last commit it was made with.
    pub parent_time_us: Option<i64>,
    /// Whether it was made with a schema alone, and still has what began with that.
    pub schema_only: bool,
    /// The LSN asked for, if another was taken.
    pub requested_lsn: Option<String>,
    /// Whether it is the parent of branches that name none.
    pub is_default: bool,
    /// Whether it is protected from deletion and restore.
    pub protected: bool,
    /// It was deleted for good; its data goes as soon as nothing hangs on it.
    pub purging: bool,
    /// JSON it was made with.
    pub annotation: Option<String>,
    /// When it is deleted by itself.
    pub expires_us: Option<i64>,
    /// How long after its creation or restore that is.
    pub ttl_s: Option<i64>,
    /// When it was last restored.
    pub last_reset_us: Option<i64>,
    /// When it was deleted; `None` for a live one.
    pub deleted_us: Option<i64>,
    /// Whether it was deleted because it had expired.
    pub expired: bool,
    /// The snapshot it was made of.
    pub restored_from: Option<String>,
    /// The branch whose place it was made to take.
    pub restored_as: Option<String>,
    /// Whether it took that place.
    pub finalized: bool,
    /// When it was made.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
}

impl BranchRow {
    /// A branch with data of its own and nothing special about it.
    pub fn new(id: &str, project: &str, name: impl Into<String>, now_us: i64) -> Self {
        Self {
            id: id.to_owned(),
            project_id: project.to_owned(),
            store_id: id.to_owned(),
            name: name.into(),
            parent_id: None,
            history_id: None,
            parent_lsn: None,
            parent_time_us: None,
            schema_only: false,
            requested_lsn: None,
            is_default: false,
            protected: false,
            purging: false,
            annotation: None,
            expires_us: None,
            ttl_s: None,
            last_reset_us: None,
            deleted_us: None,
            expired: false,
            restored_from: None,
            restored_as: None,
            finalized: false,
            created_us: now_us,
            updated_us: now_us,
        }
    }
}

const COLUMNS: &str = "id, project_id, store_id, name, parent_id, parent_lsn, parent_time_us, requested_lsn, \
                       is_default, protected, purging, annotation, expires_us, ttl_s, last_reset_us, deleted_us, \
                       expired, created_us, updated_us, restored_from, restored_as, finalized, \
                       schema_only, history_id";

fn read(row: &Row<'_>) -> rusqlite::Result<BranchRow> {
    Ok(BranchRow {
        id: row.get(0)?,
        project_id: row.get(1)?,
        store_id: row.get(2)?,
        name: row.get(3)?,
        parent_id: row.get(4)?,
        parent_lsn: row.get(5)?,
        parent_time_us: row.get(6)?,
        requested_lsn: row.get(7)?,
        is_default: row.get(8)?,
        protected: row.get(9)?,
        purging: row.get(10)?,
        annotation: row.get(11)?,
        expires_us: row.get(12)?,
        ttl_s: row.get(13)?,
        last_reset_us: row.get(14)?,
        deleted_us: row.get(15)?,
        expired: row.get(16)?,
        created_us: row.get(17)?,
        updated_us: row.get(18)?,
        restored_from: row.get(19)?,
        restored_as: row.get(20)?,
        finalized: row.get(21)?,
        schema_only: row.get(22)?,
        history_id: row.get(23)?,
    })
}

/// Writes a new row.
///
/// # Errors
/// 409 if the name is taken.
pub fn insert(connection: &Connection, row: &BranchRow) -> Result<()> {
    check_free(connection, &row.project_id, &row.name)?;
    let sql = format!(
        "INSERT INTO branch ({COLUMNS}) VALUES (:id, :project_id, :store_id, :name, :parent_id, :parent_lsn, \
         :parent_time_us, :requested_lsn, :is_default, :protected, :purging, :annotation, :expires_us, :ttl_s, \
         :last_reset_us, :deleted_us, :expired, :created_us, :updated_us, :restored_from, :restored_as, :finalized, \
         :schema_only, :history_id)"
    );
    write(connection, &sql, row)
}

/// Writes everything of a row that can change.
///
/// # Errors
/// 409 if the name is taken.
pub fn update(connection: &Connection, row: &BranchRow) -> Result<()> {
    // The rest is named so that every parameter is used.
    let sql = "UPDATE branch SET store_id = :store_id, name = :name, parent_id = :parent_id, \
               parent_lsn = :parent_lsn, parent_time_us = :parent_time_us, requested_lsn = :requested_lsn, \
               is_default = :is_default, protected = :protected, purging = :purging, annotation = :annotation, \
               expires_us = :expires_us, ttl_s = :ttl_s, last_reset_us = :last_reset_us, \
               deleted_us = :deleted_us, expired = :expired, updated_us = :updated_us, \
               restored_from = :restored_from, restored_as = :restored_as, finalized = :finalized, \
               schema_only = :schema_only, history_id = :history_id \
               WHERE id = :id AND project_id = :project_id AND created_us = :created_us";
    write(connection, sql, row)
}

fn write(connection: &Connection, sql: &str, row: &BranchRow) -> Result<()> {
    let values = named_params! {
        ":id": row.id,
        ":project_id": row.project_id,
        ":store_id": row.store_id,
        ":name": row.name,
        ":parent_id": row.parent_id,
        ":parent_lsn": row.parent_lsn,
        ":parent_time_us": row.parent_time_us,
        ":requested_lsn": row.requested_lsn,
        ":is_default": row.is_default,
        ":protected": row.protected,
        ":purging": row.purging,
        ":annotation": row.annotation,
        ":expires_us": row.expires_us,
        ":ttl_s": row.ttl_s,
        ":last_reset_us": row.last_reset_us,
        ":deleted_us": row.deleted_us,
        ":expired": row.expired,
        ":created_us": row.created_us,
        ":updated_us": row.updated_us,
        ":restored_from": row.restored_from,
        ":restored_as": row.restored_as,
        ":finalized": row.finalized,
        ":schema_only": row.schema_only,
        ":history_id": row.history_id,
    };
    run(connection, sql, values).map(|_| ())
}

/// Checks that no branch of the project is called `name`.
///
/// # Errors
/// 409 if one is.
pub fn check_free(connection: &Connection, project: &str, name: &str) -> Result<()> {
    match named(connection, project, name)? {
        None => Ok(()),
        Some(_) => Err(Error::conflict(format!("branch with the provided name {name:?} already exists"))),
    }
}

/// `name`, or the first of `name 2`, `name 3` and so on that no branch of the project has.
///
/// # Errors
/// Those of SQLite.
pub fn free_name(connection: &Connection, project: &str, name: &str) -> Result<String> {
    let mut free = name.to_owned();
    let mut number = 2_u64;
    while named(connection, project, &free)?.is_some() {
        free = format!("{name} {number}");
        number += 1;
    }
    Ok(free)
}

/// The live branch called `name`, if there is one.
///
/// # Errors
/// Those of SQLite.
pub fn named(connection: &Connection, project: &str, name: &str) -> Result<Option<BranchRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND name = ? AND deleted_us IS NULL");
    one(connection, &sql, [project, name], read)
}

/// A live branch.
///
/// # Errors
/// 404 if there is none.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<BranchRow> {
    project::check_not_deleted(connection, project)?;
    find(connection, project, id)?
        .filter(|row| row.deleted_us.is_none())
        .ok_or_else(|| Error::not_found("branch", id))
}

/// A row, whatever its state.
///
/// # Errors
/// Those of SQLite.
pub fn find(connection: &Connection, project: &str, id: &str) -> Result<Option<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND id = ?");
    one(connection, &sql, [project, id], read)
}

/// The default branch of a project.
///
/// # Errors
/// 404 if there is none.
pub fn default(connection: &Connection, project: &str) -> Result<BranchRow> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND is_default");
    one(connection, &sql, [project], read)?.ok_or_else(|| Error::not_found("branch", "default"))
}

/// Every branch of a project, whatever its state, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? ORDER BY rowid");
    many(connection, &sql, [project], read)
}

/// The live branches of a project, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn live(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND deleted_us IS NULL ORDER BY rowid");
    many(connection, &sql, [project], read)
}

/// The live children of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn children(connection: &Connection, id: &str) -> Result<Vec<BranchRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM branch WHERE parent_id = ? AND deleted_us IS NULL ORDER BY rowid");
    many(connection, &sql, [id], read)
}

/// Id of the branch that holds the data of `source` now: `source` itself, or the one that got its data since it was read.
///
/// # Errors
/// 404 if `source` is not live any more, 423 if it was given other data and what it had is not kept.
pub fn holder(connection: &Connection, source: &BranchRow) -> Result<String> {
    let now = get(connection, &source.project_id, &source.id)?;
    let sql = "SELECT id FROM branch WHERE store_id = ? AND deleted_us IS NULL";
    one(connection, sql, [&source.store_id], |row| row.get(0))?.ok_or_else(|| {
        Error::busy(format!("branch {} was given other data at the same moment; try again", now.name))
    })
}

/// The branch that took the place of a branch, made of a snapshot of it.
///
/// # Errors
/// Those of SQLite.
pub fn who_took_the_place_of(connection: &Connection, id: &str) -> Result<Option<String>> {
    one(connection, "SELECT id FROM branch WHERE restored_as = ?1 AND finalized", [id], |row| row.get(0))
}

/// The branch whose data the store calls `data`, whatever its state.
///
/// # Errors
/// Those of SQLite.
pub fn of_data(connection: &Connection, project: &str, data: &str) -> Result<Option<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND store_id = ?");
    one(connection, &sql, [project, data], read)
}

/// Gives the children of `from`, deleted ones too, to `to`, and what began in its history.
///
/// # Errors
/// Those of SQLite.
pub fn move_children(connection: &Connection, from: &str, to: &str) -> Result<()> {
    for table in ["branch", "snapshot"] {
        let sql = format!("UPDATE {table} SET history_id = ?2 WHERE history_id = ?1");
        run(connection, &sql, [from, to])?;
    }
    run(connection, "UPDATE branch SET parent_id = ?2 WHERE parent_id = ?1", [from, to]).map(|_| ())
}

/// Branches of usable projects whose time has come: those to be purged, those deleted before `deleted_us`, and live
/// ones that expired before `now_us`.
///
/// # Errors
/// Those of SQLite.
pub fn due(connection: &Connection, now_us: i64, deleted_us: i64) -> Result<Vec<BranchRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM branch WHERE (purging OR deleted_us <= ?2 OR (deleted_us IS NULL AND expires_us <= ?1)) \
         AND project_id IN (SELECT id FROM project WHERE state = 'ready')"
    );
    many(connection, &sql, [now_us, deleted_us], read)
}

/// Makes a branch the default one, and no other.
///
/// # Errors
/// Those of SQLite.
pub fn set_default(connection: &Connection, project: &str, id: &str) -> Result<()> {
    run(connection, "UPDATE branch SET is_default = (id = ?2) WHERE project_id = ?1", [project, id])
        .map(|_| ())
}

/// Removes the row and all that belongs to it.
///
/// # Errors
/// 409 while a branch has it as its parent.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "DELETE FROM branch WHERE id = ?", [id]).map(|_| ())
}
