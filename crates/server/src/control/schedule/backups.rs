//! Backup schedules: snapshots that a branch gets by itself.
//!
//! Each line of a schedule is a timetable of its own. The snapshot and the note that its planned time is over are one
//! transaction, so a crash leaves both or neither. One that could not be made is tried again: the next planned time may
//! be a year away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use api::schedule::{BackupFrequency, BackupSchedule, BackupScheduleItem};
use api::snapshot::SnapshotCreate;

use crate::control::Control;
use crate::control::schedule::timetable::Timetable;
use crate::control::snapshot::create::{By, create_snapshot};
use crate::error::{Error, Result};
use crate::limits::{BACKUP_AGAIN_AFTER, BACKUPS_EVERY, RETENTION_MIN_S};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::schedule::{self, BackupRow};
use crate::metadata::{branch, snapshot};
use crate::{clock, failpoint};

/// Backups that failed, by branch and line.
#[derive(Default)]
struct Failed(HashMap<(String, i64), Instant>);

/// The backup schedule of a branch.
///
/// # Errors
/// `NotFound` without such a branch.
pub fn backup_schedule(control: &Control, project: &str, id: &str) -> Result<BackupSchedule> {
    let rows = control.metadata.read(|connection| {
        branch::get(connection, project, id)?;
        schedule::backups(connection, id)
    })?;
    Ok(BackupSchedule { schedule: rows.iter().map(item).collect::<Result<_>>()? })
}

/// Gives a branch another backup schedule.
///
/// # Errors
/// `Malformed` for a line that means nothing, `NotFound` without such a branch.
pub fn set_backup_schedule(
    control: &Control,
    project: &str,
    id: &str,
    wanted: &BackupSchedule,
) -> Result<()> {
    let mut lines = Vec::new();
    for item in &wanted.schedule {
        timetable(item)?;
        if item.retention_seconds.is_some_and(|retention_s| retention_s < RETENTION_MIN_S) {
            return Err(Error::malformed("retention_seconds is at least 3600"));
        }
        lines.push(serde_json::to_string(item).map_err(|error| Error::internal(error.to_string()))?);
    }
    let begun = OperationRow::begun(Action::UpdateBackupSchedule, project, id, clock::now_us())?;
    control.metadata.write(|change| {
        branch::get(change, project, id)?;
        schedule::set_backups(change, id, &lines, clock::now_us())?;
        operation::put(change, &begun.ended(None))
    })
}

/// Makes the backups that are due at `now_us`.
///
/// # Errors
/// Those of SQLite; a backup that cannot be made is logged.
fn make_backups(control: &Control, failed: &mut Failed, now_us: i64) -> Result<()> {
    failed.0.retain(|_, at| at.elapsed() < BACKUP_AGAIN_AFTER);
    for row in control.metadata.read(schedule::all_backups)? {
        let key = (row.branch_id.clone(), row.position);
        if failed.0.contains_key(&key) {
            continue;
        }
        if let Err(error) = make_backup(control, &row, now_us) {
            tracing::warn!(branch = row.branch_id, %error, "backup not made");
            failed.0.insert(key, Instant::now());
        }
    }
    Ok(())
}

fn make_backup(control: &Control, row: &BackupRow, now_us: i64) -> Result<()> {
    let item = item(row)?;
    let Some(planned_us) = timetable(&item)?.due(row.planned_us, now_us) else { return Ok(()) };
    let name = control.metadata.read(|connection| {
        let branch = branch::get(connection, &row.project_id, &row.branch_id)?;
        let name = backup_name(&branch.name, item.frequency, planned_us);
        snapshot::free_name(connection, &row.project_id, &name)
    })?;
    let kept_us = item.retention_seconds.map(|retention_s| retention_s.saturating_mul(1_000_000));
    let request = SnapshotCreate {
        name: Some(name),
        expires_at: kept_us.map(|kept_us| clock::show(now_us.saturating_add(kept_us))),
        ..SnapshotCreate::default()
    };
    let also = |change: &rusqlite::Connection| schedule::take_backup(change, row, planned_us);
    create_snapshot(control, &row.project_id, &row.branch_id, &request, By::Schedule, also).map(|_| ())
}

