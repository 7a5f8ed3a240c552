//! WAL on its way from the endpoint's Postgres to the store.
//!
//! A physical slot holds WAL back in `pg_wal` until the store has acknowledged it, so a slow or absent store costs
//! disk, never data. While an append is under way, and in the rest between two (`pace`), more messages gather in the socket
//! and go out together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use types::{Lsn, TimelineId};
use wal::Major;

use crate::client::{Client, ClientError};
use crate::shipping::pace::Pace;
use crate::sql::pg_client::{CopyMessage, PgClient, PgError};
use crate::sql::session::Own;

/// Name of the slot.
const SLOT: &str = "scion";
/// Most bytes in one append.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// A batch of this many bytes goes at once: a bulk load must not fall behind.
const RESTS_BELOW_BYTES: usize = 64 << 10;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
const UNDEFINED_OBJECT: &str = "42704";
/// What ends whoever has what the stream needs, by the code of the error that says so: the last session of others that
/// replicates where all there may be have been taken, and the one that has the slot.
const TAKES: [(&str, &str); 2] = [
    (
        "53300",
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity \
         WHERE backend_type = 'walsender' AND usename <> current_user ORDER BY backend_start DESC LIMIT 1",
    ),
    (
        "55006",
        "SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots \
         WHERE slot_name = 'scion' AND active_pid IS NOT NULL",
    ),
];

/// Why streaming ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamEnd {
    /// The store refused WAL: another endpoint writes this branch now, or there is no such branch any more.
    #[error("the store refused WAL: {0}")]
    Refused(ClientError),
    /// The server has gone.
    #[error("the server has gone")]
    ServerGone,
}

/// Whether there is a server to stream from. Begins with yes.
#[derive(Default)]
pub struct Alive {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Alive {
    /// Says that there is none any more; ends every pause.
    pub fn end(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    /// Whether there still is one after `pause`, or after none if there is not.
    pub fn after(&self, pause: Duration) -> bool {
        let mut ended = self.ended.lock();
        self.changed.wait_while_for(&mut ended, |ended| !*ended, pause);
        !*ended
    }
}

/// What is streamed, and how far it is.
pub struct WalStream {
    /// The server's unix socket.
    pub socket: PathBuf,
    /// The superuser.
    pub user: String,
    /// Which Postgres.
    pub major: &'static Major,
    /// Timeline of the run.
    pub timeline: TimelineId,
    /// Where it began.
    pub start: Lsn,
    /// The store.
    pub client: Arc<Client>,
    /// Up to where the store has acknowledged WAL; read by others.
    pub shipped: Arc<AtomicU64>,
    /// How often it goes.
    pub pace: Arc<Pace>,
    /// How it goes.
    pub progress: Arc<Progress>,
}

/// What others may know of a stream: who reads WAL for it, and whether it keeps up.
#[derive(Default)]
pub struct Progress {
    /// The server's process that reads `pg_wal` for it.
    sender: AtomicU32,
    /// Since when the store has been taking an append.
    appending: Mutex<Option<Instant>>,
    /// Whether an append was as large as they get since somebody asked: there may be much more behind it.
    bulk: AtomicBool,
}

impl Progress {
    /// The server's process that reads `pg_wal` to send it.
    pub fn sender(&self) -> u32 {
        self.sender.load(Ordering::SeqCst)
    }

    /// For how long the store has been taking the append that is under way.
    pub fn appending_for(&self) -> Duration {
        self.appending.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether there was as much to append as goes at once, since this was last asked.
    pub fn take_bulk(&self) -> bool {
        self.bulk.swap(false, Ordering::SeqCst)
    }
}

impl WalStream {
    /// Ships WAL until the server has gone or the branch is another's. Connects again for as long as `alive` says that
    /// there is a server.
    pub fn run(&self, alive: &Alive) -> StreamEnd {
        loop {
            let mut pause = RECONNECT_PAUSE;
            match self.stream() {
                Ok(Ended::Shutdown) => return StreamEnd::ServerGone,
                Ok(Ended::Timeline) => tracing::warn!("replication: the server ended its timeline"),
                Err(Broken::Store(error)) => return StreamEnd::Refused(error),
                Err(Broken::Server(error)) => {
                    tracing::debug!("replication: {error}");
                    if let PgError::Server { code, .. } = &error
                        && let Some((_, takes)) = TAKES.iter().find(|(taken, _)| taken == code)
                        && self.take(takes)
                    {
                        // Before somebody else has it.
                        pause = Duration::ZERO;
                    }
                }
            }
            if !alive.after(pause) {
                return StreamEnd::ServerGone;
            }
        }
    }

