//! Branch schedules: a branch made of a template at each planned time, in place of the one before.
//!
//! ```text
//!   1. data is made where the template says; its SQL runs there on a hidden endpoint     nobody sees anything
//!   2. one transaction: the planned time is over, the new branch has the name,
//!      the one before has another                                                        now it is there
//!   3. its endpoints start, and what was made before is deleted                          the next pass would, too
//! ```
//!
//! What must hold
//! - A run is made at most once: its planned time is taken in the transaction of step 2, or in the one that notes why
//!   it made nothing. A crash before leaves data that no row names, which is swept, and a run that is still due.
//! - Nobody connects to it before the template's SQL has been over it. Its history still holds what that changed.
//! - That SQL runs as the owner of the database and never as superuser, in no part of its session.
//! - What somebody relies on is not disposed of: a protected branch, or one with children, stays under its other name.
//!
//! Not here: when something is due (`timetable`), snapshots (`backups`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::endpoint::{BranchEndpointCreate, EndpointOptions, EndpointType};
use api::schedule::{BranchScheduleCreate, BranchTemplate};
use parking_lot::Mutex;
use store::BranchPoint;
use types::{Lsn, PgTime};

use crate::clock;
use crate::control::Control;
use crate::control::branch::delete::{How, delete_branch};
use crate::control::branch::expiry::{self, Expiry};
use crate::control::branch::history;
use crate::control::branch::point::{At, discard, fork, hidden_at, parse_at};
use crate::control::catalog::change::{self, know_roles};
use crate::control::endpoint::create::{check_endpoints, insert_endpoints, start_all};
use crate::control::endpoint::options::check_new;
use crate::control::schedule::timetable::Timetable;
use crate::error::{Error, Kind, Result};
use crate::failpoint::{self, Step};
use crate::fleet::hidden::hidden_permit;
use crate::limits::{SCHEDULES_AT_ONCE, SCHEDULES_EVERY, SCHEDULES_OF_PROJECT};
use crate::machine::sql::{Client, SUPERUSER};
use crate::machine::threads;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::EndpointRow;
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::role::{Found, FoundRole, Moment};
use crate::metadata::schedule::{self, ScheduleRow};
use crate::metadata::{catalog, password, project};
use crate::names::{self, parse_branch};
use crate::storage::unborn::Making;

/// Schedules that run, and their projects.
#[derive(Default)]
struct Busy(Mutex<HashMap<String, String>>);

impl Busy {
    /// Notes that a schedule runs, if it does not and there is room for it.
    fn begin(&self, row: &ScheduleRow) -> bool {
        let mut busy = self.0.lock();
        let of_project = busy.values().filter(|project| **project == row.project_id).count();
        if busy.contains_key(&row.id) || busy.len() >= SCHEDULES_AT_ONCE || of_project >= SCHEDULES_OF_PROJECT
        {
            return false;
        }
        busy.insert(row.id.clone(), row.project_id.clone());
        true
    }
}

/// Data of a new branch, which no row names yet.
struct Prepared<'a> {
    data: String,
    source: BranchRow,
    point: BranchPoint,
    ran: Option<Ran>,
    _making: Option<Making<'a>>,
}

/// What SQL of a template made of the catalog.
struct Ran {
    found: Found,
    lsn: Lsn,
    /// Roles that it made, or gave a password to.
    changed: Vec<FoundRole>,
}

/// Makes a schedule, whose first run is the first planned time from now.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict`, `Refused` for one that cannot be.
pub fn create_branch_schedule(
    control: &Control,
    project: &str,
    wanted: &BranchScheduleCreate,
) -> Result<ScheduleRow> {
    names::check_name("schedule", &wanted.name)?;
    Timetable::parse(&wanted.cron, wanted.time_zone.as_deref())?;
    check_template(&wanted.template, &wanted.name)?;
    let template =
        serde_json::to_string(&wanted.template).map_err(|error| Error::internal(error.to_string()))?;
    let now_us = clock::now_us();
    let row = ScheduleRow {
        id: names::schedule_id()?,
        project_id: project.to_owned(),
        name: wanted.name.clone(),
        cron: wanted.cron.clone(),
        time_zone: wanted.time_zone.clone().filter(|zone| !zone.is_empty()),
        template,
        planned_us: now_us,
        branch_id: None,
        last_run_us: None,
        last_error: None,
        created_us: now_us,
        updated_us: now_us,
    };
    let parent = control.metadata.read(|connection| match &wanted.template.parent_id {
        Some(parent) => Ok(parent.clone()),
        None => branch::default(connection, project).map(|row| row.id),
    })?;
    check_new(control, project, Some(&parent), &wanted_endpoints(&wanted.template))?;
    let begun = OperationRow::begun_in(Action::CreateSchedule, project, now_us)?;
    control.metadata.write(|change| {
        project::get(change, project)?;
        if let Some(parent) = &wanted.template.parent_id {
            expiry::check_parent(&branch::get(change, project, parent)?)?;
        }
        schedule::insert(change, &row)?;
        operation::put(change, &begun.ended(None))
    })?;
    Ok(row)
}

