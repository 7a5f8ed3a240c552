//! Ours: is it well, and stop.

use std::collections::HashMap;

use api::status::{BranchStatus, EndpointStatus, Status, UnusableProject};
use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use types::Lsn;

use super::view;
use crate::clock::show;
use crate::control::Control;
use crate::control::shutdown::stop_endpoints;
use crate::error::{Error, Result};
use crate::fleet::endpoints::observe;
use crate::http::context::Context;
use crate::http::{answer, request_id};
use crate::machine::threads;
use crate::metadata::endpoint::{self, Desired};
use crate::metadata::{branch, project};
use crate::{failpoint, limits};

/// `GET /status`.
pub async fn status(State(context): State<Context>) -> Response {
    answer::ok(move || collect(&context.control)).await
}

/// `POST /shutdown`: every endpoint is stopped cleanly before the answer, the process ends after it.
///
/// A task of its own does it, which goes on when the client hangs up: half a shutdown would be a server that starts
/// nothing and does not end either. If it fails, the server goes on as before.
pub async fn shutdown(State(context): State<Context>) -> Response {
    let asked = failpoint::asked();
    let ending = tokio::spawn(request_id::same(asked.answer(stop_and_end(context))));
    ending.await.unwrap_or_else(|error| answer::failed(&Error::internal(format!("a bug: {error}"))))
}

async fn stop_and_end(context: Context) -> Response {
    let control = context.control.clone();
    let stopped = answer::ok(move || stop_endpoints(&control)).await;
    if !stopped.status().is_success() {
        return stopped;
    }
    let control = context.control.clone();
    let response = answer::ok(move || collect(&control)).await;
    context.shutdown.notify_one();
    response
}

fn collect(control: &Control) -> Result<Status> {
    let projects = control.metadata.read(project::all)?;
    let mut branches = Vec::new();
    let mut unusable = Vec::new();
    for project in projects.iter().filter(|row| row.state == project::READY) {
        let infos = view::store_infos(control, &project.id).unwrap_or_else(|error| {
            let (project_id, name) = (project.id.clone(), project.name.clone());
            unusable.push(UnusableProject { project_id, name, reason: error.message });
            HashMap::new()
        });
        let rows = control.metadata.read(|connection| branch::live(connection, &project.id))?;
        branches.extend(rows.into_iter().filter_map(|row| {
            let info = infos.get(&row.store_id)?;
            Some(BranchStatus {
                project_id: row.project_id,
                id: row.id,
                name: row.name,
                head_lsn: info.head.to_string(),
                start_lsn: info.start.to_string(),
                own_data_bytes: i64::try_from(info.own_bytes).unwrap_or(i64::MAX),
            })
        }));
    }
    let rows = control.metadata.read(endpoint::all)?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.desired != Desired::Gone).collect();
    // One that does not answer delays this once, however many there are of its kind.
    let lags = Mutex::new(HashMap::new());
    threads::each(&rows, limits::LOOKS_AT_ONCE, |row| {
        let lag_bytes = lag_bytes(control, &row.id);
        lags.lock().insert(row.id.clone(), lag_bytes);
    });
    let lags = lags.into_inner();
    let endpoints = rows.iter().map(|row| {
        // Behind the look that the lag needs: so what is seen is as it is now.
        let observed = control.fleet.endpoints.observed(&row.id);
        EndpointStatus {
            project_id: row.project_id.clone(),
            branch_id: row.branch_id.clone(),
            id: row.id.clone(),
            current_state: observed.state,
            state_reason: observed.reason,
            last_read_error: observed.last_read_error,
            lag_bytes: lags.get(&row.id).copied().flatten(),
        }
    });
    let disk = rustix::fs::statvfs(control.dir.path());
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: show(control.started_us),
        data_dir: control.dir.path().to_string_lossy().into_owned(),
        memory_bytes: memory_bytes().unwrap_or(0),
        disk_bytes: branches.iter().map(|branch| u64::try_from(branch.own_data_bytes).unwrap_or(0)).sum(),
        disk_free_bytes: disk.map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        projects: projects.len() as u64,
        endpoints: endpoints.collect(),
        branches,
        unusable_projects: unusable,
        operations_under_way: view::operations(&control.operations.all()),
    })
}

/// Flush position of its Postgres less what the store has acknowledged; `None` if it does not run.
fn lag_bytes(control: &Control, id: &str) -> Option<u64> {
    let (_, status) = observe(&control.fleet, id);
    let shipped: Lsn = status?.shipped_lsn?.parse().ok()?;
    let socket = compute::control_socket(&control.dir.endpoint(id));
    match compute::control::ask(&socket, compute::control::Command::FlushLsn, limits::LAG_WITHIN).ok()? {
        compute::control::Answer::FlushLsn(text) => {
            Some(text.parse::<Lsn>().ok()?.bytes_since(shipped).unwrap_or(0))
        }
        _ => None,
    }
}

/// Resident memory of this process.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
