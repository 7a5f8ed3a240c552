//! The log of a branch that cannot be read to its end: what is wrong, trying again, and ending it where it can be read up to.
//!
//! What must hold
//! - Nothing is given up but what was asked about: the request names the position, and none of the branch's endpoints may
//!   run.
//! - What is given up is of no branch any more, but stays in its files.

use api::log::{BranchLog, UnreadLog};
use types::Lsn;

use crate::clock;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::names::parse_branch;

/// How far the log of a branch can be read, and what is held beyond.
///
/// # Errors
/// `NotFound` without such a branch; those of the store.
pub fn branch_log(control: &Control, project: &str, id: &str) -> Result<BranchLog> {
    let row = control.metadata.read(|connection| branch::get(connection, project, id))?;
    let (store, data) = (control.storage.store(project)?, parse_branch(&row.store_id)?);
    let unread = store.unread(&data)?;
    let head = store.head(&data)?;
    Ok(BranchLog {
        branch_id: row.id,
        head_lsn: head.to_string(),
        unread: unread.map(|unread| UnreadLog {
            reason: unread.reason,
            lasting: unread.lasting,
            held_lsn: unread.held.to_string(),
            records: i64::try_from(unread.records).unwrap_or(i64::MAX),
            transactions: i64::try_from(unread.transactions).unwrap_or(i64::MAX),
            last_transaction_at: unread.last_end.map(clock::show_pg),
        }),
    })
}

/// Tries to read what could not be read, whatever the reason was, and says how far that went.
///
/// # Errors
/// As `branch_log`.
pub fn retry_branch_log(control: &Control, project: &str, id: &str) -> Result<BranchLog> {
    let row = control.metadata.read(|connection| branch::get(connection, project, id))?;
    match control.storage.store(project)?.retry_unread(&parse_branch(&row.store_id)?) {
        // What is still wrong is in the answer.
        Ok(_) | Err(store::StoreError::Stuck { .. } | store::StoreError::Behind { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    branch_log(control, project, id)
}

/// Ends the log of a branch at `at`, up to which it can be read.
///
/// # Errors
/// `Conflict` while an endpoint is to run on it; `Refused` if the log is not stuck there, or a branch begins beyond.
pub fn end_branch_log(control: &Control, project: &str, id: &str, at: Lsn) -> Result<BranchLog> {
    let begun = OperationRow::begun(Action::EndLog, project, id, clock::now_us())?;
    control.operations.run(&begun, || end_branch_log_as(control, &begun, id, at))
}

fn end_branch_log_as(control: &Control, begun: &OperationRow, id: &str, at: Lsn) -> Result<BranchLog> {
    let project = begun.project_id.as_str();
    let _held = control.locks.take(&[id])?;
    let row = control.metadata.read(|connection| {
        let row = branch::get(connection, project, id)?;
        check_idle(&row, &endpoint::of_branch(connection, id)?)?;
        Ok(row)
    })?;
    control.storage.store(project)?.end_log(&parse_branch(&row.store_id)?, at)?;
    control.metadata.write(|change| operation::put(change, &begun.clone().ended(None)))?;
    tracing::warn!(branch = id, lsn = %at, "the log was ended there");
    branch_log(control, project, id)
}

fn check_idle(row: &BranchRow, endpoints: &[endpoint::EndpointRow]) -> Result<()> {
    if endpoints.iter().all(|endpoint| endpoint.desired != Desired::Active) {
        return Ok(());
    }
    let name = &row.name;
    Err(Error::conflict(format!(
        "the endpoint of branch {name} runs, and goes on writing the log that is to end\n\
         hint: stop it first: `scion endpoint stop {name}`"
    )))
}
