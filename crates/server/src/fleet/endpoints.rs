//! Endpoints as processes: start, stop, look, adopt.
//!
//! ```text
//!   row says active --start--> spec.json, `scion compute --spec ...` in a session of its own, wait until ready
//!   row says idle   --stop---> asked over control.sock, ended when the store holds everything
//! ```
//!
//! What must hold
//! - One at a time: whoever starts or stops an endpoint holds its `turn`.
//! - Only so many start at once (`limits::STARTS`): first come, first served, and the reconciler is never all of them.
//! - A compute outlives this server. After a restart it is found by its control socket and left alone.
//! - An endpoint that died unclean may hold commits that the store has not seen: before it counts as stopped it is
//!   started once more, which ships them.
//!
//! Not here: what should run (`metadata`), what is known of what does (`runtime`), what to do next (`plan`), when
//! (`reconcile`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::endpoint::EndpointState;
use compute::control::{self, Answer, State, Status};

use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::fleet::last_run::{self, ended_clean, forget_other, not_started};
use crate::fleet::plan::{self, Seen, Start};
use crate::fleet::process::clear_leftovers;
use crate::fleet::quarantine::{await_passwords, record_adopted, record_quarantine};
use crate::fleet::runtime::Runtime;
use crate::fleet::spec::{store_id, write_spec};
use crate::fleet::{Fleet, watch};
use crate::limits::{
    ENDED_WITHIN, ENDPOINT_TURN_WITHIN, LOOK_WITHIN, READY_WITHIN, REAPED_WITHIN, SPACE_LOOK, STOPPED_WITHIN,
    STOPPED_WITHOUT_STORE_WITHIN,
};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};

/// Looks at an endpoint's process and notes what it says.
pub fn observe(fleet: &Fleet, id: &str) -> (Seen, Option<Status>) {
    let runtime = fleet.endpoints.of(id);
    let socket = compute::control_socket(&fleet.dir.endpoint(id));
    let answer = control::ask(&socket, control::Command::Status, LOOK_WITHIN);
    runtime.silent.store(answer.as_ref().is_err_and(timed_out), Ordering::Release);
    match answer {
        Ok(Answer::Status(status)) => {
            note_status(fleet, &runtime, &status);
            record_adopted(fleet, id, &runtime);
            let alive = matches!(status.state, State::Starting | State::Running);
            (if alive { Seen::Alive } else { Seen::Ending }, Some(status))
        }
        Ok(_) => (Seen::Silent, None),
        Err(error) if timed_out(&error) => (Seen::Silent, None),
        Err(_) if runtime.observed().known => {
            let _ = runtime.child_ended();
            runtime.note_dead();
            (Seen::Dead, None)
        }
        Err(_) => (Seen::Unknown, None),
    }
}

/// Whether an endpoint accepts connections.
pub fn runs(fleet: &Fleet, id: &str) -> bool {
    observe(fleet, id).1.is_some_and(|status| status.state == State::Running)
}

/// Notes what a process says of itself, and has the reconciler told when it ends.
fn note_status(fleet: &Fleet, runtime: &Runtime, status: &Status) {
    runtime.note_status(status);
    if !runtime.is_first_look_at(status.compute_pid) {
        return;
    }
    if let Err(error) = watch::ring_at_end(status.compute_pid, &fleet.bell) {
        tracing::debug!(pid = status.compute_pid, %error, "not watched, looked at once a second");
    }
}

/// Starts an endpoint, waits until it accepts connections, and keeps a record of it. Nothing if it runs.
///
/// # Errors
/// `Busy` if another request has it in hand for too long, `Unavailable` if it does not start.
pub fn start_endpoint(fleet: &Fleet, row: &EndpointRow) -> Result<OperationRow> {
    record_start(fleet, row, || start_unrecorded(fleet, row))
}

fn record_start(
    fleet: &Fleet,
    row: &EndpointRow,
    start: impl FnOnce() -> Result<()>,
) -> Result<OperationRow> {
    let now_us = clock::now_us();
    let begun = OperationRow::begun(Action::StartCompute, &row.project_id, &row.branch_id, now_us)?;
    let begun = begun.about_endpoint(&row.id);
    let _shown = fleet.operations.show(&begun);
    let result = start();
    let ended = begun.ended(result.as_ref().err());
    fleet.metadata.write(|change| {
        if result.is_ok() {
            endpoint::set_started(change, &row.id, ended.updated_us)?;
            record_quarantine(fleet, change, row)?;
        }
        operation::put(change, &ended)
    })?;
    result.map(|()| ended)
}

fn start_unrecorded(fleet: &Fleet, row: &EndpointRow) -> Result<()> {
    let runtime = fleet.endpoints.of(&row.id);
    let _turn = runtime.turn.try_lock_for(ENDPOINT_TURN_WITHIN).ok_or_else(|| busy(&row.id))?;
    start_in_turn(fleet, row, &runtime)
}

