//! What a start does before the first client is let in, and the record of it: what a branch inherited is put to rest, and
//! its roles get the passwords that its data does not have.
//!
//! What must hold
//! - A branch is put to rest before its first client, and once: what its user switches on again stays on.
//! - Other data is other inheritance: a restored branch is put to rest again (`restore`).
//!
//! Not here: what is put to rest and how (`compute`), the rows (`metadata::quarantine`, `metadata::password`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use compute::control::{self, Answer, Command, Status};
use compute::{Admission, Passwords, Quarantine};
use rusqlite::Connection;
use types::Lsn;

use crate::clock;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::last_run::not_started;
use crate::fleet::runtime::Runtime;
use crate::limits::{LOOK_WITHIN, SHIPPED_WITHIN};
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{password, quarantine};

/// Who is let in: nobody to a hidden endpoint, everybody to a branch that was put in quarantine once.
///
/// # Errors
/// Those of SQLite.
pub fn admission(fleet: &Fleet, row: &EndpointRow) -> Result<Admission> {
    if fleet.hidden.lock().contains_key(&row.id) {
        return Ok(Admission::Nobody);
    }
    let due = fleet.metadata.read(|connection| quarantine::is_due(connection, &row.branch_id))?;
    Ok(if due { Admission::AfterQuarantine } else { Admission::Everybody })
}

/// The passwords that a start has to set.
///
/// # Errors
/// Those of SQLite.
pub fn due_passwords(fleet: &Fleet, row: &EndpointRow) -> Result<Passwords> {
    if fleet.hidden.lock().contains_key(&row.id) {
        return Ok(Passwords::default());
    }
    fleet.metadata.read(|connection| password::due(connection, &row.branch_id))
}

/// Notes that the passwords that were due on the branch of an endpoint are in its log; false while the store lacks that
/// part of the log. The caller holds its turn.
///
/// # Errors
/// Those of SQLite; then the next look or start tries again.
pub fn note_passwords(fleet: &Fleet, id: &str, status: &Status) -> Result<bool> {
    let Some(since) = &status.passwords_since else { return Ok(true) };
    let since: Lsn = since.parse().map_err(|_| Error::internal(format!("no position: {since}")))?;
    // Noted before the store has it, a log that is lost would leave the branch with the passwords of another.
    let shipped = status.shipped_lsn.as_deref().and_then(|lsn| lsn.parse::<Lsn>().ok());
    if shipped.is_none_or(|shipped| shipped < since) {
        return Ok(false);
    }
    let due_on = fleet.metadata.read(|connection| {
        let Some(row) = endpoint::find(connection, id)? else { return Ok(None) };
        let due = password::due(connection, &row.branch_id)?;
        Ok(Some(row.branch_id).filter(|_| !due.is_empty()))
    })?;
    if let Some(branch) = due_on {
        fleet.metadata.write(|change| password::note_set(change, &branch, since))?;
    }
    Ok(true)
}

/// The same, once the store has that part of the log.
///
/// # Errors
/// The same; `Unavailable` if the store does not get it, `DiskFull` if it is full.
pub fn await_passwords(fleet: &Fleet, id: &str, mut status: Status) -> Result<()> {
    let deadline = Instant::now() + SHIPPED_WITHIN;
    let socket = compute::control_socket(&fleet.dir.endpoint(id));
    while !note_passwords(fleet, id, &status)? {
        if Instant::now() > deadline {
            let text = format!("the store does not get the log of endpoint {id}, which has its passwords");
            return Err(if fleet.storage.is_full() {
                Error::disk_full(text)
            } else {
                Error::unavailable(text)
            });
        }
        // To be asked for the position hurries shipping on.
        let _ = control::ask(&socket, Command::FlushLsn, LOOK_WITHIN);
        match control::ask(&socket, Command::Status, LOOK_WITHIN) {
            Ok(Answer::Status(now)) => status = now,
            answer => {
                return Err(not_started(
                    &fleet.dir.endpoint(id),
                    id,
                    &format!("it got its passwords, and then: {answer:?}"),
                ));
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Keeps what the start of an endpoint put to rest, once.
///
/// # Errors
/// Those of SQLite.
pub fn record_quarantine(fleet: &Fleet, change: &Connection, row: &EndpointRow) -> Result<()> {
    let Some(found) = fleet.endpoints.of(&row.id).observed().quarantine else { return Ok(()) };
    let now_us = clock::now_us();
    let failure = not_at_rest(&found);
    // The next start tries again what this one could not do.
    if failure.is_none() && (!quarantine::note_done(change, &row.branch_id, now_us)? || found.is_empty()) {
        return Ok(());
    }
    tracing::info!(branch = row.branch_id, ?found, "quarantine");
    let mut done = OperationRow::begun(Action::ApplyConfig, &row.project_id, &row.branch_id, now_us)?;
    done.detail = Some(serde_json::json!({ "quarantine": found }).to_string());
    operation::put(change, &done.about_endpoint(&row.id).ended(failure.as_ref()))
}

/// The same, of an endpoint that was started for a server that ended before it could.
pub fn record_adopted(fleet: &Fleet, id: &str, runtime: &Runtime) {
    if runtime.observed().quarantine.is_none() || runtime.quarantine_recorded.swap(true, Ordering::AcqRel) {
        return;
    }
    let recorded = fleet.metadata.write(|change| {
        endpoint::find(change, id)?.map_or(Ok(()), |row| record_quarantine(fleet, change, &row))
    });
    if let Err(error) = recorded {
        runtime.quarantine_recorded.store(false, Ordering::Release);
        tracing::warn!(endpoint = id, %error, "cannot note a quarantine");
    }
}

/// What a quarantine could not do, and what holds instead.
fn not_at_rest(found: &Quarantine) -> Option<Error> {
    let each = found.undone.iter().map(|undone| {
        let place =
            undone.database.as_ref().map_or(String::new(), |database| format!(" in database {database}"));
        format!("{}{place}: {}", undone.what, undone.reason)
    });
    let all: Vec<String> = each.collect();
    let text = format!("not put to rest: {}", all.join("; "));
    let hint = "hint: until that is mended and the endpoint restarted, no subscription runs on the branch, and libraries \
                with workers are not preloaded";
    (!all.is_empty()).then(|| Error::refused("QUARANTINE_NOT_DONE", format!("{text}\n{hint}")))
}