/// Removes a schedule; the branch that it made last stays. Its row as it was.
///
/// # Errors
/// `NotFound` if there is none.
pub fn delete_branch_schedule(control: &Control, project: &str, id: &str) -> Result<ScheduleRow> {
    let begun = OperationRow::begun_in(Action::DeleteSchedule, project, clock::now_us())?;
    control.metadata.write(|change| {
        let row = schedule::get(change, project, id)?;
        schedule::remove(change, id)?;
        operation::put(change, &begun.ended(None)).map(|()| row)
    })
}

/// Runs what is due at `now_us`, and disposes of what earlier runs made: each schedule on a thread of its own, so that
/// SQL of one template that takes its time holds up no other project.
///
/// # Errors
/// Those of SQLite; a run that makes nothing is noted in its row.
fn run_schedules(control: &Arc<Control>, busy: &Arc<Busy>, now_us: i64) -> Result<()> {
    for row in control.metadata.read(schedule::all)? {
        let due = Timetable::parse(&row.cron, row.time_zone.as_deref())
            .map(|timetable| timetable.due(row.planned_us, now_us));
        let made = control.metadata.read(|connection| schedule::made(connection, &row.id))?;
        let planned_us = match due {
            Ok(planned_us) if planned_us.is_some() || made.len() > 1 => planned_us,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(schedule = row.id, %error, "it cannot be read");
                continue;
            }
        };
        if !busy.begin(&row) {
            continue;
        }
        let (control, own, id) = (Arc::clone(control), Arc::clone(busy), row.id.clone());
        let started = threads::spawn("branch schedule", move || {
            let _pass = failpoint::at("schedules");
            run_due(&control, &row, planned_us);
            own.0.lock().remove(&row.id);
        });
        if let Err(error) = started {
            busy.0.lock().remove(&id);
            return Err(error);
        }
    }
    Ok(())
}

fn run_due(control: &Control, row: &ScheduleRow, planned_us: Option<i64>) {
    let ran = planned_us.map_or(Ok(()), |_| run_schedule(control, row, planned_us).map(|_| ()));
    if let Err(error) = ran.and_then(|()| dispose(control, row)) {
        tracing::warn!(schedule = row.id, %error, "a run made nothing, or what it made does not run");
    }
}

/// Runs a schedule once: for a planned time, or because somebody asks.
///
/// # Errors
/// Those of creating a branch; what the template's SQL said. They are noted in the row.
pub fn run_schedule(
    control: &Control,
    row: &ScheduleRow,
    planned_us: Option<i64>,
) -> Result<(BranchRow, Vec<OperationRow>)> {
    let began_us = clock::now_us();
    let _held = control.locks.take(&[&row.id])?;
    let begun = OperationRow::begun_in(Action::CreateBranch, &row.project_id, began_us)?;
    let _shown = control.operations.show(&begun);
    let made = prepare(control, row, planned_us.unwrap_or(began_us)).and_then(|prepared| {
        let recorded = record_run(control, row, planned_us, &prepared, &begun);
        recorded.inspect_err(|_| discard(control, &row.project_id, &prepared.data))
    });
    let (branch, endpoints, ended) = made.inspect_err(|error| {
        // The end of the server is no fault of the run; the next one makes it up.
        if control.life.closing.load(Ordering::Acquire) {
            return;
        }
        let failed = begun.clone().ended(Some(error));
        let noted = control.metadata.write(|change| {
            operation::put(change, &failed)?;
            schedule::set_failed(change, row, planned_us, &error.message, clock::now_us())
        });
        if let Err(error) = noted {
            tracing::debug!(schedule = row.id, %error, "not noted");
        }
    })?;
    tracing::info!(schedule = row.id, branch = branch.id, "branch made");
    let mut operations = vec![ended];
    let started = start_all(control, &endpoints).map_err(|error| {
        let text = format!("branch {} is made, but does not run yet: {}", branch.name, error.message);
        Error { message: text, ..error }
    });
    dispose(control, row)?;
    operations.extend(started?);
    Ok((branch, operations))
}

