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
//! Not here: how a start is done (`start`, `prepare`), who listens on the socket (`listener`).

mod certificate;
mod listener;
mod mend;
pub(crate) mod prepare;
mod read_errors;
mod room;
mod start;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;
use types::Lsn;

use crate::checkpoint::RECORD_BYTES;
use crate::client::{Client, ClientError};
use crate::control::{Phases, State, Status};
use crate::error::{Error, While};
use crate::pace::Pace;
use crate::pg_client::PgClient;
use crate::protocol::FailureKind;
use crate::spec::{Admission, EndpointSpec, Passwords};
use crate::tail::{self, Tail};
use crate::waiting::Waiting;
use crate::wal_stream::StreamEnd;
use crate::{config, control_file, logs, process, wal_segment};

use read_errors::ReadErrors;
use start::Run;

/// Crashes within `CRASH_WINDOW` after which an endpoint is given up.
const CRASHES_MAX: usize = 3;
const CRASH_WINDOW: Duration = Duration::from_secs(10);

/// What reaches the deciding thread.
enum Event {
    Stop,
    Exited,
    OverlayFailed(String),
    StreamEnded(StreamEnd),
}

/// How a run ended.
enum Outcome {
    Stopped,
    /// What had to be written before another start is in the store, or in `pg_wal`.
    Settled,
    Crashed(String),
}

