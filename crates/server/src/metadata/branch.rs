//! Rows of branches.
//!
//! A branch is *live* until it is deleted, then *deleted* and can be brought back, then *purged*: hidden for good, and
//! its row goes when no row of a child is left.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, named_params};

use super::cursor::Cursor;
use super::{Columns, many, one, project, run};
use crate::error::{Error, Result};
use crate::limits::NAMES_SHOWN;

row! {
    /// One branch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BranchRow in "branch" {
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

const COLUMNS: &str = BranchRow::COLUMNS;

/// Writes a new row.
///
/// # Errors
/// `Conflict` if the name is taken.
pub fn insert(connection: &Connection, row: &BranchRow) -> Result<()> {
    check_free(connection, &row.project_id, &row.name)?;
    run(connection, BranchRow::INSERT, &*row.values()).map(|_| ())
}

/// Writes a row as it is now.
///
/// # Errors
/// `Conflict` if the name is taken.
pub fn update(connection: &Connection, row: &BranchRow) -> Result<()> {
    run(connection, BranchRow::UPDATE, &*row.values()).map(|_| ())
}

/// Checks that no branch of the project is called `name`.
///
/// # Errors
/// `Conflict` if one is.
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
    one(connection, &sql, [project, name], BranchRow::read)
}

/// A live branch.
///
/// # Errors
/// `NotFound` if there is none.
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
    one(connection, &sql, [project, id], BranchRow::read)
}

/// The default branch of a project.
///
/// # Errors
/// `NotFound` if there is none.
pub fn default(connection: &Connection, project: &str) -> Result<BranchRow> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND is_default");
    one(connection, &sql, [project], BranchRow::read)?.ok_or_else(|| Error::not_found("branch", "default"))
}

/// What a list of branches is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortedBy {
    /// Their names, whatever the case.
    Name,
    /// When they were made.
    Created,
    /// When they were last changed.
    Updated,
}

impl SortedBy {
    /// As SQLite computes the key of a [`Cursor`].
    const fn key(self) -> &'static str {
        match self {
            Self::Name => "lowered(name)",
            Self::Created => "printf('%020d', created_us)",
            Self::Updated => "printf('%020d', updated_us)",
        }
    }

    /// The place of a row in such a list.
    pub fn place(self, row: &BranchRow) -> Cursor {
        match self {
            Self::Name => Cursor { key: row.name.to_lowercase(), id: row.id.clone() },
            Self::Created => Cursor::at(row.created_us, &row.id),
            Self::Updated => Cursor::at(row.updated_us, &row.id),
        }
    }
}

/// Which branches a list is of.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// What their name or id holds, whatever the case.
    pub search: &'a str,
    /// Deleted ones too that can be brought back.
    pub deleted: bool,
    /// The default branch only.
    pub default: bool,
}

const LISTED: &str = "project_id = :project AND (deleted_us IS NULL OR (:deleted AND NOT purging)) \
                      AND (:search = '' OR instr(lowered(name), :search) > 0 OR instr(id, :search) > 0)";

impl Listed<'_> {
    fn rule(&self) -> String {
        // A literal, so that its index is used.
        format!("{LISTED}{}", if self.default { " AND is_default" } else { "" })
    }
}

/// At most `limit` branches of a project after a place.
///
/// # Errors
/// Those of SQLite.
pub fn page(
    connection: &Connection,
    project: &str,
    listed: Listed<'_>,
    (by, descending): (SortedBy, bool),
    (after, limit): (Option<&Cursor>, usize),
) -> Result<Vec<BranchRow>> {
    let (key, order, next) = if descending { (by.key(), "DESC", "<") } else { (by.key(), "ASC", ">") };
    let rule = listed.rule();
    let sql = format!(
        "SELECT {COLUMNS} FROM branch WHERE {rule} AND (:id IS NULL OR ({key}, id) {next} (:key, :id)) \
         ORDER BY {key} {order}, id {order} LIMIT :limit"
    );
    let values = named_params! {
        ":project": project,
        ":deleted": listed.deleted,
        ":search": listed.search.to_lowercase(),
        ":key": after.map(|place| &place.key),
        ":id": after.map(|place| &place.id),
        ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
    };
    many(connection, &sql, values, BranchRow::read)
}

