//! Endpoints come and go: with a branch, or by themselves.
//!
//! What must hold
//! - A branch has one endpoint at most.
//! - One that does not start when it is made leaves nothing. One that is deleted has brought what it wrote to the store.
//!
//! Not here: what is set of one (`options`), branches (`branch`).

use std::slice;

use api::endpoint::{BranchEndpointCreate, EndpointCreate, EndpointType};
use rusqlite::Connection;

use crate::clock::{self, now_us};
use crate::control::Control;
use crate::control::endpoint::options::{self, check_new};
use crate::error::{Error, Result};
use crate::fleet::endpoints::{change_under, remove_endpoint, start_endpoint};
use crate::fleet::ports::reserve_port;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::names;

/// Makes an endpoint of a branch that has none, and starts it.
///
/// # Errors
/// `Malformed`, `NotFound`, `Refused` for a request that cannot be done; `Busy` while another one changes the branch; those
/// of starting. Then nothing is left of it.
pub fn create_endpoint(
    control: &Control,
    project: &str,
    request: &EndpointCreate,
) -> Result<(EndpointRow, Vec<OperationRow>)> {
    let wanted = BranchEndpointCreate { kind: request.kind, options: request.options.clone() };
    let wanted = slice::from_ref(&wanted);
    names::check_id("branch_id", Some(&request.branch_id))?;
    check_endpoints(wanted)?;
    let _held = control.locks.take(&[&request.branch_id])?;
    let (branch, from) = control.metadata.read(|connection| {
        let branch = branch::get(connection, project, &request.branch_id)?;
        let from = options::begins_on(connection, &branch)?;
        Ok((branch, from))
    })?;
    control.storage.unborn.check_made(&branch)?;
    check_new(control, project, from.as_deref(), wanted)?;
    let rows = control.metadata.write(|change| {
        let branch = branch::get(change, project, &request.branch_id)?;
        if let Some(other) = endpoint::of_branch(change, &branch.id)?.first() {
            return Err(one_is_enough(&branch, other));
        }
        insert_endpoints(change, &branch, from.as_deref(), wanted)
    })?;
    let started = start_all(control, &rows);
    for row in rows.iter().filter(|_| started.is_err()) {
        control.metadata.write(|change| endpoint::set_desired(change, &row.id, Desired::Gone, now_us()))?;
        remove_endpoint(&control.fleet, &row.id)?;
    }
    let row = rows.into_iter().next().ok_or_else(|| Error::internal("an endpoint that was not made"))?;
    started.map(|operations| (row, operations))
}

/// Stops an endpoint cleanly, as its branch stays, and removes it; its row as it was.
///
/// # Errors
/// `NotFound`; `Busy` while another request changes its branch; those of stopping.
pub fn delete_endpoint(control: &Control, project: &str, id: &str) -> Result<(EndpointRow, OperationRow)> {
    let begun_us = now_us();
    let found = control.metadata.read(|connection| endpoint::get(connection, project, id))?;
    let _held = control.locks.take(&[&found.branch_id])?;
    let row = control.metadata.read(|connection| endpoint::get(connection, project, id))?;
    let begun = OperationRow::begun(Action::SuspendCompute, project, &row.branch_id, begun_us)?;
    let mut ended = begun.about_endpoint(id);
    // The branch stays: what its endpoint committed must be in the store first.
    change_under(&control.fleet, slice::from_ref(&row), true, || {
        ended = ended.clone().ended(None);
        control.metadata.write(|change| {
            endpoint::set_desired(change, id, Desired::Gone, now_us())?;
            operation::put(change, &ended)
        })
    })?;
    remove_endpoint(&control.fleet, id)?;
    Ok((row, ended))
}

/// Checks the endpoints of a new branch.
///
/// # Errors
/// `Malformed` for a value that cannot be, `Refused` for what a branch cannot have.
pub fn check_endpoints(endpoints: &[BranchEndpointCreate]) -> Result<()> {
    endpoints.iter().try_for_each(|endpoint| options::check(&endpoint.options))?;
    if endpoints.len() > 1 {
        return Err(Error::refused(
            "TOO_MANY_ENDPOINTS",
            "a branch has at most one endpoint, of either type",
        ));
    }
    Ok(())
}

/// Writes the rows of endpoints that are to run on `branch`, unless they are disabled, with the settings of the endpoint of
/// branch `from`.
///
/// # Errors
/// `Unavailable` without a free port.
pub fn insert_endpoints(
    change: &Connection,
    branch: &BranchRow,
    from: Option<&str>,
    wanted: &[BranchEndpointCreate],
) -> Result<Vec<EndpointRow>> {
    wanted.iter().map(|wanted| insert_endpoint(change, branch, from, wanted)).collect()
}

/// Writes the row of an endpoint that is to run on `branch`, unless it is disabled, with the settings of the endpoint of
/// branch `from`.
///
/// # Errors
/// `Unavailable` without a free port.
pub fn insert_endpoint(
    change: &Connection,
    branch: &BranchRow,
    from: Option<&str>,
    wanted: &BranchEndpointCreate,
) -> Result<EndpointRow> {
    let now_us = clock::now_us();
    let row = EndpointRow {
        id: names::endpoint_id()?,
        project_id: branch.project_id.clone(),
        branch_id: branch.id.clone(),
        port: reserve_port(change)?,
        read_only: wanted.kind == EndpointType::ReadOnly,
        desired: if wanted.options.disabled == Some(true) { Desired::Idle } else { Desired::Active },
        options: options::of_new(change, &branch.project_id, from, &wanted.options)?,
        tried: None,
        started_us: None,
        suspended_us: None,
        created_us: now_us,
        updated_us: now_us,
    };
    endpoint::insert(change, &row)?;
    Ok(row)
}

/// Starts those endpoints that are to run.
///
/// # Errors
/// As `start_endpoint`.
pub fn start_all(control: &Control, endpoints: &[EndpointRow]) -> Result<Vec<OperationRow>> {
    let wanted = endpoints.iter().filter(|endpoint| endpoint.desired == Desired::Active);
    wanted.map(|endpoint| start_endpoint(&control.fleet, endpoint)).collect()
}

fn one_is_enough(branch: &BranchRow, other: &EndpointRow) -> Error {
    let (name, id) = (&branch.name, &other.id);
    let kind = if other.read_only { "read_only" } else { "read_write" };
    let text = format!("branch {name} already has a {kind} endpoint, {id}; a branch has one, of either type");
    let hint = "hint: delete that one, or make a branch of the branch with an endpoint of its own";
    Error::refused("TOO_MANY_ENDPOINTS", format!("{text}\n{hint}"))
}
