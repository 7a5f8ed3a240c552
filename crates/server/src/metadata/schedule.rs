//! Rows of schedules: what is to be made again and again, and which planned run was the last.
//!
//! What must hold: `planned_us` moves in the transaction that writes what the run made, and only forward, so that a
//! run is never made twice; after a crash before it the run is still due.

use rusqlite::Connection;

use super::{Columns, many, one, project, run};
use crate::error::{Error, Result};

row! {
    /// A schedule of branches.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ScheduleRow in "branch_schedule" {
        /// Its id: `sched-calm-river-8q2k5x1a`.
        pub id: String,
        /// Its project.
        pub project_id: String,
        /// Its name, unique in the project.
        pub name: String,
        /// When it runs.
        pub cron: String,
        /// Where that time is told; UTC if `None`.
        pub time_zone: Option<String>,
        /// What it makes: JSON of the request.
        pub template: String,
        /// The planned time up to which nothing is due any more.
        pub planned_us: i64,
        /// The branch it made last.
        pub branch_id: Option<String>,
        /// When it last ran, well or not.
        pub last_run_us: Option<i64>,
        /// Why its last run made nothing.
        pub last_error: Option<String>,
        /// When it was made.
        pub created_us: i64,
        /// When it was last changed.
        pub updated_us: i64,
    }
}

/// One line of the backup schedule of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRow {
    /// Its project.
    pub project_id: String,
    /// The branch whose snapshots it makes.
    pub branch_id: String,
    /// Its place in the schedule.
    pub position: i64,
    /// JSON of the line.
    pub line: String,
    /// The planned time up to which nothing is due any more.
    pub planned_us: i64,
}

const COLUMNS: &str = ScheduleRow::COLUMNS;

/// Writes a new row.
///
/// # Errors
/// `Conflict` if the name is taken.
pub fn insert(connection: &Connection, row: &ScheduleRow) -> Result<()> {
    let taken = "SELECT 1 FROM branch_schedule WHERE project_id = ? AND name = ?";
    if one(connection, taken, [&row.project_id, &row.name], |_| Ok(()))?.is_some() {
        return Err(Error::conflict(format!(
            "schedule with the provided name {:?} already exists",
            row.name
        )));
    }
    run(connection, ScheduleRow::INSERT, &*row.values()).map(|_| ())
}

/// One schedule.
///
/// # Errors
/// `NotFound` if there is none.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<ScheduleRow> {
    project::check_not_deleted(connection, project)?;
    let sql = format!("SELECT {COLUMNS} FROM branch_schedule WHERE project_id = ? AND id = ?");
    one(connection, &sql, [project, id], ScheduleRow::read)?
        .ok_or_else(|| Error::not_found("branch schedule", id))
}

/// The schedules of a project, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn of_project(connection: &Connection, project: &str) -> Result<Vec<ScheduleRow>> {
    let sql = format!("SELECT {COLUMNS} FROM branch_schedule WHERE project_id = ? ORDER BY rowid");
    many(connection, &sql, [project], ScheduleRow::read)
}

/// The schedules of all usable projects.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<ScheduleRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM branch_schedule \
         WHERE project_id IN (SELECT id FROM project WHERE state = 'ready') ORDER BY rowid"
    );
    many(connection, &sql, [], ScheduleRow::read)
}

/// Removes the row; what it made stays.
///
/// # Errors
/// Those of SQLite.
pub fn remove(connection: &Connection, id: &str) -> Result<()> {
    run(connection, "DELETE FROM branch_schedule WHERE id = ?", [id]).map(|_| ())
}