fn start_in_turn(fleet: &Fleet, row: &EndpointRow, runtime: &Runtime) -> Result<()> {
    if fleet.life.closing.load(Ordering::Acquire) {
        return Err(Error::unavailable("the server is being stopped"));
    }
    // While this waited for its turn, the endpoint may have been removed, stopped, or given another port.
    let row = fleet.metadata.read(|connection| endpoint::get(connection, &row.project_id, &row.id))?;
    if row.desired != Desired::Active {
        return Err(busy(&row.id));
    }
    let row = &row;
    let started = match plan::start(observe(fleet, &row.id).0) {
        Start::Wait => wait_ready(fleet, &row.id, runtime, Instant::now()),
        Start::LaunchAfterEnd => {
            wait_gone(fleet, &row.id, runtime, ENDED_WITHIN);
            launch(fleet, row, runtime)
        }
        Start::Launch => launch(fleet, row, runtime),
        Start::NotNow => Err(busy(&row.id)),
    };
    started.inspect_err(|error| runtime.note_failure(error))
}

fn wait_gone(fleet: &Fleet, id: &str, runtime: &Runtime, within: Duration) {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline && !observe(fleet, id).0.is_gone() {
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime.reap(REAPED_WITHIN);
}

/// Clears what an earlier run left, starts the process and waits until it is ready. The caller holds its turn.
///
/// # Errors
/// `Unavailable` if it does not start or too many others do, `DiskFull` if it waits for space in the store; then it
/// goes on by itself once there is some.
pub fn launch(fleet: &Fleet, row: &EndpointRow, runtime: &Runtime) -> Result<()> {
    let _place = fleet.starts.take(&row.project_id, 1)?;
    let began = Instant::now();
    runtime.note(EndpointState::Init, None);
    let dir = fleet.dir.endpoint(&row.id);
    clear_leftovers(&dir);
    let _ = fs::remove_file(compute::control_socket(&dir));
    let make =
        fs::create_dir_all(&dir).and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)));
    make.map_err(Error::io(format!("create {}", dir.display())))?;
    failpoint::tried(Step::DirectoryMade)?;
    let store_id = store_id(fleet, row)?;
    forget_other(&dir, &store_id)?;
    let spec = write_spec(fleet, row, store_id, &dir)?;
    let child = spawn(&fleet.launch.compute_exe, &spec, &dir).map_err(Error::io("start scion compute"))?;
    tracing::info!(endpoint = row.id, pid = child.id(), "started");
    runtime.note_child(child);
    failpoint::tried(Step::ComputeStarted)?;
    wait_ready(fleet, &row.id, runtime, began)
}