/// Looks for what is due, until the process ends.
pub fn run(control: &Arc<Control>) {
    let mut failed = Failed::default();
    control.life.again_and_again(
        || std::thread::sleep(BACKUPS_EVERY),
        || {
            let _pass = failpoint::at("backups");
            if let Err(error) = make_backups(control, &mut failed, clock::now_us()) {
                tracing::error!(%error, "cannot look for backups that are due");
            }
        },
    );
}

fn item(row: &BackupRow) -> Result<BackupScheduleItem> {
    serde_json::from_str(&row.line).map_err(|error| Error::internal(error.to_string()))
}

fn backup_name(branch: &str, frequency: BackupFrequency, planned_us: i64) -> String {
    let often = format!("{frequency:?}").to_lowercase();
    // A branch's name may fill the 256 characters that a name may have.
    let branch: String = branch.chars().take(200).collect();
    format!("{branch} {often} {}", clock::show(planned_us))
}

/// What a line plans.
fn timetable(item: &BackupScheduleItem) -> Result<Timetable> {
    let within = |what: &str, value: Option<u8>, range: std::ops::RangeInclusive<u8>| match value {
        None => Ok(*range.start()),
        Some(value) if range.contains(&value) => Ok(value),
        Some(value) => {
            let (from, to) = (range.start(), range.end());
            Err(Error::malformed(format!("{what} is {from} to {to} for this frequency, and not {value}")))
        }
    };
    let hour = within("hour", item.hour, 0..=23)?;
    let month = within("month", item.month, 1..=12)?;
    let last = if item.frequency == BackupFrequency::Weekly { 7 } else { 31 };
    let day = within("day", item.day, 1..=last)?;
    let of_month = if day == 31 { "L".to_owned() } else { day.to_string() };
    let line = match item.frequency {
        BackupFrequency::Hourly => "0 * * * *".to_owned(),
        BackupFrequency::Daily => format!("0 {hour} * * *"),
        BackupFrequency::Weekly => format!("0 {hour} * * {day}"),
        BackupFrequency::Monthly => format!("0 {hour} {of_month} * *"),
        BackupFrequency::Yearly => format!("0 {hour} {of_month} {month} *"),
    };
    Timetable::parse(&line, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{parse, show};
    use crate::error::Kind;

    fn line(frequency: BackupFrequency, hour: u8, day: u8, month: u8) -> BackupScheduleItem {
        let retention_seconds = None;
        BackupScheduleItem {
            frequency,
            hour: Some(hour),
            day: Some(day),
            month: Some(month),
            retention_seconds,
        }
    }

    #[test]
    fn each_frequency_plans_what_its_fields_say() {
        // A Sunday.
        let from = parse("2026-02-01T12:00:00Z").unwrap();
        let next = |item: &BackupScheduleItem| timetable(item).unwrap().next(from).map(show).unwrap();
        assert_eq!(next(&line(BackupFrequency::Hourly, 5, 5, 5)), "2026-02-01T13:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Daily, 5, 5, 5)), "2026-02-02T05:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Weekly, 5, 5, 5)), "2026-02-06T05:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Weekly, 5, 7, 5)), "2026-02-08T05:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Monthly, 5, 31, 5)), "2026-02-28T05:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Monthly, 5, 30, 5)), "2026-03-30T05:00:00Z");
        assert_eq!(next(&line(BackupFrequency::Yearly, 5, 5, 5)), "2026-05-05T05:00:00Z");
    }

    #[test]
    fn what_no_clock_shows_is_refused() {
        let status = |item: &BackupScheduleItem| timetable(item).err().map(|error| error.kind);
        assert_eq!(status(&line(BackupFrequency::Daily, 24, 1, 1)), Some(Kind::Malformed));
        assert_eq!(status(&line(BackupFrequency::Weekly, 1, 8, 1)), Some(Kind::Malformed));
        assert_eq!(status(&line(BackupFrequency::Monthly, 1, 0, 1)), Some(Kind::Malformed));
        assert_eq!(status(&line(BackupFrequency::Yearly, 1, 30, 2)), Some(Kind::Malformed));
    }
}