/// Makes the data of a run, and runs the template's SQL on it.
fn prepare<'a>(control: &'a Control, row: &ScheduleRow, planned_us: i64) -> Result<Prepared<'a>> {
    let template = template(row)?;
    let parent = control.metadata.read(|connection| match &template.parent_id {
        Some(parent) => branch::get(connection, &row.project_id, parent),
        None => branch::default(connection, &row.project_id),
    })?;
    expiry::check_parent(&parent)?;
    let at = at(&template, planned_us)?;
    know_roles(control, &parent)?;
    let Some(sql) = template.sql.as_ref().filter(|sql| !sql.trim().is_empty()) else {
        let data = parse_branch(&names::branch_id()?)?;
        let making = control.storage.unborn.make(&data);
        let (source, point) = fork(control, &parent, at, &data)?;
        let data = data.to_string();
        return Ok(Prepared { data, source, point, ran: None, _making: Some(making) });
    };
    let hidden = hidden_at(control, &parent, at, hidden_permit(&control.fleet, &row.project_id)?)?;
    let mut look = hidden.connect_any()?;
    let (_, before) = change::scan(&mut look)?;
    // Not as superuser, not even for a moment: SQL of a key for one project may not reach the system.
    let (database, owner) = whose(&mut look, template.database_name.as_deref())?;
    let mut client = hidden.connect_as(&database, &owner)?;
    client.batch_execute(sql)?;
    drop(client);
    failpoint::tried(Step::TemplateRun)?;
    let ran = Some(ran(&before, &mut look)?);
    drop(look);
    let (source, point) = hidden.origin();
    let (data, making) = hidden.keep()?;
    Ok(Prepared { data, source, point, ran, _making: making })
}

/// The transaction that makes the run.
fn record_run(
    control: &Control,
    schedule: &ScheduleRow,
    planned_us: Option<i64>,
    prepared: &Prepared<'_>,
    begun: &OperationRow,
) -> Result<(BranchRow, Vec<EndpointRow>, OperationRow)> {
    let project = &schedule.project_id;
    let template = template(schedule)?;
    let began_us = begun.created_us;
    let begun = OperationRow { branch_id: Some(prepared.data.clone()), ..begun.clone() };
    let name = template.name.clone().unwrap_or_else(|| schedule.name.clone());
    let row = new_row(prepared, name, &template);
    control.metadata.write_with_secrets(|change, secrets| {
        if let Some(before) = branch::named(change, project, &row.name)? {
            // Only what an earlier run made makes way; for another one, writing the row refuses.
            if schedule::made(change, &schedule.id)?.contains(&before.id) {
                let left = format!("{} until {}", row.name, clock::show(began_us));
                let name = branch::free_name(change, project, &left)?;
                branch::update(change, &BranchRow { name, ..before })?;
            }
        }
        let history = history::of(change, &prepared.source, &prepared.point)?;
        let parent_id = Some(branch::holder(change, &prepared.source)?);
        let row = BranchRow { parent_id, history_id: history.other, ..row.clone() };
        branch::insert(change, &row)?;
        let both = (change, secrets);
        password::begin(both, &history.roles, &row.id, prepared.point.lsn, history.protected)?;
        if let Some(ran) = &prepared.ran {
            password::allow(change, &row.id, &ran.changed)?;
            catalog::take_over(change, &row.id, &ran.found, Moment::At(ran.lsn), row.created_us)?;
        }
        schedule::set_made(change, schedule, planned_us, &row.id, clock::now_us())?;
        let endpoints =
            insert_endpoints(change, &row, row.parent_id.as_deref(), &wanted_endpoints(&template))?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((row, endpoints, ended))
    })
}

/// Deletes what a schedule made before its last run.
///
/// # Errors
/// Those of SQLite; a branch that cannot be deleted is logged.
fn dispose(control: &Control, schedule: &ScheduleRow) -> Result<()> {
    let mut made = control.metadata.read(|connection| schedule::made(connection, &schedule.id))?;
    made.pop();
    for id in &made {
        match delete_branch(control, &schedule.project_id, id, How::default()) {
            // Somebody needs it, or it is gone: either way it is not the schedule's any more.
            Err(error) if error.is_failure() || error.kind == Kind::Busy => {
                tracing::warn!(branch = id, %error, "not disposed of yet");
                continue;
            }
            Err(error) => {
                tracing::warn!(branch = id, %error, "not disposed of, and left alone from now on")
            }
            Ok(_) => {}
        }
        control.metadata.write(|change| schedule::forget_made(change, id))?;
    }
    Ok(())
}

/// What a schedule makes.
///
/// # Errors
/// `Internal` for a row that another version wrote.
pub fn template(row: &ScheduleRow) -> Result<BranchTemplate> {
    serde_json::from_str(&row.template).map_err(|error| Error::internal(error.to_string()))
}

fn check_template(template: &BranchTemplate, schedule: &str) -> Result<()> {
    names::check_name("branch", template.name.as_deref().unwrap_or(schedule))?;
    names::check_id("parent_id", template.parent_id.as_deref())?;
    check_endpoints(&wanted_endpoints(template))?;
    at(template, clock::now_us())?;
    if let Some(ttl_s) = template.ttl_seconds {
        let text = clock::show(Expiry::after(ttl_s, clock::now_us()).at_us);
        expiry::parse(Some(&text), clock::now_us())?;
    }
    Ok(())
}

