//! Schedules: snapshots of a branch, and branches of a template, made again and again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::branch::Branch;
use crate::endpoint::BranchEndpointCreate;
use crate::operation::Operation;

/// How often a backup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupFrequency {
    /// At every full hour.
    Hourly,
    /// Every day at `hour`.
    Daily,
    /// Every week on `day`, 1 for Monday to 7 for Sunday, at `hour`.
    Weekly,
    /// Every month on `day` at `hour`.
    Monthly,
    /// Every year in `month` on `day` at `hour`.
    Yearly,
}

/// One line of a backup schedule. Times are UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupScheduleItem {
    /// How often.
    pub frequency: BackupFrequency,
    /// Hour, 0 to 23; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<u8>,
    /// Day of the week, 1 to 7, or of the month, 1 to 31; 1 if left out. A month that lacks it is left out, except
    /// that 31 is the last day of every month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u8>,
    /// Month, 1 to 12; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<u8>,
    /// How long each backup is kept, at least an hour; for ever if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<i64>,
}

/// Snapshots that are made of a branch by themselves; none if `schedule` is empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BackupSchedule {
    /// When, and for how long they are kept.
    pub schedule: Vec<BackupScheduleItem>,
}

/// What a schedule makes at each run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BranchTemplate {
    /// Name of the branch, that of the schedule if left out. The one of the run before has it until the new one is
    /// made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The branch to make it from; the default branch if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// How long before the planned time it begins in the parent's history; at the parent's head if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// Where in the parent's log to begin, always the same; not together with `lag_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_lsn: Option<String>,
    /// How long after its run it is deleted by itself, if no later run disposed of it; never if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// Its endpoints, which say how much compute it gets; one `read_write` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<BranchEndpointCreate>>,
    /// SQL to run on it, as the owner of the database, before anybody connects. If it fails, there is no new branch.
    /// What it changes is still in the branch's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Where to run that; in the first database if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_name: Option<String>,
}

/// Body of `POST /projects/{project_id}/branch_schedules`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchScheduleCreateRequest {
    /// The schedule wanted.
    pub branch_schedule: BranchScheduleCreate,
}

/// What a new schedule should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchScheduleCreate {
    /// Its name, 1 to 256 characters, unique in the project.
    pub name: String,
    /// When it runs: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// Where that time is told, like `Europe/Berlin`; UTC if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it makes.
    #[serde(default)]
    pub template: BranchTemplate,
}

/// A schedule that makes a branch at each run and disposes of the one before.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchSchedule {
    /// Its id: `sched-calm-river-8q2k5x1a`.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// Its name.
    pub name: String,
    /// When it runs.
    pub cron: String,
    /// Where that time is told; absent for UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it makes.
    pub template: BranchTemplate,
    /// When it runs next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<String>,
    /// When it last ran, well or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<String>,
    /// The branch it made last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_id: Option<String>,
    /// Why its last run made nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Answer that holds one schedule.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchScheduleResponse {
    /// The schedule.
    pub branch_schedule: BranchSchedule,
}

/// Schedules, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchScheduleList {
    /// The schedules.
    pub branch_schedules: Vec<BranchSchedule>,
}

/// Answer of `POST /projects/{project_id}/branch_schedules/{schedule_id}/run`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchScheduleRun {
    /// The branch it made.
    pub branch: Branch,
    /// What was done.
    pub operations: Vec<Operation>,
}
