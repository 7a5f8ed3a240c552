//! Rows of snapshots: named moments whose data stays for as long as the row does.
//!
//! A row names its data as a branch's row does, by what the store calls it. Its roles and databases are rows of
//! `role` and `database` under the snapshot's id.

use rusqlite::Connection;

use super::{Columns, many, one, project, run};
use crate::error::{Error, Result};

row! {
    /// One snapshot.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SnapshotRow in "snapshot" {
        /// Its id: `snap-calm-river-8q2k5x1a`.
        pub id: String,
        /// Its project.
        pub project_id: String,
        /// What the store calls its data; nothing ever writes there.
        pub store_id: String,
        /// Its name, unique in the project.
        pub name: String,
        /// A second name that never changes.
        pub slug: Option<String>,
        /// The branch it was made of, which may be gone.
        pub source_branch_id: String,
        /// The branch whose history it is in, if that is an ancestor of the source.
        pub history_id: Option<String>,
        /// Where in the log of that.
        pub lsn: String,
        /// Time of the last commit in it.
        pub time_us: Option<i64>,
        /// Whether a request made it, and no schedule.
        pub manual: bool,
        /// Bytes of all relations in it; `None` for one that an older version made.
        pub full_bytes: Option<i64>,
        /// Bytes of log since the snapshot before it, if one was there in the same history.
        pub diff_bytes: Option<i64>,
        /// When it is deleted by itself.
        pub expires_us: Option<i64>,
        /// When it was made.
        pub created_us: i64,
        /// When it was last changed.
        pub updated_us: i64,
    }
}

const COLUMNS: &str = SnapshotRow::COLUMNS;

/// Writes a new row.
///
/// # Errors
/// `Conflict` if its name or slug is taken.
pub fn insert(connection: &Connection, row: &SnapshotRow) -> Result<()> {
    check_free(connection, &row.project_id, &row.name)?;
    if let Some(slug) = &row.slug {
        let sql = "SELECT 1 FROM snapshot WHERE project_id = ? AND slug = ?";
        if one(connection, sql, [&row.project_id, slug], |_| Ok(()))?.is_some() {
            return Err(Error::conflict(format!("snapshot with the provided slug {slug:?} already exists")));
        }
    }
    run(connection, SnapshotRow::INSERT, &*row.values()).map(|_| ())
}

/// Writes what of a row can change: name and expiry.
///
/// # Errors
/// `Conflict` if the name is taken.
pub fn update(connection: &Connection, row: &SnapshotRow) -> Result<()> {
    let sql = "UPDATE snapshot SET name = ?2, expires_us = ?3, updated_us = ?4 WHERE id = ?1";
    run(connection, sql, (&row.id, &row.name, row.expires_us, row.updated_us)).map(|_| ())
}

/// Checks that no snapshot of the project is called `name`.
///
/// # Errors
/// `Conflict` if one is.
pub fn check_free(connection: &Connection, project: &str, name: &str) -> Result<()> {
    let sql = "SELECT 1 FROM snapshot WHERE project_id = ? AND name = ?";
    match one(connection, sql, [project, name], |_| Ok(()))? {
        None => Ok(()),
        Some(()) => Err(Error::conflict(format!("snapshot with the provided name {name:?} already exists"))),
    }
}

/// `name`, or the first of `name 2`, `name 3` and so on that no snapshot of the project has.
///
/// # Errors
/// Those of SQLite.
pub fn free_name(connection: &Connection, project: &str, name: &str) -> Result<String> {
    let sql = "SELECT 1 FROM snapshot WHERE project_id = ? AND name = ?";
    let mut free = name.to_owned();
    let mut number = 2_u64;
    while one(connection, sql, [project, free.as_str()], |_| Ok(()))?.is_some() {
        free = format!("{name} {number}");
        number += 1;
    }
    Ok(free)
}

/// One snapshot.
///
/// # Errors
/// `NotFound` if there is none.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<SnapshotRow> {
    project::check_not_deleted(connection, project)?;
    let sql = format!("SELECT {COLUMNS} FROM snapshot WHERE project_id = ? AND id = ?");
    one(connection, &sql, [project, id], SnapshotRow::read)?.ok_or_else(|| Error::not_found("snapshot", id))
}

/// The snapshots of a project, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection, project: &str) -> Result<Vec<SnapshotRow>> {
    let sql = format!("SELECT {COLUMNS} FROM snapshot WHERE project_id = ? ORDER BY rowid");
    many(connection, &sql, [project], SnapshotRow::read)
}

/// The snapshots of a branch, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn of_source(connection: &Connection, project: &str, source: &str) -> Result<Vec<SnapshotRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshot WHERE project_id = ? AND source_branch_id = ? ORDER BY rowid"
    );
    many(connection, &sql, [project, source], SnapshotRow::read)
}

