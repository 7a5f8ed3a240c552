//! Routes of backup schedules and branch schedules.

use api::schedule::{
    BackupSchedule, BranchSchedule, BranchScheduleCreateRequest, BranchScheduleList, BranchScheduleResponse,
    BranchScheduleRun,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use super::view;
use crate::clock::{now_us, show};
use crate::control::schedule::backups::{backup_schedule, set_backup_schedule};
use crate::control::schedule::branches::{
    create_branch_schedule, delete_branch_schedule, run_schedule, template,
};
use crate::control::schedule::timetable::Timetable;
use crate::error::Result;
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::project;
use crate::metadata::schedule::{self, ScheduleRow};

fn shown(row: &ScheduleRow) -> Result<BranchSchedule> {
    let timetable = Timetable::parse(&row.cron, row.time_zone.as_deref())?;
    Ok(BranchSchedule {
        id: row.id.clone(),
        project_id: row.project_id.clone(),
        name: row.name.clone(),
        cron: row.cron.clone(),
        time_zone: row.time_zone.clone(),
        template: template(row)?,
        next_run_at: timetable.next(now_us()).map(show),
        last_run_at: row.last_run_us.map(show),
        branch_id: row.branch_id.clone(),
        last_error: row.last_error.clone(),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    })
}

/// `GET /projects/{project_id}/branches/{branch_id}/backup_schedule`.
pub async fn get_backups(
    State(context): State<Context>,
    Path((project, branch)): Path<(String, String)>,
) -> Response {
    answer::ok(move || backup_schedule(&context.control, &project, &branch)).await
}

/// `PUT /projects/{project_id}/branches/{branch_id}/backup_schedule`.
pub async fn set_backups(
    State(context): State<Context>,
    Path((project, branch)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let wanted: BackupSchedule = answer::body(&bytes)?;
        set_backup_schedule(&context.control, &project, &branch, &wanted)?;
        backup_schedule(&context.control, &project, &branch)
    })
    .await
}

/// `GET /projects/{project_id}/branch_schedules`.
pub async fn list(State(context): State<Context>, Path(project): Path<String>) -> Response {
    answer::ok(move || {
        let rows = context.control.metadata.read(|connection| {
            project::get(connection, &project)?;
            schedule::of_project(connection, &project)
        })?;
        Ok(BranchScheduleList { branch_schedules: rows.iter().map(shown).collect::<Result<_>>()? })
    })
    .await
}

/// `POST /projects/{project_id}/branch_schedules`.
pub async fn create(State(context): State<Context>, Path(project): Path<String>, bytes: Bytes) -> Response {
    answer::created(move || {
        let request: BranchScheduleCreateRequest = answer::body(&bytes)?;
        let row = create_branch_schedule(&context.control, &project, &request.branch_schedule)?;
        Ok(BranchScheduleResponse { branch_schedule: shown(&row)? })
    })
    .await
}

/// `GET /projects/{project_id}/branch_schedules/{schedule_id}`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let row = context.control.metadata.read(|connection| schedule::get(connection, &project, &id))?;
        Ok(BranchScheduleResponse { branch_schedule: shown(&row)? })
    })
    .await
}

/// `DELETE /projects/{project_id}/branch_schedules/{schedule_id}`; the branch it made last stays.
pub async fn delete(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let row = delete_branch_schedule(&context.control, &project, &id)?;
        Ok(BranchScheduleResponse { branch_schedule: shown(&row)? })
    })
    .await
}

/// `POST /projects/{project_id}/branch_schedules/{schedule_id}/run`.
pub async fn run(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let control = &context.control;
        let row = control.metadata.read(|connection| schedule::get(connection, &project, &id))?;
        let (branch, operations) = run_schedule(control, &row, None)?;
        Ok(BranchScheduleRun {
            branch: view::branch_now(control, &branch)?,
            operations: view::operations(&operations),
        })
    })
    .await
}