fn wait_ready(fleet: &Fleet, id: &str, runtime: &Runtime, began: Instant) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    let started = runtime.child_pid();
    loop {
        match ask_unless_full(fleet, id, control::Command::WaitReady, "start")? {
            Ok(Answer::Status(status)) => {
                note_status(fleet, runtime, &status);
                if status.state == State::Running {
                    let ms = began.elapsed().as_secs_f64() * 1000.0;
                    runtime.note_phase("process", ms);
                    failpoint::tried(Step::ComputeReady)?;
                    return await_passwords(fleet, id, status);
                }
                let reason = status.reason.unwrap_or_else(|| format!("it is {:?}", status.state));
                runtime.reap(REAPED_WITHIN);
                return Err(not_started(&fleet.dir.endpoint(id), id, &reason));
            }
            Ok(answer) => return Err(not_started(&fleet.dir.endpoint(id), id, &format!("{answer:?}"))),
            Err(error) if !timed_out(&error) && runtime.child_ended() => {
                // It may have ended before it could be asked.
                let said = started.and_then(|pid| last_run::reason(&fleet.dir.endpoint(id), pid));
                let reason = said.unwrap_or_else(|| format!("its process ended ({error})"));
                return Err(not_started(&fleet.dir.endpoint(id), id, &reason));
            }
            Err(_) if Instant::now() > deadline => {
                let text = format!("it was not ready within {} s", READY_WITHIN.as_secs());
                return Err(not_started(&fleet.dir.endpoint(id), id, &text));
            }
            // Not listening yet, or not ready yet.
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// What an endpoint answers within `SPACE_LOOK`, a time-out if it is not done by then: to be asked again.
///
/// # Errors
/// `DiskFull` if the store has no space for its log, for which it waits.
fn ask_unless_full(
    fleet: &Fleet,
    id: &str,
    command: control::Command,
    verb: &str,
) -> Result<io::Result<Answer>> {
    let answer = control::ask(&compute::control_socket(&fleet.dir.endpoint(id)), command, SPACE_LOOK);
    if answer.as_ref().is_err_and(timed_out) && fleet.storage.is_full() {
        let store = fleet.dir.project("");
        let text = format!("endpoint {id} cannot {verb}: no space for its log in {}", store.display());
        return Err(Error::disk_full(text));
    }
    Ok(answer)
}

/// Stops an endpoint cleanly and keeps a record of it.
///
/// # Errors
/// `Busy` if another request has it in hand for too long, `Unavailable` if what it holds could not be brought to the
/// store, `DiskFull` if there is no space for that; then it goes on by itself once there is some.
pub fn suspend_endpoint(fleet: &Fleet, row: &EndpointRow) -> Result<OperationRow> {
    let now_us = clock::now_us();
    let begun = OperationRow::begun(Action::SuspendCompute, &row.project_id, &row.branch_id, now_us)?;
    let begun = begun.about_endpoint(&row.id);
    let _shown = fleet.operations.show(&begun);
    let result = stop_endpoint(fleet, row);
    let ended = begun.ended(result.as_ref().err());
    fleet.metadata.write(|change| {
        if result.is_ok() {
            endpoint::set_suspended(change, &row.id, ended.updated_us)?;
        }
        operation::put(change, &ended)
    })?;
    result.map(|()| ended)
}

/// Stops an endpoint cleanly, unless it is to run by now. One that died is started once more first.
///
/// # Errors
/// As `suspend_endpoint`.
pub fn stop_endpoint(fleet: &Fleet, row: &EndpointRow) -> Result<()> {
    let runtime = fleet.endpoints.of(&row.id);
    let _turn = runtime.turn.try_lock_for(ENDPOINT_TURN_WITHIN).ok_or_else(|| busy(&row.id))?;
    // While this waited for its turn, another request may have started it.
    let now = fleet.metadata.read(|connection| endpoint::find(connection, &row.id))?;
    if now.is_some_and(|now| now.desired == Desired::Active) {
        return Err(busy(&row.id));
    }
    stop_in_turn(fleet, row, &runtime)
}

fn stop_in_turn(fleet: &Fleet, row: &EndpointRow, runtime: &Runtime) -> Result<()> {
    // While this waited for its turn, a finalized restore may have given it to another branch. What it wrote is shipped
    // with settings that are known to work. A hidden one has no row.
    let now = fleet.metadata.read(|connection| endpoint::find(connection, &row.id))?;
    let row = &now.map_or_else(|| row.clone(), |now| EndpointRow { tried: None, ..now });
    let dead = observe(fleet, &row.id).0.is_gone();
    let clean = if dead {
        ended_clean(&fleet.dir.endpoint(&row.id), &store_id(fleet, row)?)
    } else {
        ask_to_stop(fleet, row, runtime, STOPPED_WITHIN)?
    };
    if clean {
        runtime.note(EndpointState::Idle, None);
        return Ok(());
    }
    tracing::warn!(endpoint = row.id, "died unclean, starting it once more to ship what it wrote");
    let stopped = launch(fleet, row, runtime).and_then(|()| {
        let text = format!("endpoint {} did not stop cleanly", row.id);
        ask_to_stop(fleet, row, runtime, STOPPED_WITHIN)?
            .then_some(())
            .ok_or_else(|| Error::unavailable(text))
    });
    stopped.inspect_err(|error| runtime.note_failure(error))?;
    runtime.note(EndpointState::Idle, None);
    Ok(())
}

/// Ends what runs on a branch, lets `change` say what the branch is from now on, and starts on that what should
/// run. With `keep`, all that was written is in the store before the change; without, it is lost.
///
/// # Errors
/// Those of stopping, of `change`, and of starting. After one of stopping or of `change`, what should run is
/// started again by the reconciler.
pub fn change_under(
    fleet: &Fleet,
    rows: &[EndpointRow],
    keep: bool,
    change: impl FnOnce() -> Result<()>,
) -> Result<Vec<OperationRow>> {
    let runtimes: Vec<Arc<Runtime>> = rows.iter().map(|row| fleet.endpoints.of(&row.id)).collect();
    let mut turns = Vec::new();
    for (row, runtime) in rows.iter().zip(&runtimes) {
        turns.push(runtime.turn.try_lock_for(ENDPOINT_TURN_WITHIN).ok_or_else(|| busy(&row.id))?);
    }
    for (row, runtime) in rows.iter().zip(&runtimes) {
        if keep {
            // Its end is that of the operation which needs it.
            let (action, now_us) = (Action::SuspendCompute, clock::now_us());
            let begun = OperationRow::begun(action, &row.project_id, &row.branch_id, now_us)?;
            fleet.operations.run(&begun.about_endpoint(&row.id), || stop_in_turn(fleet, row, runtime))?;
        } else {
            runtime.note(EndpointState::Init, None);
            clear_leftovers(&fleet.dir.endpoint(&row.id));
            runtime.reap(REAPED_WITHIN);
            failpoint::passed(Step::ComputeKilled);
        }
    }
    change()?;
    let mut operations = Vec::new();
    for (row, runtime) in rows.iter().zip(&runtimes) {
        let wanted = fleet.metadata.read(|connection| endpoint::find(connection, &row.id))?;
        if let Some(row) = wanted.filter(|row| row.desired == Desired::Active) {
            let launch = || launch(fleet, &row, runtime).inspect_err(|error| runtime.note_failure(error));
            operations.push(record_start(fleet, &row, launch)?);
        } else {
            runtime.note(EndpointState::Idle, None);
        }
    }
    Ok(operations)
}

/// Stops an endpoint if it runs, for the server ends. One that died, cannot stop or is still in the hand of a
/// request is ended: its next start ships what it wrote.
pub fn stop_at_shutdown(fleet: &Fleet, row: &EndpointRow) {
    let runtime = fleet.endpoints.of(&row.id);
    let Some(_turn) = runtime.turn.try_lock_for(ENDPOINT_TURN_WITHIN) else {
        tracing::warn!(endpoint = row.id, "still in the hand of a request, is ended");
        clear_leftovers(&fleet.dir.endpoint(&row.id));
        return;
    };
    let dead = observe(fleet, &row.id).0.is_gone();
    let stopped = || {
        let stored = fleet.storage.store(&row.project_id).is_ok();
        let within = if stored { STOPPED_WITHIN } else { STOPPED_WITHOUT_STORE_WITHIN };
        let stopped = ask_to_stop(fleet, row, &runtime, within);
        stopped.inspect_err(|error| tracing::warn!(endpoint = row.id, %error, "is ended")).unwrap_or(false)
    };
    if dead || !stopped() {
        clear_leftovers(&fleet.dir.endpoint(&row.id));
    }
    runtime.note(EndpointState::Idle, None);
}

/// True once it said that it has stopped cleanly and is gone.
///
/// # Errors
/// `DiskFull` if the store has no space for what it wrote; it goes on by itself once there is some.
fn ask_to_stop(fleet: &Fleet, row: &EndpointRow, runtime: &Runtime, within: Duration) -> Result<bool> {
    runtime.note(EndpointState::Init, None);
    let deadline = Instant::now() + within;
    let answer = loop {
        match ask_unless_full(fleet, &row.id, control::Command::Stop, "stop")? {
            Err(error) if timed_out(&error) && Instant::now() < deadline => {}
            answer => break answer,
        }
    };
    let clean = matches!(&answer, Ok(Answer::Status(status)) if status.state == State::Stopped);
    if !clean {
        tracing::warn!(endpoint = row.id, ?answer, "did not stop cleanly");
    }
    wait_gone(fleet, &row.id, runtime, within.min(ENDED_WITHIN));
    clear_leftovers(&fleet.dir.endpoint(&row.id));
    runtime.reap(REAPED_WITHIN);
    failpoint::passed(Step::ComputeStopped);
    Ok(clean)
}

/// Ends an endpoint at once and removes its files and its row. Nothing it wrote is kept beyond what the store has.
///
/// # Errors
/// Those of the file system.
pub fn remove_endpoint(fleet: &Fleet, id: &str) -> Result<()> {
    let runtime = fleet.endpoints.of(id);
    let _turn = runtime.turn.try_lock_for(ENDPOINT_TURN_WITHIN).ok_or_else(|| busy(id))?;
    remove_endpoint_files(fleet, id)?;
    runtime.reap(REAPED_WITHIN);
    fleet.metadata.write(|change| endpoint::remove(change, id))?;
    fleet.endpoints.forget(id);
    Ok(())
}

/// Ends what runs in an endpoint's directory and removes it.
///
/// # Errors
/// Those of the file system.
pub fn remove_endpoint_files(fleet: &Fleet, id: &str) -> Result<()> {
    let dir = fleet.dir.endpoint(id);
    clear_leftovers(&dir);
    failpoint::passed(Step::ComputeKilled);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", dir.display()))(error))
        }
        _ => {
            failpoint::passed(Step::FilesRemoved);
            Ok(())
        }
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn busy(id: &str) -> Error {
    Error::busy(format!(
        "endpoint {id} is being started or stopped by another request; try again in a moment"
    ))
}

/// Starts the process in a session of its own, so that no signal to this server's terminal reaches it.
fn spawn(exe: &Path, spec: &Path, dir: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).mode(0o600).open(dir.join("compute.log"))?;
    let mut command = Command::new(exe);
    command.arg("compute").arg("--spec").arg(spec);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn()
}
