//! Moments of a branch: what a request names, the record boundary that it means, and data that begins there.
//!
//! What must hold: every commit that a client saw return before its request is below the head that is found for it.
//!
//! Not here: whose history a moment is in (`history`), rows (`create`, `restore`).

use std::time::Instant;

use store::{BranchPoint, StoreError};
use types::{BranchId, Lsn, PgTime};

use crate::clock;
use crate::control::Control;
use crate::control::branch::history::{self, check_schema_only};
use crate::error::{Error, Kind, Result};
use crate::failpoint::{self, Step};
use crate::fleet::flushed::flushed_lsn;
use crate::fleet::hidden::{Hidden, start_hidden};
use crate::limits::{DURABLE_LOOK, DURABLE_WITHIN};
use crate::machine::permits::Permit;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::project;
use crate::names::{self, parse_branch};

/// Where a branch is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At everything committed before the request.
    Head,
    /// At this position, or the record boundary below it.
    Lsn(Lsn),
    /// Right after the last transaction that had ended then.
    Time(PgTime),
}

/// Where a request wants the branch to begin.
///
/// # Errors
/// `Malformed` for text that is neither, or for both.
pub fn parse_at(lsn: Option<&str>, time: Option<&str>) -> Result<At> {
    match (lsn, time) {
        // What a script left empty by mistake must not mean "now".
        (Some(""), _) | (_, Some("")) => {
            Err(Error::malformed("an LSN or a timestamp is empty\nhint: leave the field out for the head"))
        }
        (Some(_), Some(_)) => Err(Error::malformed("give an LSN or a timestamp, not both")),
        (Some(text), None) => {
            let lsn =
                text.parse().map_err(|error: types::ParseLsnError| Error::malformed(error.to_string()))?;
            Ok(At::Lsn(lsn))
        }
        (None, Some(text)) => Ok(At::Time(PgTime::from_unix_us(clock::parse(text)?))),
        (None, None) => Ok(At::Head),
    }
}

/// Makes branch `data` of the store where `at` means on `source` or, before its start, on an ancestor; gives the
/// source as it was then. The caller keeps `data` from being swept until a row names it.
///
/// # Errors
/// `NotFound` if the source is gone, `Busy` while it is being made; those of finding the place.
pub fn fork(
    control: &Control,
    source: &BranchRow,
    at: At,
    data: &BranchId,
) -> Result<(BranchRow, BranchPoint)> {
    control.storage.unborn.check_made(source)?;
    let store = control.storage.store(&source.project_id)?;
    let mut source = source.clone();
    loop {
        let point = resolve(control, &source.project_id, &source, at)?;
        let (now, made) = control.storage.in_tree(&source.project_id, || {
            let now = control.metadata.read(|c| branch::get(c, &source.project_id, &source.id))?;
            let same = now.store_id == source.store_id;
            if same {
                store.create_branch(data, &point.branch, point.lsn)?;
                failpoint::passed(Step::BranchMade);
            }
            Ok((now, same))
        })?;
        if made {
            return Ok((now, point));
        }
        // It was restored meanwhile: the same request means another place now.
        source = now;
    }
}

/// An error of finding a place on `parent`, in which an ancestor that was asked has its name too.
fn explain(control: &Control, error: StoreError, parent: &BranchRow) -> Error {
    let ancestor = match &error {
        StoreError::BeforeStart { branch, .. } | StoreError::BeforeHistory { branch, .. } => {
            let find = |c: &rusqlite::Connection| branch::of_data(c, &parent.project_id, branch.as_str());
            // Without its name the answer has its id.
            control.metadata.read(find).ok().flatten()
        }
        _ => None,
    };
    let error = name_branch(error, parent);
    match ancestor {
        Some(ancestor) => rename(error, &ancestor),
        None => error,
    }
}

/// The record boundary that `at` means on `parent`, with everything in the store that it needs.
fn resolve(control: &Control, project: &str, parent: &BranchRow, at: At) -> Result<BranchPoint> {
    let store = control.storage.store(project)?;
    let id = parse_branch(&parent.store_id)?;
    let explain = |error: StoreError| explain(control, error, parent);
    let catch_up = || -> Result<Option<Lsn>> {
        let flushed = flushed_lsn(&control.fleet, parent)?;
        if let Some(flushed) = flushed {
            wait_durable(control, &store, &id, flushed).map_err(|error| rename(error, parent))?;
        }
        Ok(flushed)
    };
    match at {
        At::Head => {
            let upto = match catch_up()? {
                Some(flushed) => flushed,
                // Not what could be read of it: less than that is not the head.
                None => store.log_end(&id).map_err(explain)?,
            };
            store.resolve_lsn(&id, upto).map_err(explain)
        }
        At::Lsn(lsn) => match store.resolve_lsn(&id, lsn) {
            Err(StoreError::Ahead { .. }) => {
                catch_up()?;
                store.resolve_lsn(&id, lsn).map_err(explain)
            }
            found => found.map_err(explain),
        },
        At::Time(time) => {
            let now = PgTime::from_unix_us(clock::now_us());
            if time > now {
                let hint = "hint: leave out parent_timestamp to branch from the head";
                let text = format!(
                    "{} is in the future, now is {}\n{hint}",
                    clock::show_pg(time),
                    clock::show_pg(now)
                );
                return Err(Error::refused("TIME_IN_FUTURE", text));
            }
            check_history(control, project, parent, time)?;
            check_schema_only(control, parent, time)?;
            catch_up()?;
            store.resolve_time(&id, time).map_err(explain)
        }
    }
}

