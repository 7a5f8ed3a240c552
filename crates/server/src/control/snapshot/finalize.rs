//! A branch that was made of a snapshot takes the place of another: name, connection strings, and all that goes with it.
//!
//! ```text
//!   1. the endpoints of both end, with everything they wrote in the store
//!   2. one transaction: the two swap endpoints, default and protection; the restored one gets the name, the time to
//!      live and the passwords, the other one another name         now it has the place
//!   3. the endpoints start, each on what its row names            the reconciler would, too
//! ```
//!
//! A crash before the transaction leaves two branches whose endpoints are started again; one after it leaves the same
//! two, swapped. Nothing of either is lost: what had the place goes on under another name, with its children.

use types::Lsn;

use crate::clock;
use crate::control::Control;
use crate::control::branch::expiry;
use crate::control::catalog::change::while_unseen;
use crate::error::{Error, Result};
use crate::fleet::endpoints::change_under;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::secret::Secrets;
use crate::metadata::{password, role, schedule};
use crate::names::{self, parse_branch};

/// A place that changed hands.
#[derive(Debug)]
pub struct Finalized {
    /// The branch that has it now.
    pub branch: BranchRow,
    /// The branch that had it.
    pub replaced: BranchRow,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// Gives branch `id`, which was made of a snapshot, the place of the branch that it was made for. That one is
/// called `old_name` from now on.
///
/// # Errors
/// `NotFound`, `Conflict`, `Refused` for a branch that takes no place, and `Busy` while another request changes one of
/// the two: then nothing has changed. `Unavailable` and `DiskFull` if an endpoint did not stop or start;
/// `restore_status` tells whether it has the place.
pub fn finalize_restore(
    control: &Control,
    project: &str,
    id: &str,
    old_name: Option<&str>,
) -> Result<Finalized> {
    if let Some(name) = old_name {
        names::check_name("branch", name)?;
    }
    let begun = OperationRow::begun(Action::FinalizeRestore, project, id, clock::now_us())?;
    control.operations.run(&begun, || finalize_as(control, &begun, id, old_name))
}

fn finalize_as(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    old_name: Option<&str>,
) -> Result<Finalized> {
    let project = begun.project_id.as_str();
    let target = control.metadata.read(|connection| pair(connection, project, id))?.1.id;
    let _held = control.locks.take(&[id, &target])?;
    let (restored, old) = control.metadata.read(|connection| pair(connection, project, id))?;
    let (mine, its) = control.metadata.read(|connection| {
        Ok((endpoint::of_branch(connection, id)?, endpoint::of_branch(connection, &old.id)?))
    })?;
    let both = [its.clone(), mine.clone()].concat();
    let mut done = None;
    let change = || {
        done = Some(record_finalized(control, &restored, old_name, (&mine, &its), begun.clone())?);
        Ok(())
    };
    let started = while_unseen(control, &old.id, &its, || {
        while_unseen(control, id, &mine, || change_under(&control.fleet, &both, true, change))
    });
    let Some((branch, replaced, ended)) = done else {
        return Err(started.err().unwrap_or_else(|| Error::internal("a swap that was not recorded")));
    };
    finalized(branch, replaced, vec![ended], started)
}

/// Makes a branch by `make`, whose data was made of a snapshot and ends at `head`, and gives it the place of the branch
/// that it is made for. A crash leaves both or neither.
///
/// # Errors
/// As `finalize_restore`, and those of `make`.
pub fn make_in_place(
    control: &Control,
    target: &BranchRow,
    head: Lsn,
    begun_us: i64,
    mut make: impl FnMut(&rusqlite::Connection, &mut Secrets) -> Result<(BranchRow, OperationRow)>,
) -> Result<Finalized> {
    let project = &target.project_id;
    let _held = control.locks.take(&[&target.id])?;
    let its = control.metadata.read(|connection| endpoint::of_branch(connection, &target.id))?;
    let mut done = None;
    let change = || {
        let recorded = control.metadata.write_with_secrets(|change, secrets| {
            let (restored, made) = make(change, secrets)?;
            let begun = OperationRow::begun(Action::FinalizeRestore, project, &restored.id, begun_us)?;
            let (branch, replaced) = swap((change, secrets), &restored, None, (&[], &its), head)?;
            let ended = begun.ended(None);
            operation::put(change, &ended)?;
            Ok((branch, replaced, vec![made, ended]))
        })?;
        done = Some(recorded);
        Ok(())
    };
    let started =
        while_unseen(control, &target.id, &its, || change_under(&control.fleet, &its, true, change));
    let Some((branch, replaced, operations)) = done else {
        return Err(started.err().unwrap_or_else(|| Error::internal("a swap that was not recorded")));
    };
    finalized(branch, replaced, operations, started)
}

/// The transaction that swaps.
fn record_finalized(
    control: &Control,
    restored: &BranchRow,
    old_name: Option<&str>,
    endpoints: (&[EndpointRow], &[EndpointRow]),
    begun: OperationRow,
) -> Result<(BranchRow, BranchRow, OperationRow)> {
    let head = control.storage.store(&restored.project_id)?.head(&parse_branch(&restored.store_id)?)?;
    control.metadata.write_with_secrets(|change, secrets| {
        let (new, old) = swap((change, secrets), restored, old_name, endpoints, head)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((new, old, ended))
    })
}

/// What was done once the place has changed hands, whether or not all endpoints `started` again.
fn finalized(
    branch: BranchRow,
    replaced: BranchRow,
    mut operations: Vec<OperationRow>,
    started: Result<Vec<OperationRow>>,
) -> Result<Finalized> {
    operations.extend(started.map_err(|error| {
        let (text, name) = (error.message.clone(), &branch.name);
        Error { message: format!("branch {name} is restored, but does not run yet: {text}"), ..error }
    })?);
    tracing::info!(branch = branch.id, replaced = replaced.id, "branch took the place of another");
    Ok(Finalized { branch, replaced, operations })
}

/// Swaps the rows of `restored`, whose data ends at `head`, and of the branch that it was made for.
fn swap(
    (change, secrets): (&rusqlite::Connection, &mut Secrets),
    restored: &BranchRow,
    old_name: Option<&str>,
    (mine, its): (&[EndpointRow], &[EndpointRow]),
    head: Lsn,
) -> Result<(BranchRow, BranchRow)> {
    let now_us = clock::now_us();
    let project = &restored.project_id;
    // Read again: they may have been renamed.
    let (restored, old) = pair(change, project, &restored.id)?;
    let left = match old_name {
        Some(name) => name.to_owned(),
        None => branch::free_name(change, project, &names::noted(&old.name, " (old)"))?,
    };
    branch::check_free(change, project, &left)?;
    let (new, old) = swapped(&restored, &old, left, now_us);
    expiry::check(&new, &branch::children(change, &new.id)?)?;
    branch::update(change, &old)?;
    branch::update(change, &new)?;
    branch::copy_annotation(change, &old.id, &new.id)?;
    for (endpoints, to) in [(mine, &old.id), (its, &new.id)] {
        for endpoint in endpoints {
            endpoint::set_branch(change, &endpoint.id, to, now_us)?;
        }
    }
    schedule::move_place(change, &old.id, &new.id)?;
    let passwords = role::roles(change, &old.id)?;
    password::keep((change, secrets), &passwords, &new.id, head)?;
    Ok((new, old))
}

/// The branch that was made of a snapshot, and the one whose place it is to take.
fn pair(connection: &rusqlite::Connection, project: &str, id: &str) -> Result<(BranchRow, BranchRow)> {
    let row = branch::get(connection, project, id)?;
    let refused = |code, text: String| Err(Error::refused(code, text));
    if row.finalized {
        return refused(
            "RESTORE_FINALIZED",
            format!("the restore of branch {} is finalized already", row.name),
        );
    }
    let Some(target) = &row.restored_as else {
        let hint = "hint: it has to be made by restoring a snapshot for a target branch";
        return refused("NOT_RESTORED", format!("branch {} takes no other branch's place\n{hint}", row.name));
    };
    match branch::find(connection, project, target)?.filter(|target| target.deleted_us.is_none()) {
        Some(target) => Ok((row, target)),
        None => refused("TARGET_DELETED", format!("branch {target}, whose place it was to take, is gone")),
    }
}

/// Both rows as they are after the swap: the new one, and the old one under the name `left`.
fn swapped(restored: &BranchRow, old: &BranchRow, left: String, now_us: i64) -> (BranchRow, BranchRow) {
    let new = BranchRow {
        name: old.name.clone(),
        is_default: old.is_default,
        protected: old.protected,
        expires_us: old.expires_us,
        ttl_s: old.ttl_s,
        finalized: true,
        updated_us: now_us,
        ..restored.clone()
    };
    let old = BranchRow {
        name: left,
        is_default: restored.is_default,
        protected: restored.protected,
        expires_us: None,
        ttl_s: None,
        updated_us: now_us,
        ..old.clone()
    };
    (new, old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::branch_row;

    #[test]
    fn the_place_goes_with_all_that_belongs_to_it_and_the_data_stays() {
        let old = BranchRow {
            is_default: true,
            protected: true,
            parent_id: Some("br-p".to_owned()),
            ..branch_row("br-a", "main")
        };
        let restored = BranchRow { restored_as: Some("br-a".to_owned()), ..branch_row("br-b", "look") };
        let (new, old) = swapped(&restored, &old, "main (old)".to_owned(), 9);
        assert_eq!((new.id.as_str(), new.store_id.as_str(), new.name.as_str()), ("br-b", "br-b", "main"));
        assert!(new.is_default && new.protected && new.finalized);
        assert_eq!(
            (old.id.as_str(), old.store_id.as_str(), old.name.as_str()),
            ("br-a", "br-a", "main (old)")
        );
        assert!(!old.is_default && !old.protected && old.parent_id.is_some());
    }
}