/// Notes that the run planned for `planned_us`, or one that nobody planned, made `branch`.
///
/// # Errors
/// `NotFound` if the schedule is gone, `Conflict` if that run was made before.
pub fn set_made(
    connection: &Connection,
    row: &ScheduleRow,
    planned_us: Option<i64>,
    branch: &str,
    now_us: i64,
) -> Result<()> {
    take(connection, row, planned_us)?;
    let sql = "UPDATE branch_schedule SET branch_id = ?2, last_run_us = ?3, last_error = NULL, updated_us = ?3 \
               WHERE id = ?1";
    run(connection, sql, (&row.id, branch, now_us))?;
    let sql = "INSERT INTO scheduled_branch (schedule_id, branch_id) VALUES (?, ?)";
    run(connection, sql, [&row.id, branch]).map(|_| ())
}

/// Notes that a run made nothing. It is not tried again.
///
/// # Errors
/// As [`set_made`].
pub fn set_failed(
    connection: &Connection,
    row: &ScheduleRow,
    planned_us: Option<i64>,
    error: &str,
    now_us: i64,
) -> Result<()> {
    take(connection, row, planned_us)?;
    let sql = "UPDATE branch_schedule SET last_run_us = ?2, last_error = ?3, updated_us = ?2 WHERE id = ?1";
    run(connection, sql, (&row.id, now_us, error)).map(|_| ())
}

/// Takes a planned run, which nobody else gets after.
fn take(connection: &Connection, row: &ScheduleRow, planned_us: Option<i64>) -> Result<()> {
    get(connection, &row.project_id, &row.id)?;
    let Some(planned_us) = planned_us else { return Ok(()) };
    let sql = "UPDATE branch_schedule SET planned_us = ?2 WHERE id = ?1 AND planned_us < ?2";
    match run(connection, sql, (&row.id, planned_us))? {
        0 => Err(Error::conflict("this run was made before")),
        _ => Ok(()),
    }
}

/// Ids of the branches a schedule made and has not disposed of, the last one included.
///
/// # Errors
/// Those of SQLite.
pub fn made(connection: &Connection, id: &str) -> Result<Vec<String>> {
    let sql = "SELECT branch_id FROM scheduled_branch WHERE schedule_id = ? ORDER BY rowid";
    many(connection, sql, [id], |row| row.get(0))
}

/// Lets a branch go: it was disposed of, or somebody needs it.
///
/// # Errors
/// Those of SQLite.
pub fn forget_made(connection: &Connection, branch: &str) -> Result<()> {
    run(connection, "DELETE FROM scheduled_branch WHERE branch_id = ?", [branch]).map(|_| ())
}

/// The lines of the backup schedule of a branch.
///
/// # Errors
/// Those of SQLite.
pub fn backups(connection: &Connection, branch: &str) -> Result<Vec<BackupRow>> {
    let sql = format!("{BACKUPS} AND b.id = ? ORDER BY s.position");
    many(connection, &sql, [branch], read_backup)
}

/// The lines of the backup schedules of all live branches of usable projects.
///
/// # Errors
/// Those of SQLite.
pub fn all_backups(connection: &Connection) -> Result<Vec<BackupRow>> {
    let sql = format!(
        "{BACKUPS} AND b.deleted_us IS NULL AND b.project_id IN (SELECT id FROM project WHERE state = 'ready') \
         ORDER BY s.rowid"
    );
    many(connection, &sql, [], read_backup)
}

const BACKUPS: &str = "SELECT b.project_id, s.branch_id, s.position, s.line, s.planned_us \
                       FROM backup_schedule s, branch b WHERE b.id = s.branch_id";

fn read_backup(row: &rusqlite::Row<'_>) -> rusqlite::Result<BackupRow> {
    Ok(BackupRow {
        project_id: row.get(0)?,
        branch_id: row.get(1)?,
        position: row.get(2)?,
        line: row.get(3)?,
        planned_us: row.get(4)?,
    })
}

/// Gives a branch another backup schedule, nothing of which is due before `now_us`.
///
/// # Errors
/// Those of SQLite.
pub fn set_backups(connection: &Connection, branch: &str, lines: &[String], now_us: i64) -> Result<()> {
    run(connection, "DELETE FROM backup_schedule WHERE branch_id = ?", [branch])?;
    let sql = "INSERT INTO backup_schedule (branch_id, position, line, planned_us) VALUES (?, ?, ?, ?)";
    for (position, line) in (0_i64..).zip(lines) {
        run(connection, sql, (branch, position, line, now_us))?;
    }
    Ok(())
}