/// The snapshot whose data the store calls `data`.
///
/// # Errors
/// Those of SQLite.
pub fn of_data(connection: &Connection, project: &str, data: &str) -> Result<Option<SnapshotRow>> {
    let sql = format!("SELECT {COLUMNS} FROM snapshot WHERE project_id = ? AND store_id = ?");
    one(connection, &sql, [project, data], SnapshotRow::read)
}

/// Snapshots of usable projects that expired before `now_us`.
///
/// # Errors
/// Those of SQLite.
pub fn due(connection: &Connection, now_us: i64) -> Result<Vec<SnapshotRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshot WHERE expires_us <= ? \
         AND +project_id IN (SELECT id FROM project WHERE state = 'ready')"
    );
    many(connection, &sql, [now_us], SnapshotRow::read)
}

/// Removes the row and all that belongs to it; false if it was not there.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, project: &str, id: &str) -> Result<bool> {
    Ok(run(connection, "DELETE FROM snapshot WHERE project_id = ? AND id = ?", [project, id])? > 0)
}

#[cfg(test)]
pub mod tests {
    use super::super::{Metadata, branch, project, quarantine, role, secret, tests};
    use super::*;
    use crate::error::Kind;

    /// A snapshot row with nothing special in it.
    pub fn snapshot_row(id: &str, name: &str) -> SnapshotRow {
        SnapshotRow {
            id: id.to_owned(),
            project_id: "p".to_owned(),
            store_id: format!("br-of-{id}"),
            name: name.to_owned(),
            slug: None,
            source_branch_id: "br-a-a-a".to_owned(),
            history_id: None,
            lsn: "0/9".to_owned(),
            time_us: None,
            manual: true,
            full_bytes: Some(5),
            diff_bytes: None,
            expires_us: None,
            created_us: 1,
            updated_us: 1,
        }
    }

    fn metadata(dir: &tempfile::TempDir) -> Metadata {
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        metadata
            .write(|change| {
                project::put(change, &tests::project_row("p", project::READY))?;
                branch::insert(change, &tests::branch_row("br-a-a-a", "main"))?;
                let secret = secret::Secret { password: "npg_x".to_owned(), verifier: "SCRAM-x".to_owned() };
                role::insert_role(change, "br-a-a-a", "owner", &secret, 1)?;
                role::insert_database(change, "br-a-a-a", "db", "owner", 1)?;
                insert(change, &snapshot_row("snap-a", "one"))?;
                role::inherit(change, "br-a-a-a", "snap-a", types::Lsn::from_raw(9).unwrap())
            })
            .unwrap();
        metadata
    }

    fn left(connection: &Connection) -> (i64, i64) {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            one(connection, &sql, [], |row| row.get::<_, i64>(0)).unwrap().unwrap()
        };
        (count("role"), count("database"))
    }

    #[test]
    fn its_roles_stay_when_its_source_goes_and_go_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                branch::remove(change, "br-a-a-a")?;
                assert_eq!(left(change), (1, 1));
                assert_eq!(role::roles(change, "snap-a")?[0].password.as_deref(), Some("npg_x"));
                assert!(remove(change, "p", "snap-a")? && !remove(change, "p", "snap-a")?);
                assert_eq!(left(change), (0, 0));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_made_of_one_is_put_to_rest_though_it_has_no_parent() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let row = tests::branch_row("br-b-b-b", "look");
        metadata
            .write(|change| {
                branch::insert(
                    change,
                    &branch::BranchRow { restored_from: Some("snap-a".to_owned()), ..row },
                )?;
                assert!(quarantine::is_due(change, "br-b-b-b")? && !quarantine::is_due(change, "br-a-a-a")?);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn all_of_it_goes_with_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                project::remove(change, "p")?;
                assert_eq!(left(change), (0, 0));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn names_and_slugs_are_taken_once_and_only_what_has_expired_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                assert_eq!(insert(change, &snapshot_row("snap-b", "one")).unwrap_err().kind, Kind::Conflict);
                let slug = |id: &str, name: &str| SnapshotRow {
                    slug: Some("s".to_owned()),
                    expires_us: Some(50),
                    ..snapshot_row(id, name)
                };
                insert(change, &slug("snap-b", "two"))?;
                assert_eq!(insert(change, &slug("snap-c", "three")).unwrap_err().kind, Kind::Conflict);
                assert_eq!(due(change, 49)?.len(), 0);
                assert_eq!(due(change, 50)?[0].id, "snap-b");
                Ok(())
            })
            .unwrap();
    }
}