/// How many such branches there are.
///
/// # Errors
/// Those of SQLite.
pub fn count(connection: &Connection, project: &str, listed: Listed<'_>) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM branch WHERE {}", listed.rule());
    let search = listed.search.to_lowercase();
    let values = named_params! { ":project": project, ":deleted": listed.deleted, ":search": search };
    Ok(one(connection, &sql, values, |row| row.get(0))?.unwrap_or_default())
}

/// The JSON that a client noted on a branch.
///
/// # Errors
/// Those of SQLite.
pub fn annotation(connection: &Connection, id: &str) -> Result<Option<String>> {
    one(connection, "SELECT value FROM annotation WHERE branch_id = ?", [id], |row| row.get(0))
}

/// What clients noted on these branches, by their ids; nothing of those that they noted nothing on.
///
/// # Errors
/// Those of SQLite.
pub fn annotations(connection: &Connection, rows: &[BranchRow]) -> Result<Vec<(String, String)>> {
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let ids = serde_json::to_string(&ids).map_err(|error| Error::internal(error.to_string()))?;
    let sql = "SELECT branch_id, value FROM annotation WHERE branch_id IN (SELECT value FROM json_each(?))";
    many(connection, sql, [ids], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Notes JSON on a branch that has none.
///
/// # Errors
/// Those of SQLite.
pub fn annotate(connection: &Connection, id: &str, value: &str) -> Result<()> {
    run(connection, "INSERT INTO annotation (branch_id, value) VALUES (?, ?)", [id, value]).map(|_| ())
}

/// Notes on `to`, which has nothing, what is noted on `from`.
///
/// # Errors
/// Those of SQLite.
pub fn copy_annotation(connection: &Connection, from: &str, to: &str) -> Result<()> {
    let sql =
        "INSERT INTO annotation (branch_id, value) SELECT ?2, value FROM annotation WHERE branch_id = ?1";
    run(connection, sql, [from, to]).map(|_| ())
}

/// What the store calls the data of branches, whatever their state, and of snapshots.
///
/// # Errors
/// Those of SQLite.
pub fn data_of_all(connection: &Connection, project: &str) -> Result<HashSet<String>> {
    let sql = "SELECT store_id FROM branch WHERE project_id = ?1 \
               UNION ALL SELECT store_id FROM snapshot WHERE project_id = ?1";
    Ok(many(connection, sql, [project], |row| row.get(0))?.into_iter().collect())
}

/// A live branch of a project that is protected, if there is one.
///
/// # Errors
/// Those of SQLite.
pub fn any_protected(connection: &Connection, project: &str) -> Result<Option<BranchRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM branch WHERE project_id = ? AND protected AND deleted_us IS NULL \
         ORDER BY rowid LIMIT 1"
    );
    one(connection, &sql, [project], BranchRow::read)
}

/// The branches of a project that were made with a schema alone, whatever their state.
///
/// # Errors
/// Those of SQLite.
pub fn with_schema_only(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND schema_only ORDER BY rowid");
    many(connection, &sql, [project], BranchRow::read)
}

/// Every branch of a project, whatever its state, oldest first.
///
/// # Errors
/// Those of SQLite.
/// Names of branches, for people; of many, the first ones and how many more.
pub fn names_of(rows: &[BranchRow]) -> String {
    let names: Vec<&str> = rows.iter().take(NAMES_SHOWN).map(|row| row.name.as_str()).collect();
    let more = rows.len().saturating_sub(NAMES_SHOWN);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
pub fn all(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? ORDER BY rowid");
    many(connection, &sql, [project], BranchRow::read)
}

/// The live branches of a project, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn live(connection: &Connection, project: &str) -> Result<Vec<BranchRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM branch WHERE project_id = ? AND deleted_us IS NULL ORDER BY rowid");
    many(connection, &sql, [project], BranchRow::read)
}