    /// Ends a session of others by this statement; true if there was one. Without the stream nothing of what is committed
    /// would reach the store.
    fn take(&self, statement: &str) -> bool {
        let own = Own { socket: self.socket.clone(), superuser: &self.user, major: self.major };
        match own.connect_any().and_then(|mut pg| pg.command(statement)) {
            Ok(rows) if rows.is_empty() => false,
            Ok(_) => {
                tracing::warn!("ended a session that replicates, which had what the WAL for the store needs");
                true
            }
            Err(error) => {
                tracing::warn!("end a session that replicates, to ship WAL to the store: {error}");
                false
            }
        }
    }

    /// Makes the slot, so that no WAL can be recycled before it is shipped. To be called once for each server.
    ///
    /// # Errors
    /// Those of the server.
    pub fn create_slot(&self, pg: &mut PgClient) -> Result<(), PgError> {
        pg.command(&format!("CREATE_REPLICATION_SLOT {SLOT} PHYSICAL RESERVE_WAL")).map(|_| ())
    }

    /// Opens the copy from `from` on. A slot that somebody dropped is made again, or WAL would never be shipped.
    fn start_copy(&self, pg: &mut PgClient, from: Lsn) -> Result<(), PgError> {
        let timeline = self.timeline.get();
        let command = format!("START_REPLICATION SLOT {SLOT} PHYSICAL {from} TIMELINE {timeline}");
        match pg.start_copy(&command) {
            Err(PgError::Server { code, .. }) if code == UNDEFINED_OBJECT => {
                tracing::warn!("replication slot {SLOT} was dropped and is made again");
                self.create_slot(pg)?;
                pg.start_copy(&command)
            }
            other => other,
        }
    }

    fn stream(&self) -> Result<Ended, Broken> {
        let mut pg = PgClient::connect(&self.socket, &self.user)?;
        self.progress.sender.store(pg.process(), Ordering::SeqCst);
        let from = Lsn::from_raw(self.shipped.load(Ordering::SeqCst)).unwrap_or(self.start);
        self.start_copy(&mut pg, from)?;
        let mut batch = Vec::new();
        let mut at = from;
        let mut last = Instant::now();
        loop {
            let before = batch.len() as u64;
            let mut wants_status = false;
            match pg.copy_message(&mut batch)? {
                CopyMessage::Wal { start } if start != at.raw() + before => {
                    return Err(Broken::Server(gap(start)));
                }
                CopyMessage::Wal { .. } => {}
                CopyMessage::KeepAlive(asked) => wants_status = asked,
                CopyMessage::Done => {
                    self.ship(&mut batch, &mut at)?;
                    pg.end_copy()?;
                    return Ok(Ended::Timeline);
                }
                CopyMessage::Complete => {
                    self.ship(&mut batch, &mut at)?;
                    return Ok(Ended::Shutdown);
                }
            }
            let small = (1..RESTS_BELOW_BYTES).contains(&batch.len());
            if batch.len() < APPEND_BYTES_MAX
                && (pg.has_message()? || small && self.pace.rest(last) && pg.has_message()?)
            {
                continue;
            }
            let shipped = self.ship(&mut batch, &mut at)?;
            last = Instant::now();
            if shipped || wants_status {
                pg.confirm(at.raw())?;
            }
        }
    }

    /// Appends the batch to the store; true if there was any.
    fn ship(&self, batch: &mut Vec<u8>, at: &mut Lsn) -> Result<bool, Broken> {
        if batch.is_empty() {
            return Ok(false);
        }
        if batch.len() >= APPEND_BYTES_MAX {
            self.progress.bulk.store(true, Ordering::SeqCst);
        }
        *self.progress.appending.lock() = Some(Instant::now());
        let appended = self.client.append_wal(self.timeline, *at, batch);
        *self.progress.appending.lock() = None;
        appended.map_err(Broken::Store)?;
        *at = at.advanced(batch.len() as u64);
        self.shipped.store(at.raw(), Ordering::SeqCst);
        batch.clear();
        Ok(true)
    }
}

/// Why the server ended the copy.
enum Ended {
    Timeline,
    Shutdown,
}

enum Broken {
    Server(PgError),
    Store(ClientError),
}

impl From<PgError> for Broken {
    fn from(error: PgError) -> Self {
        Self::Server(error)
    }
}

fn gap(start: u64) -> PgError {
    let text = format!("WAL does not go on where it ended, but at {start:X}");
    PgError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}