/// Nothing that a branch's backup schedule planned up to `now_us` is due any more: the branch was deleted then.
///
/// # Errors
/// Those of SQLite.
pub fn resume_branch(connection: &Connection, branch: &str, now_us: i64) -> Result<()> {
    let sql = "UPDATE backup_schedule SET planned_us = max(planned_us, ?2) WHERE branch_id = ?1";
    run(connection, sql, (branch, now_us)).map(|_| ())
}

/// Nothing that any schedule of a project planned up to `now_us` is due any more: the project was deleted then.
///
/// # Errors
/// Those of SQLite.
pub fn resume_project(connection: &Connection, project: &str, now_us: i64) -> Result<()> {
    let backups = "UPDATE backup_schedule SET planned_us = max(planned_us, ?2) \
                   WHERE branch_id IN (SELECT id FROM branch WHERE project_id = ?1)";
    run(connection, backups, (project, now_us))?;
    let branches = "UPDATE branch_schedule SET planned_us = max(planned_us, ?2) WHERE project_id = ?1";
    run(connection, branches, (project, now_us)).map(|_| ())
}

/// Takes the backup planned for `planned_us`, which nobody else gets after.
///
/// # Errors
/// `Conflict` if it was made before, or the schedule is another one now.
pub fn take_backup(connection: &Connection, row: &BackupRow, planned_us: i64) -> Result<()> {
    let sql = "UPDATE backup_schedule SET planned_us = ?4 \
               WHERE branch_id = ?1 AND position = ?2 AND line = ?3 AND planned_us < ?4";
    match run(connection, sql, (&row.branch_id, row.position, &row.line, planned_us))? {
        0 => Err(Error::conflict("this backup was made before")),
        _ => Ok(()),
    }
}