/// Waits until the store holds the parent's WAL up to `upto`. A store that cannot grow says so at once.
///
/// # Errors
/// `DiskFull` if it is full, `Unavailable` if it takes too long.
pub fn wait_durable(control: &Control, store: &store::Project, id: &BranchId, upto: Lsn) -> Result<()> {
    let deadline = Instant::now() + DURABLE_WITHIN;
    loop {
        match store.wait_durable(id, upto, DURABLE_LOOK) {
            Err(StoreError::Timeout { .. }) if control.storage.is_full() => {
                return Err(Error::disk_full(format!("the store of branch {id} cannot take its latest WAL")));
            }
            Err(StoreError::Timeout { .. }) if Instant::now() < deadline => {}
            result => return result.map_err(Error::from),
        }
    }
}

/// Checks that `time` is not before the project.
fn check_history(control: &Control, project: &str, parent: &BranchRow, time: PgTime) -> Result<()> {
    let project = control.metadata.read(|connection| project::get(connection, project))?;
    if time.unix_us() >= project.created_us {
        return Ok(());
    }
    Err(history::before_history(&parent.name, time, project.created_us))
}

/// Removes data that no row came to name.
pub fn discard(control: &Control, project: &str, data: &str) {
    let removed =
        control.storage.store(project).and_then(|store| Ok(store.delete_branch(&parse_branch(data)?)?));
    failpoint::passed(Step::BranchRemoved);
    if let Err(error) = removed {
        tracing::error!(project, data, %error, "cannot undo a branch; the next start will");
    }
}

/// Starts a hidden endpoint on what `parent` is at `at`.
///
/// # Errors
/// Those of creating a branch, and of starting an endpoint; `Unavailable` while the server is being stopped.
pub fn hidden_at<'a>(control: &'a Control, parent: &BranchRow, at: At, permit: Permit) -> Result<Hidden<'a>> {
    let data = parse_branch(&names::branch_id()?)?;
    let making = control.storage.unborn.make(&data);
    let origin = fork(control, parent, at, &data)?;
    start_hidden(&control.fleet, &data, origin, "{}", (Some(making), permit))
}

/// The store knows branches by id, people by name.
fn name_branch(error: StoreError, branch: &BranchRow) -> Error {
    rename(error.into(), branch)
}

fn rename(mut error: Error, branch: &BranchRow) -> Error {
    if error.kind != Kind::NotFound {
        error.message = error.message.replace(&branch.store_id, &branch.name);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_begins_at_one_place() {
        assert_eq!(parse_at(None, None).unwrap(), At::Head);
        assert_eq!(parse_at(Some(""), None).unwrap_err().kind, Kind::Malformed);
        assert_eq!(parse_at(None, Some("")).unwrap_err().kind, Kind::Malformed);
        assert_eq!(parse_at(Some("0/16B3748"), Some("")).unwrap_err().kind, Kind::Malformed);
        assert!(matches!(parse_at(Some("0/16B3748"), None).unwrap(), At::Lsn(_)));
        assert!(matches!(parse_at(None, Some("2026-03-01T14:03:07Z")).unwrap(), At::Time(_)));
        assert_eq!(parse_at(Some("0/1"), Some("2026-03-01T14:03:07Z")).unwrap_err().kind, Kind::Malformed);
        assert_eq!(parse_at(Some("rubbish"), None).unwrap_err().kind, Kind::Malformed);
        assert_eq!(parse_at(None, Some("rubbish")).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn errors_name_the_branch_as_people_do() {
        let row = crate::metadata::tests::branch_row("br-a-b-c", "main");
        let at = |raw| Lsn::from_raw(raw).unwrap();
        let ahead = StoreError::Ahead { branch: "br-a-b-c".parse().unwrap(), asked: at(9), head: at(5) };
        let error = name_branch(ahead, &row);
        assert!(
            error.message.starts_with("0/9 is ahead of branch main, which ends at 0/5"),
            "{}",
            error.message
        );
    }
}