fn wanted_endpoints(template: &BranchTemplate) -> Vec<BranchEndpointCreate> {
    let one = BranchEndpointCreate { kind: EndpointType::ReadWrite, options: EndpointOptions::default() };
    template.endpoints.clone().unwrap_or_else(|| vec![one])
}

/// Where a run planned for `planned_us` begins.
fn at(template: &BranchTemplate, planned_us: i64) -> Result<At> {
    match (template.lag_seconds, &template.parent_lsn) {
        (Some(_), Some(_)) => Err(Error::malformed("give lag_seconds or parent_lsn, not both")),
        (Some(lag_s), None) if lag_s < 0 => Err(Error::malformed("lag_seconds is not negative")),
        (Some(lag_s), None) => {
            let us = planned_us.saturating_sub(lag_s.saturating_mul(1_000_000));
            Ok(At::Time(PgTime::from_unix_us(us)))
        }
        (None, lsn) => parse_at(lsn.as_deref(), None),
    }
}

/// What the catalog is now that was `before`.
fn ran(before: &Found, client: &mut Client) -> Result<Ran> {
    let (lsn, found) = change::scan(client)?;
    let lsn = lsn.parse().map_err(|_| Error::internal("no flush position"))?;
    let same =
        |it: &&FoundRole| before.roles.iter().any(|old| old.oid == it.oid && old.verifier == it.verifier);
    let changed = found.roles.iter().filter(|it| !same(it)).cloned().collect();
    Ok(Ran { found, lsn, changed })
}

/// The database called `name`, or the first one, and its owner.
fn whose(client: &mut Client, name: Option<&str>) -> Result<(String, String)> {
    let sql = "SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database \
               WHERE NOT datistemplate AND datname <> $1::text AND datname = coalesce($2::text, datname) \
               ORDER BY oid LIMIT 1";
    let found = client.query_opt(sql, &[&SUPERUSER, &name])?;
    let none = || match name {
        Some(name) => Error::not_found("database", name),
        None => Error::refused("NO_DATABASE", "there is no database to run the SQL in"),
    };
    found.map(|row| (row.get(0), row.get(1))).ok_or_else(none)
}

fn new_row(prepared: &Prepared<'_>, name: String, template: &BranchTemplate) -> BranchRow {
    let now_us = clock::now_us();
    let expiry = template.ttl_seconds.map(|ttl_s| Expiry::after(ttl_s, now_us));
    BranchRow {
        parent_lsn: Some(prepared.point.lsn.to_string()),
        parent_time_us: prepared.point.last_commit.map(|(time, _)| time.unix_us()),
        expires_us: expiry.map(|expiry| expiry.at_us),
        ttl_s: expiry.map(|expiry| expiry.ttl_s),
        ..BranchRow::new(&prepared.data, &prepared.source.project_id, name, now_us)
    }
}

/// Looks for what is due, until the process ends.
pub fn run(control: &Arc<Control>) {
    let busy = Arc::new(Busy::default());
    control.life.again_and_again(
        || std::thread::sleep(SCHEDULES_EVERY),
        || {
            if let Err(error) = run_schedules(control, &busy, clock::now_us()) {
                tracing::error!(%error, "cannot look for branches that are due");
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_run_begins_where_its_plan_says_and_not_where_it_was_late() {
        let lagging = BranchTemplate { lag_seconds: Some(3600), ..BranchTemplate::default() };
        let planned_us = clock::parse("2026-03-01T03:00:00Z").unwrap();
        let two = PgTime::from_unix_us(clock::parse("2026-03-01T02:00:00Z").unwrap());
        assert_eq!(at(&lagging, planned_us).unwrap(), At::Time(two));
        assert_eq!(at(&BranchTemplate::default(), planned_us).unwrap(), At::Head);
        let both = BranchTemplate { parent_lsn: Some("0/9".to_owned()), ..lagging };
        assert_eq!(at(&both, planned_us).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn a_template_that_cannot_be_made_is_refused_before_the_night() {
        let refused = |template: &BranchTemplate| check_template(template, "nightly").err().map(|it| it.kind);
        assert_eq!(refused(&BranchTemplate::default()), None);
        let name = Some("br-calm-river-8q2k5x1a".to_owned());
        assert_eq!(refused(&BranchTemplate { name, ..BranchTemplate::default() }), Some(Kind::Malformed));
        for (ttl_s, status) in [(3600, None), (0, Some(Kind::Refused)), (31 * 86_400, Some(Kind::Refused))] {
            let template = BranchTemplate { ttl_seconds: Some(ttl_s), ..BranchTemplate::default() };
            assert_eq!(refused(&template), status, "{ttl_s}");
        }
    }
}