/// Lets schedules go on with the branch `to`, which took the place of `from`. Backup schedules swap branches, as
/// endpoints do.
///
/// # Errors
/// Those of SQLite.
pub fn move_place(connection: &Connection, from: &str, to: &str) -> Result<()> {
    // Lines of both branches have the same positions, which no two lines of one branch may have at a time.
    let aside = "UPDATE backup_schedule SET position = -1 - position WHERE branch_id = ?1";
    run(connection, aside, [to])?;
    run(connection, "UPDATE backup_schedule SET branch_id = ?2 WHERE branch_id = ?1", [from, to])?;
    let back = "UPDATE backup_schedule SET branch_id = ?1, position = -1 - position \
                WHERE branch_id = ?2 AND position < 0";
    run(connection, back, [from, to])?;
    let sql = "UPDATE branch_schedule SET template = json_set(template, '$.parent_id', ?2) \
               WHERE json_extract(template, '$.parent_id') = ?1";
    run(connection, sql, [from, to]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::{Metadata, branch, project, tests};
    use super::*;
    use crate::error::Kind;

    fn row() -> ScheduleRow {
        ScheduleRow {
            id: "sched-a".to_owned(),
            project_id: "p".to_owned(),
            name: "nightly".to_owned(),
            cron: "0 3 * * *".to_owned(),
            time_zone: None,
            template: r#"{"parent_id": "br-a-a-a"}"#.to_owned(),
            planned_us: 10,
            branch_id: None,
            last_run_us: None,
            last_error: None,
            created_us: 1,
            updated_us: 1,
        }
    }

    fn metadata(dir: &tempfile::TempDir) -> Metadata {
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        metadata
            .write(|change| {
                project::put(change, &tests::project_row("p", project::READY))?;
                for (id, name) in [("br-a-a-a", "main"), ("br-b-b-b", "made"), ("br-c-c-c", "again")] {
                    branch::insert(change, &tests::branch_row(id, name))?;
                }
                insert(change, &row())
            })
            .unwrap();
        metadata
    }

    #[test]
    fn a_planned_run_is_taken_once_and_all_it_wrote_goes_with_the_second_try() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let run = |planned_us, branch: &str| {
            metadata.write(|change| set_made(change, &row(), planned_us, branch, 5))
        };
        run(Some(20), "br-b-b-b").unwrap();
        assert_eq!(run(Some(20), "br-c-c-c").unwrap_err().kind, Kind::Conflict);
        assert_eq!(run(Some(15), "br-c-c-c").unwrap_err().kind, Kind::Conflict);
        assert_eq!(metadata.read(|c| made(c, "sched-a")).unwrap(), ["br-b-b-b"]);
        // One by hand moves no plan.
        run(None, "br-c-c-c").unwrap();
        let now = metadata.read(|c| get(c, "p", "sched-a")).unwrap();
        assert_eq!((now.planned_us, now.branch_id.as_deref()), (20, Some("br-c-c-c")));
        assert_eq!(
            metadata.write(|c| set_failed(c, &row(), Some(20), "no", 6)).unwrap_err().kind,
            Kind::Conflict
        );
        metadata.write(|c| set_failed(c, &row(), Some(21), "no", 6)).unwrap();
        assert_eq!(metadata.read(|c| get(c, "p", "sched-a")).unwrap().last_error.as_deref(), Some("no"));
    }

    #[test]
    fn a_backup_is_taken_once_and_not_for_a_schedule_that_changed() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                set_backups(change, "br-a-a-a", &["a".to_owned(), "b".to_owned()], 10)?;
                let rows = backups(change, "br-a-a-a")?;
                take_backup(change, &rows[1], 20)?;
                assert_eq!(take_backup(change, &rows[1], 20).unwrap_err().kind, Kind::Conflict);
                take_backup(change, &rows[0], 20)?;
                set_backups(change, "br-a-a-a", &["c".to_owned()], 30)?;
                assert_eq!(take_backup(change, &rows[0], 40).unwrap_err().kind, Kind::Conflict);
                assert_eq!(all_backups(change)?.len(), 1);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_was_planned_for_the_time_of_a_deletion_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                set_backups(change, "br-a-a-a", &["a".to_owned()], 10)?;
                set_backups(change, "br-b-b-b", &["a".to_owned()], 10)?;
                resume_branch(change, "br-a-a-a", 20)?;
                resume_branch(change, "br-a-a-a", 15)?;
                let planned = |change, branch: &str| Ok::<_, Error>(backups(change, branch)?[0].planned_us);
                assert_eq!((planned(change, "br-a-a-a")?, planned(change, "br-b-b-b")?), (20, 10));
                resume_project(change, "p", 30)?;
                assert_eq!((planned(change, "br-a-a-a")?, planned(change, "br-b-b-b")?), (30, 30));
                assert_eq!(get(change, "p", "sched-a")?.planned_us, 30);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn schedules_follow_the_place_of_their_branch() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        metadata
            .write(|change| {
                set_backups(change, "br-a-a-a", &["a".to_owned()], 10)?;
                move_place(change, "br-a-a-a", "br-b-b-b")?;
                assert_eq!((backups(change, "br-a-a-a")?.len(), backups(change, "br-b-b-b")?.len()), (0, 1));
                assert!(get(change, "p", "sched-a")?.template.contains("br-b-b-b"));
                // Both have one.
                set_backups(change, "br-a-a-a", &["b".to_owned(), "c".to_owned()], 10)?;
                move_place(change, "br-a-a-a", "br-b-b-b")?;
                let lines = |id: &str| -> Result<Vec<String>> {
                    Ok(backups(change, id)?.into_iter().map(|row| row.line).collect())
                };
                assert_eq!(
                    (lines("br-a-a-a")?, lines("br-b-b-b")?),
                    (vec!["a".into()], vec!["b".into(), "c".into()])
                );
                Ok(())
            })
            .unwrap();
    }
}