/// What is known about the endpoint by every thread.
struct Agent {
    spec: EndpointSpec,
    status: Mutex<Status>,
    changed: Condvar,
    stop: AtomicBool,
    /// Whether a start of this process took the predefined roles out of reach.
    guarded: AtomicBool,
    shipped: Arc<AtomicU64>,
    pace: Arc<Pace>,
    events: Mutex<Option<Sender<Event>>>,
    client: Mutex<Option<Arc<Client>>>,
    waiting: Arc<Waiting>,
    wal_notice: Mutex<Option<String>>,
    read_errors: Mutex<ReadErrors>,
    file_system: Mutex<Option<Arc<fs::FileSystem>>>,
    flush_connection: Mutex<Option<PgClient>>,
    answering: Mutex<u32>,
    answered: Condvar,
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
    let _lock = process::lock_now(&spec.dir.join("compute.lock"))?;
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

fn remove_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("remove {}: {error}", path.display());
    }
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.while_(|| format!("remove {}", path.display())),
    }
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
        if self.watchers.drain(..).any(|watcher| watcher.join().is_err()) {
            tracing::error!("who watches pg_wal or the certificate panicked");
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

    fn control(&self) -> Result<Vec<u8>, Error> {
        self.file_system.read_file("global/pg_control").while_(|| "read pg_control".to_owned())
    }

    /// Makes sure that a standby stayed one.
    fn check_only_read(&self, agent: &Agent) -> Result<(), Error> {
        if control_file::was_standby(&self.control()?) {
            return Ok(());
        }
        let wal_dir = agent.spec.wal_dir();
        Err(Error::Postgres(format!("it was promoted; what it wrote since is in {} only", wal_dir.display())))
    }

    /// Makes sure that the store holds the log up to and with the shutdown checkpoint.
    fn check_shipped(&self, agent: &Agent) -> Result<(), Error> {
        let control = self.control()?;
        let checkpoint = control_file::shutdown_checkpoint(&control)
            .ok_or_else(|| Error::Postgres("postgres ended without a shutdown checkpoint".to_owned()))?;
        let end = wal_segment::end_of_record(self.segment_bytes, checkpoint, RECORD_BYTES as u64);
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

impl Agent {
    fn new(spec: EndpointSpec) -> Self {
        let status = Status {
            state: State::Starting,
            reason: None,
            last_read_error: None,
            failed_reads: Box::default(),
            postgres_pid: None,
            compute_pid: std::process::id(),
            port: spec.port,
            timeline: None,
            start_lsn: None,
            shipped_lsn: None,
            restarts: 0,
            overlay_bytes: 0,
            quarantine: None,
            passwords_since: None,
            phases: Phases::default(),
        };
        Self {
            spec,
            status: Mutex::new(status),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
            shipped: Arc::default(),
            pace: Arc::default(),
            events: Mutex::default(),
            client: Mutex::default(),
            waiting: Arc::default(),
            wal_notice: Mutex::default(),
            read_errors: Mutex::default(),
            file_system: Mutex::default(),
            flush_connection: Mutex::default(),
            answering: Mutex::new(0),
            answered: Condvar::new(),
        }
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock());
        self.changed.notify_all();
    }

    /// The status now, with its live counters.
    fn status(&self) -> Status {
        let mut status = self.status.lock().clone();
        if matches!(status.state, State::Starting | State::Running | State::Stopping) {
            let waits = self.waiting.reason().map(|reason| format!("waits for the store: {reason}"));
            let now: Vec<_> = self.wal_notice.lock().clone().into_iter().chain(waits).collect();
            if !now.is_empty() {
                status.reason = Some(now.join("; "));
            }
        }
        *status.failed_reads = self.read_errors.lock().list();
        status.shipped_lsn = Lsn::from_raw(self.shipped.load(Ordering::SeqCst)).map(|lsn| lsn.to_string());
        let file_system = self.file_system.lock().clone();
        status.overlay_bytes = file_system.map_or(0, |fs| fs.stats().overlay_bytes);
        status
    }

    /// Waits until the state is none of `passing`.
    fn wait_past(&self, passing: &[State]) -> Status {
        let mut status = self.status.lock();
        while passing.contains(&status.state) {
            self.changed.wait(&mut status);
        }
        drop(status);
        self.status()
    }

    /// Asks the deciding thread to stop; ends a start that waits for the store.
    fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(events) = &*self.events.lock() {
            let _ = events.send(Event::Stop); // nobody listens between two runs; the flag is looked at then
        }
        if self.status.lock().state == State::Starting
            && let Some(client) = &*self.client.lock()
        {
            client.cancel();
        }
    }

    /// Up to where Postgres has flushed its WAL.
    fn flush_lsn(&self) -> Result<String, String> {
        if self.status.lock().state != State::Running {
            return Err("the endpoint is not running".to_owned());
        }
        if self.spec.read_only {
            let start = self.status.lock().start_lsn.clone();
            return start.ok_or_else(|| "no position".to_owned());
        }
        let mut connection = self.flush_connection.lock();
        let mut pg = match connection.take() {
            Some(pg) => pg,
            None => self.connect().map_err(|error| error.to_string())?,
        };
        let rows = match pg.command("IDENTIFY_SYSTEM") {
            Ok(rows) => rows,
            Err(_) => {
                pg = self.connect().map_err(|error| error.to_string())?;
                pg.command("IDENTIFY_SYSTEM").map_err(|error| error.to_string())?
            }
        };
        let lsn = rows.into_iter().next().and_then(|row| row.into_iter().nth(2)).flatten();
        *connection = Some(pg);
        self.pace.hurry();
        lsn.ok_or_else(|| "IDENTIFY_SYSTEM gave no position".to_owned())
    }

    /// Who is to be let in by the start that comes next: what a start of this process put to rest stays so.
    fn admission(&self) -> Admission {
        match self.spec.admission {
            Admission::AfterQuarantine if self.status.lock().quarantine.is_some() => Admission::Everybody,
            admission => admission,
        }
    }

    /// Whether a start of this process could not put to rest all that the branch inherited.
    fn held(&self) -> bool {
        self.status.lock().quarantine.as_ref().is_some_and(|found| !found.undone.is_empty())
    }

    /// The passwords that the start that comes next has to set.
    fn passwords(&self) -> Option<&Passwords> {
        let set = self.status.lock().passwords_since.is_some();
        Some(&self.spec.passwords).filter(|passwords| !set && !passwords.is_empty())
    }

    fn connect(&self) -> Result<PgClient, crate::pg_client::PgError> {
        PgClient::connect(&config::socket_path(&self.spec), &self.spec.superuser)
    }

    fn remove_directories(&self) -> Result<(), Error> {
        for directory in [self.spec.wal_dir(), self.spec.socket_dir()] {
            std::fs::remove_dir_all(&directory).while_(|| format!("remove {}", directory.display()))?;
        }
        let mount = self.spec.mount_dir();
        std::fs::remove_dir(&mount).while_(|| format!("remove {}", mount.display()))
    }

    /// Lets commands that wait for the end get their answer before the process goes.
    fn wait_for_answers(&self) {
        let mut answering = self.answering.lock();
        let deadline = Instant::now() + Duration::from_secs(1);
        while *answering > 0 && !self.answered.wait_until(&mut answering, deadline).timed_out() {}
    }
}