/// The live children of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn children(connection: &Connection, id: &str) -> Result<Vec<BranchRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM branch WHERE parent_id = ? AND deleted_us IS NULL ORDER BY rowid");
    many(connection, &sql, [id], BranchRow::read)
}

/// What is below a branch, oldest first: its live children, theirs, and so on; with `deleted`, the deleted ones too that
/// are not purged.
///
/// # Errors
/// Those of SQLite.
pub fn below(connection: &Connection, id: &str, deleted: bool) -> Result<Vec<BranchRow>> {
    let there = "(deleted_us IS NULL OR (?2 AND NOT purging))";
    let sql = format!(
        "WITH RECURSIVE below (child) AS (SELECT id FROM branch WHERE parent_id = ?1 AND {there} \
         UNION SELECT id FROM branch JOIN below ON parent_id = child WHERE {there}) \
         SELECT {COLUMNS} FROM branch WHERE id IN (SELECT child FROM below) AND id <> ?1 ORDER BY rowid"
    );
    many(connection, &sql, (id, deleted), BranchRow::read)
}

/// Id of the branch that holds the data of `source` now: `source` itself, or the one that got its data since it was read.
///
/// # Errors
/// `NotFound` if `source` is not live any more, `Busy` if it was given other data and what it had is not kept.
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
    one(connection, &sql, [project, data], BranchRow::read)
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
    // Each has an index of its own, and none is in two; the rows are had by what was found, whatever SQLite thinks best.
    let ids = "SELECT id FROM branch WHERE purging \
               UNION ALL SELECT id FROM branch WHERE deleted_us <= ?2 AND NOT purging \
               UNION ALL SELECT id FROM branch WHERE expires_us <= ?1 AND deleted_us IS NULL AND NOT purging";
    let sql = format!(
        "SELECT {COLUMNS} FROM ({ids}) AS due CROSS JOIN branch USING (id) \
         WHERE +project_id IN (SELECT id FROM project WHERE state = 'ready') ORDER BY branch.rowid"
    );
    many(connection, &sql, [now_us, deleted_us], BranchRow::read)
}

/// Makes a branch the default one, and no other.
///
/// # Errors
/// Those of SQLite.
pub fn set_default(connection: &Connection, project: &str, id: &str) -> Result<()> {
    run(connection, "UPDATE branch SET is_default = (id = ?2) WHERE project_id = ?1", [project, id])
        .map(|_| ())
}

/// Removes the rows of a project's branches that are purged, children before parents; how many. Those that a branch
/// begins on stay, and those that have an endpoint: its row goes after its files.
///
/// # Errors
/// Those of SQLite.
pub fn purge(connection: &Connection, project: &str) -> Result<usize> {
    let sql = "SELECT id, parent_id, (SELECT count(*) FROM branch AS child WHERE child.parent_id = branch.id) \
               FROM branch WHERE project_id = ? AND purging \
               AND NOT EXISTS (SELECT 1 FROM endpoint WHERE branch_id = branch.id)";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
    let mut going: HashMap<String, (Option<String>, i64)> =
        many(connection, sql, [project], read)?.into_iter().collect();
    let leaves = going.iter().filter(|(_, (_, children))| *children == 0);
    let mut leaves: Vec<String> = leaves.map(|(id, _)| id.clone()).collect();
    let mut removed = 0;
    while let Some(id) = leaves.pop() {
        remove(connection, &id)?;
        removed += 1;
        let parent = going.remove(&id).and_then(|(parent, _)| parent);
        let Some(parent) = parent else { continue };
        if let Some((_, children)) = going.get_mut(&parent) {
            *children -= 1;
            if *children == 0 {
                leaves.push(parent);
            }
        }
    }
    Ok(removed)
}

/// Removes the row and all that belongs to it.
///
/// # Errors
/// `Conflict` while a branch has it as its parent.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "DELETE FROM branch WHERE id = ?", [id]).map(|_| ())
}
