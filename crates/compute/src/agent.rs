//! The life of one endpoint: start, run, stop, and start again after a crash.
//!
//! ```text
//!             +------------------------- crash: kill, throw data files away, keep WAL ------------+
//!             v                                                                                   |
//!   Starting: ship tail, new timeline, data directory, mount, postgres, slot --> Running ---------+
//!             |  refused, or Postgres does not come up                              | stop
//!             v                                                                     v
//!           Failed <------------------- too many crashes            Stopping --> Stopped
//! ```
//!
//! One thread, this one, makes all decisions; others only send it events: the file system (an overlay write failed),
//! the watcher of the `postgres` process, the WAL stream, the control socket, signals.
//!
//! Not here: how a start is done (`start`, `prepare`), who listens on the socket (`listener`), what all threads know (`known`).

mod certificate;
mod known;
mod listener;
mod mend;
mod prepare;
mod read_errors;
mod room;
mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wal::{ControlFile, DbState};

use crate::client::ClientError;
use crate::config;
use crate::control::State;
use crate::error::{Error, While};
use crate::postgres::{lock, logs, process};
use crate::protocol::FailureKind;
use crate::shipping::stream::StreamEnd;
use crate::shipping::tail::{self, Tail};
use crate::spec::EndpointSpec;

use known::{Agent, Event, remove_file};
use start::Run;

/// Crashes within `CRASH_WINDOW` after which an endpoint is given up.
const CRASHES_MAX: usize = 3;
const CRASH_WINDOW: Duration = Duration::from_secs(10);

/// How a run ended.
enum Outcome {
    Stopped,
    /// What had to be written before another start is in the store, or in `pg_wal`.
    Settled,
    Crashed(String),
}

