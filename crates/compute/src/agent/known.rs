//! What every thread of the process knows of its endpoint, and what they tell the one that decides.
//!
//! Not here: what is decided (`agent`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use types::Lsn;

use crate::client::Client;
use crate::config;
use crate::control::{Phases, State, Status};
use crate::error::{Error, While};
use crate::shipping::pace::Pace;
use crate::shipping::stream::StreamEnd;
use crate::spec::{Admission, EndpointSpec, Passwords};
use crate::sql::pg_client::{PgClient, PgError};
use crate::waiting::Waiting;

use super::read_errors::ReadErrors;

/// What reaches the deciding thread.
pub(super) enum Event {
    Stop,
    Exited,
    OverlayFailed(String),
    StreamEnded(StreamEnd),
}

/// What is known about the endpoint by every thread.
pub(super) struct Agent {
    pub(super) spec: EndpointSpec,
    pub(super) status: Mutex<Status>,
    pub(super) changed: Condvar,
    pub(super) stop: AtomicBool,
    /// Whether a start of this process took the predefined roles out of reach.
    pub(super) guarded: AtomicBool,
    pub(super) shipped: Arc<AtomicU64>,
    pub(super) pace: Arc<Pace>,
    pub(super) events: Mutex<Option<Sender<Event>>>,
    pub(super) client: Mutex<Option<Arc<Client>>>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) wal_notice: Mutex<Option<String>>,
    pub(super) read_errors: Mutex<ReadErrors>,
    pub(super) file_system: Mutex<Option<Arc<fs::FileSystem>>>,
    pub(super) flush_connection: Mutex<Option<PgClient>>,
    pub(super) answering: Mutex<u32>,
    pub(super) answered: Condvar,
}

impl Agent {
    pub(super) fn new(spec: EndpointSpec) -> Self {
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

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock());
        self.changed.notify_all();
    }

    /// The status now, with its live counters.
    pub(super) fn status(&self) -> Status {
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
    pub(super) fn wait_past(&self, passing: &[State]) -> Status {
        let mut status = self.status.lock();
        while passing.contains(&status.state) {
            self.changed.wait(&mut status);
        }
        drop(status);
        self.status()
    }

    /// Asks the deciding thread to stop; ends a start that waits for the store.
    pub(super) fn request_stop(&self) {
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
    pub(super) fn flush_lsn(&self) -> Result<String, String> {
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
    pub(super) fn admission(&self) -> Admission {
        match self.spec.admission {
            Admission::AfterQuarantine if self.status.lock().quarantine.is_some() => Admission::Everybody,
            admission => admission,
        }
    }

    /// Whether a start of this process could not put to rest all that the branch inherited.
    pub(super) fn held(&self) -> bool {
        self.status.lock().quarantine.as_ref().is_some_and(|found| !found.undone.is_empty())
    }

    /// The passwords that the start that comes next has to set.
    pub(super) fn passwords(&self) -> Option<&Passwords> {
        let set = self.status.lock().passwords_since.is_some();
        Some(&self.spec.passwords).filter(|passwords| !set && !passwords.is_empty())
    }

    pub(super) fn connect(&self) -> Result<PgClient, PgError> {
        PgClient::connect(&config::socket_path(&self.spec), &self.spec.superuser)
    }

    pub(super) fn remove_directories(&self) -> Result<(), Error> {
        for directory in [self.spec.wal_dir(), self.spec.socket_dir()] {
            std::fs::remove_dir_all(&directory).while_(|| format!("remove {}", directory.display()))?;
        }
        let mount = self.spec.mount_dir();
        std::fs::remove_dir(&mount).while_(|| format!("remove {}", mount.display()))
    }

    /// Lets commands that wait for the end get their answer before the process goes.
    pub(super) fn wait_for_answers(&self) {
        let mut answering = self.answering.lock();
        let deadline = Instant::now() + Duration::from_secs(1);
        while *answering > 0 && !self.answered.wait_until(&mut answering, deadline).timed_out() {}
    }
}

pub(super) fn remove_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("remove {}: {error}", path.display());
    }
}

pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.while_(|| format!("remove {}", path.display())),
    }
}
