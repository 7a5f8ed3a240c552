//! Rows of operations: what was done, when, and how it ended.

use rusqlite::{Connection, named_params};

use super::{Columns, many, one, run};
use crate::error::{Error, Result};
use crate::names;

/// Under way; rows are written when an operation has ended, so that it costs one flush to disk (`operations`).
pub const RUNNING: &str = "running";
/// Done.
pub const FINISHED: &str = "finished";
/// Not done.
pub const FAILED: &str = "failed";

/// What was done: our word for it, and the one that Neon's clients know, which may refuse others.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $own:literal as $neon:literal,)+) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $action,)+
        }

        impl Action {
            const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $own,)+
                }
            }
        }

        /// The word that Neon's clients know for an action; they may refuse others.
        pub fn neon_action(action: &str) -> &str {
            match action {
                $($own => $neon,)+
                other => other,
            }
        }
    };
}

actions! {
    /// A project's root branch was made.
    CreateTimeline = "create_timeline" as "create_timeline",
    /// A branch was made.
    CreateBranch = "create_branch" as "create_branch",
    /// An endpoint was started.
    StartCompute = "start_compute" as "start_compute",
    /// An endpoint was stopped.
    SuspendCompute = "suspend_compute" as "suspend_compute",
    /// A branch was deleted.
    DeleteTimeline = "delete_timeline" as "delete_timeline",
    /// Roles or databases were changed.
    ApplyConfig = "apply_config" as "apply_config",
    /// A branch was given other data.
    RestoreBranch = "restore_branch" as "create_timeline",
    /// A deleted branch was brought back.
    RecoverBranch = "recover_branch" as "timeline_unarchive",
    /// Name, protection or expiry of a branch was changed.
    UpdateBranch = "update_branch" as "apply_config",
    /// A branch was made the default one.
    SetDefaultBranch = "set_default_branch" as "apply_config",
    /// A snapshot was made.
    CreateSnapshot = "create_snapshot" as "create_timeline",
    /// A snapshot was deleted.
    DeleteSnapshot = "delete_snapshot" as "delete_timeline",
    /// A branch was made of a snapshot.
    RestoreSnapshot = "restore_snapshot" as "create_branch",
    /// A branch took the place of another.
    FinalizeRestore = "finalize_restore" as "swap_binding_id",
    /// Name or settings of a project were changed.
    UpdateProject = "update_project" as "apply_config",
    /// A project was deleted.
    DeleteProject = "delete_project" as "tenant_detach",
    /// A deleted project was brought back.
    RecoverProject = "recover_project" as "tenant_attach",
    /// What may be set of an endpoint was changed.
    UpdateEndpoint = "update_endpoint" as "apply_config",
    /// Name or expiry of a snapshot was changed.
    UpdateSnapshot = "update_snapshot" as "apply_config",
    /// A branch was given another backup schedule.
    UpdateBackupSchedule = "update_backup_schedule" as "apply_config",
    /// The log of a branch was ended where it could be read up to.
    EndLog = "end_log" as "apply_config",
    /// A schedule of branches was made.
    CreateSchedule = "create_schedule" as "apply_config",
    /// A schedule of branches was deleted.
    DeleteSchedule = "delete_schedule" as "apply_config",
}

row! {
    /// One operation.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OperationRow in "operation" {
        /// Its id, a UUID.
        pub id: String,
        /// Its project.
        pub project_id: String,
        /// The branch it was about.
        pub branch_id: Option<String>,
        /// The endpoint it was about.
        pub endpoint_id: Option<String>,
        /// What was done.
        pub action: String,
        /// `RUNNING`, `FINISHED` or `FAILED`.
        pub status: String,
        /// Why it failed.
        pub error: Option<String>,
        /// What exactly was done, as JSON.
        pub detail: Option<String>,
        /// When it began.
        pub created_us: i64,
        /// When it last changed.
        pub updated_us: i64,
    }
}

impl OperationRow {
    /// An operation that began at `began_us` and is under way.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub fn begun(action: Action, project: &str, branch: &str, began_us: i64) -> Result<Self> {
        let begun = Self::begun_in(action, project, began_us)?;
        Ok(Self { branch_id: Some(branch.to_owned()), ..begun })
    }

    /// The same, about no branch.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub fn begun_in(action: Action, project: &str, began_us: i64) -> Result<Self> {
        Ok(Self {
            id: names::uuid()?,
            project_id: project.to_owned(),
            branch_id: None,
            endpoint_id: None,
            action: action.as_str().to_owned(),
            status: RUNNING.to_owned(),
            error: None,
            detail: None,
            created_us: began_us,
            updated_us: began_us,
        })
    }

    /// The same, about an endpoint.
    pub fn about_endpoint(mut self, endpoint: &str) -> Self {
        self.endpoint_id = Some(endpoint.to_owned());
        self
    }

    /// The same, ended now, well or not.
    pub fn ended(mut self, failure: Option<&Error>) -> Self {
        self.status = if failure.is_some() { FAILED } else { FINISHED }.to_owned();
        self.error = failure.map(ToString::to_string);
        self.updated_us = crate::clock::now_us();
        self
    }
}

const COLUMNS: &str = OperationRow::COLUMNS;

/// Writes a row, over an older one of the same id.
///
/// # Errors
/// Those of SQLite.
pub fn put(connection: &Connection, row: &OperationRow) -> Result<()> {
    run(connection, OperationRow::PUT, &*row.values()).map(|_| ())
}

/// Forgets operations that ended before `before_us`, and the oldest ones of projects with more than `most`; how many.
///
/// # Errors
/// Those of SQLite.
pub fn prune(connection: &Connection, before_us: i64, most: usize) -> Result<usize> {
    let old = run(connection, "DELETE FROM operation WHERE updated_us < ?", [before_us])?;
    let sql = "DELETE FROM operation WHERE sequence IN (SELECT sequence FROM (SELECT sequence, \
               row_number() OVER (PARTITION BY project_id ORDER BY sequence DESC) AS place FROM operation) \
               WHERE place > ?)";
    Ok(old + run(connection, sql, [i64::try_from(most).unwrap_or(i64::MAX)])?)
}

/// One operation of a project.
///
/// # Errors
/// `NotFound` if there is none.
pub fn get(connection: &Connection, project: &str, id: &str) -> Result<OperationRow> {
    let sql = format!("SELECT {COLUMNS} FROM operation WHERE project_id = ? AND id = ?");
    one(connection, &sql, [project, id], OperationRow::read)?.ok_or_else(|| Error::not_found("operation", id))
}

/// At most `limit` operations of a project, newest first, after the one with id `cursor`.
///
/// # Errors
/// `Malformed` for a cursor that no page gave, or of an operation that is forgotten by now.
pub fn page(connection: &Connection, project: &str, cursor: &str, limit: usize) -> Result<Vec<OperationRow>> {
    let known = "SELECT 1 FROM operation WHERE project_id = ? AND id = ?";
    if !cursor.is_empty() && one(connection, known, [project, cursor], |_| Ok(()))?.is_none() {
        return Err(Error::malformed(format!("{cursor:?} is not the cursor of a page")));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM operation WHERE project_id = :project \
         AND (:cursor = '' OR sequence < (SELECT sequence FROM operation WHERE id = :cursor)) \
         ORDER BY sequence DESC LIMIT :limit"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    many(
        connection,
        &sql,
        named_params! { ":project": project, ":cursor": cursor, ":limit": limit },
        OperationRow::read,
    )
}