/// Runs an endpoint until it is stopped or given up. Exit code 0 means: stopped, and the store holds everything.
///
/// To be called once in a process, on its main thread: it takes SIGTERM and SIGINT, and Postgres dies with the thread.
///
/// # Errors
/// `Spec` if the spec cannot be run, or the endpoint runs already. All later failures are reported over the control
/// socket and in `status.json`, and end in exit code 1.
pub fn run(spec: EndpointSpec) -> Result<ExitCode, Error> {
    config::check(&spec)?;
    // Logs hold statements, and what this makes is for nobody else.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    std::fs::create_dir_all(&spec.dir).while_(|| format!("create {}", spec.dir.display()))?;
    let _lock = lock::lock_now(&spec.dir.join("compute.lock"))?;
    let agent = Arc::new(Agent::new(spec));
    process::become_subreaper();
    logs::close_to_others(&[agent.spec.postgres_log(), agent.spec.compute_log()]);
    logs::watch(vec![agent.spec.postgres_log(), agent.spec.compute_log()])?;
    listener::take_signals(&agent)?;
    listener::listen(&agent)?;
    let last = agent.spec.dir.join("status.json");
    remove_file(&last);

    let outcome = supervise(&agent);
    let (state, reason) = match outcome {
        Ok(()) => (State::Stopped, None),
        Err(error) => (State::Failed, Some(error.to_string())),
    };
    if let Some(reason) = &reason {
        tracing::error!("endpoint {} failed: {reason}", agent.spec.endpoint);
    }
    agent.update(|status| {
        status.state = state;
        status.reason = reason;
        status.postgres_pid = None;
    });
    if let Ok(text) = serde_json::to_vec(&agent.status()) {
        std::fs::write(&last, text).while_(|| format!("write {}", last.display()))?;
    }
    agent.wait_for_answers();
    remove_file(&agent.spec.control_socket());
    Ok(if state == State::Stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts the endpoint again after each crash, until it is stopped.
fn supervise(agent: &Arc<Agent>) -> Result<(), Error> {
    let mut crashes: Vec<Instant> = Vec::new();
    let mut mended = false;
    loop {
        let started = match start::start(agent) {
            Err(Error::Barred(refusal)) if !mended => {
                mended = true;
                mend::superuser(agent, refusal).map(|()| Outcome::Settled)
            }
            other => other.and_then(|run| serve(agent, run)),
        };
        let outcome = match started {
            Err(Error::Cancelled) => Outcome::Stopped,
            other => other?,
        };
        let reason = match outcome {
            Outcome::Stopped => return Ok(()),
            Outcome::Settled => continue,
            Outcome::Crashed(reason) => reason,
        };
        tracing::warn!("endpoint {} crashed: {reason}", agent.spec.endpoint);
        crashes.retain(|at| at.elapsed() < CRASH_WINDOW);
        crashes.push(Instant::now());
        if crashes.len() >= CRASHES_MAX {
            return Err(Error::Postgres(format!(
                "{CRASHES_MAX} crashes in {CRASH_WINDOW:?}, the last: {reason}"
            )));
        }
        agent.update(|status| {
            status.restarts += 1;
            status.reason = Some(reason);
        });
    }
}

/// Lets a started endpoint run until its Postgres has ended, and cleans up after it.
fn serve(agent: &Arc<Agent>, mut run: Run) -> Result<Outcome, Error> {
    let settling = run.settling;
    if settling {
        // A stop that is asked for now is for the server, not for the connection its log is shipped by.
        agent.client.lock().take();
        run.shut_down(agent);
    } else {
        agent.update(|status| {
            status.state = State::Running;
            status.phases = run.phases;
        });
        if agent.stop.load(Ordering::SeqCst) {
            run.stop(agent);
        }
    }
    let mut killed_for = None;
    let mut fenced = None;
    loop {
        match run.events.recv().unwrap_or(Event::Exited) {
            Event::Exited => break,
            Event::Stop => run.stop(agent),
            Event::OverlayFailed(text) => {
                process::send(&run.server.handle(), Signal::KILL);
                killed_for.get_or_insert(text);
            }
            Event::StreamEnded(StreamEnd::ServerGone) => {}
            Event::StreamEnded(StreamEnd::Refused(error)) => {
                process::send(&run.server.handle(), Signal::KILL);
                killed_for.get_or_insert(format!("the store refused WAL: {error}"));
                fenced = fenced.or_else(|| fencing(error));
            }
        }
    }
    let clean = run.stopping && killed_for.is_none();
    let outcome = run.finish(agent, clean, killed_for)?;
    match (fenced, outcome) {
        (Some(failure), _) => Err(failure),
        (None, Outcome::Stopped) if settling && !agent.stop.load(Ordering::SeqCst) => Ok(Outcome::Settled),
        (None, outcome) => Ok(outcome),
    }
}

fn fencing(error: ClientError) -> Option<Error> {
    match error {
        ClientError::Refused(failure) if failure.kind == FailureKind::Fenced => Some(Error::Store(failure)),
        _ => None,
    }
}

impl Run {
    /// Shuts down because somebody asked for it, who is told how that goes.
    fn stop(&mut self, agent: &Agent) {
        agent.update(|status| status.state = State::Stopping);
        self.shut_down(agent);
    }

    /// Fast shutdown: sessions end, a checkpoint is written and, through the slot, shipped.
    fn shut_down(&mut self, agent: &Agent) {
        self.stopping = true;
        agent.flush_connection.lock().take();
        process::send(&self.server.handle(), Signal::INT);
    }

    /// Collects the dead server and takes the endpoint's directory apart.
    fn finish(mut self, agent: &Agent, clean: bool, killed_for: Option<String>) -> Result<Outcome, Error> {
        let exit = self.server.reap();
        let clean = clean && exit.as_ref().is_ok_and(std::process::ExitStatus::success);
        self.alive.end();
        agent.flush_connection.lock().take();
        agent.update(|status| {
            status.postgres_pid = None;
            if !clean {
                status.state = State::Starting;
            }
        });
        if !clean {
            self.pages.cancel(); // or a backend waiting for a page could not be killed
            self.client.cancel(); // what it waits to ship is in pg_wal, and the next start ships it
            process::kill_orphans(&agent.spec.mount_dir());
        }
        for watcher in self.watchers.drain(..) {
            if watcher.join().is_err() {
                tracing::error!("who watches pg_wal or the certificate panicked");
            }
        }
        if self.stream.take().is_some_and(|stream| stream.join().is_err()) {
            tracing::error!("the WAL stream panicked; pg_wal is shipped as after a crash");
        }
        let shipped = match (clean, self.standby) {
            (false, _) => Ok(()),
            (true, false) => self.check_shipped(agent),
            (true, true) => self.check_only_read(agent),
        };
        self.pages.cancel();
        agent.file_system.lock().take();
        self.mounted.unmount().while_(|| format!("unmount {}", agent.spec.mount_dir().display()))?;
        shipped?;
        if !clean {
            let status = exit.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Ok(Outcome::Crashed(killed_for.unwrap_or_else(|| {
                let lines = self.server.last_log_lines(&agent.spec.postgres_log());
                format!("postgres ended ({status}):\n{lines}")
            })));
        }
        agent.remove_directories()?;
        Ok(Outcome::Stopped)
    }

    fn control(&self) -> Result<ControlFile, Error> {
        let bytes =
            self.file_system.read_file("global/pg_control").while_(|| "read pg_control".to_owned())?;
        ControlFile::parse(&bytes).map_err(|error| Error::Postgres(error.to_string()))
    }

    /// Makes sure that a standby stayed one.
    fn check_only_read(&self, agent: &Agent) -> Result<(), Error> {
        if self.control()?.state == DbState::ShutDownInRecovery {
            return Ok(());
        }
        let wal_dir = agent.spec.wal_dir();
        Err(Error::Postgres(format!("it was promoted; what it wrote since is in {} only", wal_dir.display())))
    }

    /// Makes sure that the store holds the log up to and with the shutdown checkpoint.
    fn check_shipped(&self, agent: &Agent) -> Result<(), Error> {
        let end = self.control()?.shutdown_end();
        let end =
            end.ok_or_else(|| Error::Postgres("postgres ended without a shutdown checkpoint".to_owned()))?;
        let tail = tail::ship(&self.client, &agent.spec.wal_dir())?;
        let head = match tail {
            Tail::Shipped(head) => Some(head),
            Tail::Absent | Tail::Superseded => None,
        };
        if head.is_some_and(|head| head >= end) {
            agent.shipped.fetch_max(end.raw(), Ordering::SeqCst);
            return Ok(());
        }
        Err(Error::Answer(format!("its head is {head:?}, but WAL ends at {end}; pg_wal is kept")))
    }
}
