//! A branch is given other data: the head of its parent, or any moment of any branch.
//!
//! ```text
//!   1. a new branch of the store is made at the moment asked for        nothing has changed yet
//!   2. the endpoint ends; cleanly if what it wrote is kept
//!   3. one transaction: the row names the new data, and a row of its
//!      own names the old data, or none does                             now it has
//!   4. the endpoint starts on what the row names                        the reconciler would, too
//!   5. a sweep removes the old data if no row names it
//! ```
//!
//! Id, name, endpoint, port, passwords and the branch's place as default stay. A crash before the transaction leaves data that no
//! row names, which the next start removes; a crash after it leaves an endpoint to be started.

use api::branch::BranchRestoreRequest;
use store::BranchPoint;

use crate::clock;
use crate::control::Control;
use crate::control::branch::expiry::{self, Expiry};
use crate::control::branch::history;
use crate::control::branch::point::{At, discard, fork, parse_at};
use crate::control::catalog::change::{know_roles, while_unseen};
use crate::control::endpoint::options;
use crate::error::{Error, Result};
use crate::fleet::endpoints::change_under;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{catalog, password, quarantine};
use crate::names::{self, parse_branch};
use crate::storage::sweep::sweep_after;

/// A branch that was given other data.
#[derive(Debug)]
pub struct Restored {
    /// Its row.
    pub branch: BranchRow,
    /// The row of what it held before, if that was kept.
    pub backup: Option<BranchRow>,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// What is to be done to which branch.
struct Plan {
    target: BranchRow,
    source: BranchRow,
    endpoints: Vec<EndpointRow>,
    at: At,
    keep_as: Option<Keep>,
    quarantine: bool,
    expiry: Option<Expiry>,
}

/// What the branch that keeps what another held is called.
enum Keep {
    /// As the request says.
    Named(String),
    /// As nobody said: it is kept for the branches that began on it.
    ForChildren,
}

/// Gives branch `id` the data of another branch, or of its own past.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict`, `Refused` for a request that cannot be done, and `Busy` while another one
/// changes the branch: then nothing has changed. `Unavailable` and `DiskFull` if the endpoint did not stop or start;
/// `last_reset_at` tells whether the branch has the new data.
pub fn restore_branch(
    control: &Control,
    project: &str,
    id: &str,
    request: &BranchRestoreRequest,
) -> Result<Restored> {
    names::check_id("source_branch_id", Some(&request.source_branch_id))?;
    let begun = OperationRow::begun(Action::RestoreBranch, project, id, clock::now_us())?;
    control.operations.run(&begun, || restore_as(control, &begun, id, request))
}

fn restore_as(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    request: &BranchRestoreRequest,
) -> Result<Restored> {
    let project = begun.project_id.as_str();
    let _held = control.locks.take(&[id])?;
    let plan = plan_restore(control, project, id, request)?;
    know_roles(control, &plan.source)?;
    let data = parse_branch(&names::branch_id()?)?;
    let making = control.storage.unborn.make(&data);
    let (source, point) = fork(control, &plan.source, plan.at, &data)?;
    let plan = Plan { source, ..plan };
    let mut done = None;
    let keep = plan.keep_as.is_some();
    let started = while_unseen(control, id, &plan.endpoints, || {
        change_under(&control.fleet, &plan.endpoints, keep, || {
            done = Some(record_restore(control, &plan, &point, data.as_str(), begun.clone())?);
            Ok(())
        })
    });
    let Some((branch, backup, ended)) = done else {
        discard(control, project, data.as_str());
        return Err(started.err().unwrap_or_else(|| Error::internal("a restore that was not recorded")));
    };
    drop(making);
    sweep_after(&control.storage, project);
    let mut operations = vec![ended];
    operations.extend(started.map_err(|error| {
        let (text, name) = (error.message.clone(), &branch.name);
        Error { message: format!("branch {name} is restored, but does not run yet: {text}"), ..error }
    })?);
    tracing::info!(branch = id, source = plan.source.id, lsn = %point.lsn, "branch restored");
    Ok(Restored { branch, backup, operations })
}

fn plan_restore(control: &Control, project: &str, id: &str, request: &BranchRestoreRequest) -> Result<Plan> {
    let at = parse_at(request.source_lsn.as_deref(), request.source_timestamp.as_deref())?;
    let expiry = expiry::parse(request.expires_at.as_deref(), clock::now_us())?;
    let keep_as = request.preserve_under_name.clone().filter(|name| !name.is_empty());
    if let Some(name) = &keep_as {
        names::check_name("branch", name)?;
    }
    control.metadata.read(|connection| {
        let target = branch::get(connection, project, id)?;
        let source = branch::get(connection, project, &request.source_branch_id)?;
        let children = branch::children(connection, id)?;
        let keep_as = match keep_as {
            Some(name) => {
                branch::check_free(connection, project, &name)?;
                Some(Keep::Named(name))
            }
            None => (!children.is_empty() && source.id != target.id).then_some(Keep::ForChildren),
        };
        check_restore(&target, &source, at, keep_as.is_some(), &children)?;
        let endpoints = endpoint::of_branch(connection, id)?;
        let quarantine = request.quarantine != Some(false);
        Ok(Plan { target, source, endpoints, at, keep_as, quarantine, expiry })
    })
}

/// The transaction that makes the restore: the row, that of the backup, and the record of it.
fn record_restore(
    control: &Control,
    plan: &Plan,
    point: &BranchPoint,
    data: &str,
    begun: OperationRow,
) -> Result<(BranchRow, Option<BranchRow>, OperationRow)> {
    let now_us = clock::now_us();
    let backup_id = names::branch_id()?;
    control.metadata.write_with_secrets(|change, secrets| {
        // Read again: it may have been renamed, and something may have begun on it.
        let old = branch::get(change, &plan.target.project_id, &plan.target.id)?;
        let children = branch::children(change, &old.id)?;
        check_restore(&old, &plan.source, plan.at, plan.keep_as.is_some(), &children)?;
        let mut row = restored_row(&old, plan, point, now_us);
        row.store_id = data.to_owned();
        let keep_as = match &plan.keep_as {
            Some(Keep::Named(name)) => Some(name.clone()),
            Some(Keep::ForChildren) => {
                Some(branch::free_name(change, &old.project_id, &names::noted(&old.name, " (old)"))?)
            }
            None => None,
        };
        let backup = keep_as.map(|name| backup_row(&old, &backup_id, &name, now_us));
        if let Some(backup) = &backup {
            // The old data changes hands, which no two rows may name at a time.
            branch::update(change, &BranchRow { store_id: data.to_owned(), ..old.clone() })?;
            branch::insert(change, backup)?;
            catalog::hand_over(change, &old.id, &backup.id)?;
            branch::move_children(change, &old.id, &backup.id)?;
        }
        let history = history::of(change, &plan.source, point)?;
        row.parent_id = Some(branch::holder(change, &plan.source)?);
        row.history_id = history.other;
        expiry::check(&row, &[])?;
        branch::update(change, &row)?;
        options::adopt(change, &old.project_id, &old.id, &plan.source.id)?;
        quarantine::begin_again(change, &old.id, backup.as_ref().map(|row| row.id.as_str()))?;
        if !plan.quarantine {
            quarantine::note_done(change, &old.id, now_us)?;
        }
        let both = (change, secrets);
        password::replace(both, &history.roles, &old.id, point.lsn, history.protected)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((row, backup, ended))
    })
}

fn check_restore(
    target: &BranchRow,
    source: &BranchRow,
    at: At,
    kept: bool,
    children: &[BranchRow],
) -> Result<()> {
    let name = &target.name;
    if target.protected {
        return Err(Error::refused("BRANCH_PROTECTED", "cannot reset protected branch"));
    }
    if source.id != target.id {
        expiry::check_parent(source)?;
    }
    if source.id == target.id && at == At::Head {
        let hint = "hint: give source_lsn or source_timestamp";
        let text = format!("branch {name} is at its own head already\n{hint}");
        return Err(Error::refused("NOTHING_TO_RESTORE", text));
    }
    if source.id == target.id && !kept {
        let hint = "hint: give preserve_under_name, the name for what it holds now";
        let text = format!("branch {name} would lose what follows the moment it is restored to\n{hint}");
        return Err(Error::refused("PRESERVE_UNDER_NAME_NEEDED", text));
    }
    if !children.is_empty() && !kept {
        let hint = "hint: give preserve_under_name, and they become children of the branch of that name";
        let text = format!("branch {name} has children: {}\n{hint}", branch::names_of(children));
        return Err(Error::refused("BRANCH_HAS_CHILDREN", text));
    }
    Ok(())
}

fn restored_row(old: &BranchRow, plan: &Plan, point: &BranchPoint, now_us: i64) -> BranchRow {
    let requested_lsn = match plan.at {
        At::Lsn(asked) if asked != point.lsn => Some(asked.to_string()),
        _ => None,
    };
    // A time to live begins again.
    let expiry = plan.expiry.or_else(|| old.ttl_s.map(|ttl_s| Expiry::after(ttl_s, now_us)));
    BranchRow {
        parent_id: Some(plan.source.id.clone()),
        parent_lsn: Some(point.lsn.to_string()),
        parent_time_us: point.last_commit.map(|(time, _)| time.unix_us()),
        requested_lsn,
        schema_only: false,
        expires_us: expiry.map(|expiry| expiry.at_us),
        ttl_s: expiry.map(|expiry| expiry.ttl_s),
        last_reset_us: Some(now_us),
        updated_us: now_us,
        ..old.clone()
    }
}

/// The row that names what a branch held before. Where it began it began as the branch did.
fn backup_row(old: &BranchRow, id: &str, name: &str, now_us: i64) -> BranchRow {
    BranchRow {
        id: id.to_owned(),
        name: name.to_owned(),
        is_default: false,
        expires_us: None,
        ttl_s: None,
        restored_from: None,
        restored_as: None,
        finalized: false,
        created_us: now_us,
        updated_us: now_us,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::branch_row;
    use types::Lsn;

    fn refusal(
        target: &BranchRow,
        source: &BranchRow,
        at: At,
        kept: bool,
        kids: &[BranchRow],
    ) -> &'static str {
        check_restore(target, source, at, kept, kids).err().map_or("", |error| error.code)
    }

    #[test]
    fn what_would_be_lost_unasked_is_refused() {
        let (main, dev, kid) =
            (branch_row("br-a", "main"), branch_row("br-b", "dev"), branch_row("br-c", "kid"));
        let lsn = At::Lsn(Lsn::from_raw(9).unwrap());
        let kids = std::slice::from_ref(&kid);
        assert_eq!(refusal(&dev, &main, At::Head, false, &[]), "");
        assert_eq!(refusal(&dev, &main, lsn, false, &[]), "");
        assert_eq!(refusal(&dev, &dev, lsn, true, &[]), "");
        assert_eq!(refusal(&dev, &main, At::Head, true, kids), "");
        assert_eq!(refusal(&dev, &dev, At::Head, true, &[]), "NOTHING_TO_RESTORE");
        assert_eq!(refusal(&dev, &dev, lsn, false, &[]), "PRESERVE_UNDER_NAME_NEEDED");
        assert_eq!(refusal(&dev, &main, At::Head, false, kids), "BRANCH_HAS_CHILDREN");
        let protected = BranchRow { protected: true, ..dev };
        assert_eq!(refusal(&protected, &main, At::Head, true, &[]), "BRANCH_PROTECTED");
    }

    #[test]
    fn a_backup_takes_the_data_and_the_past_but_not_the_place() {
        let old = BranchRow {
            is_default: true,
            parent_lsn: Some("0/1".to_owned()),
            ttl_s: Some(60),
            expires_us: Some(5),
            ..branch_row("br-a", "dev")
        };
        let backup = backup_row(&old, "br-z", "dev_old", 9);
        assert_eq!((backup.store_id.as_str(), backup.parent_lsn.as_deref()), ("br-a", Some("0/1")));
        assert_eq!((backup.is_default, backup.expires_us, backup.created_us), (false, None, 9));
    }
}
