//! One start of an endpoint: from "the store has a branch" to "Postgres accepts connections and its WAL is shipped".

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fs::{FailureKind, FileSystem, Mounted};
use parking_lot::Mutex;
use rustix::process::Signal;

use crate::checkpoint::Checkpoint;
use crate::client::{Client, StorePages};
use crate::control::{Phases, State};
use crate::error::{Error, While};
use crate::pg_client::{PgClient, PgError};
use crate::process::{self, Server};
use crate::protocol::NewTimeline;
use crate::spec::EndpointSpec;
use crate::tail::{self, Tail};
use crate::wal_segment::{self, WalShape};
use crate::wal_stream::WalStream;
use crate::{config, control_file, datadir};

use super::{Agent, Event};

/// Pause between two tries to connect to a server that starts.
const CONNECT_PAUSE: Duration = Duration::from_millis(2);
const CANNOT_CONNECT_NOW: &str = "57P03";

/// A started endpoint.
pub(super) struct Run {
    pub client: Arc<Client>,
    pub pages: Arc<Client>,
    pub file_system: Arc<FileSystem>,
    pub mounted: Mounted,
    pub server: Server,
    pub stream: Option<JoinHandle<()>>,
    pub alive: Arc<AtomicBool>,
    pub events: Receiver<Event>,
    pub stopping: bool,
    pub segment_bytes: u64,
    pub phases: Phases,
}

/// A stop watch for the phases of a start.
struct Watch(Instant);

impl Watch {
    fn lap(&mut self) -> f64 {
        let lap = self.0.elapsed().as_secs_f64() * 1000.0;
        self.0 = Instant::now();
        lap
    }
}

/// Starts the endpoint on the head of its branch.
pub(super) fn start(agent: &Arc<Agent>) -> Result<Run, Error> {
    let begun = Instant::now();
    let mut watch = Watch(begun);
    let mut phases = Phases::default();
    let spec = &agent.spec;
    let (events, received) = mpsc::channel();
    let client = Arc::new(Client::new(spec));
    *agent.client.lock() = Some(Arc::clone(&client));
    *agent.events.lock() = Some(events.clone());
    agent.update(|status| status.state = State::Starting);
    if agent.stop.load(Ordering::SeqCst) {
        return Err(Error::Cancelled);
    }

    let lock = process::lock_when_free(&spec.dir.join("postgres.lock"))?;
    settle_tail(&client, spec)?;
    phases.tail = watch.lap();
    let new = client.begin_timeline()?;
    agent.shipped.store(new.start.raw(), Ordering::SeqCst);
    agent.update(|status| {
        status.timeline = Some(new.timeline.get());
        status.start_lsn = Some(new.start.to_string());
    });
    phases.state = watch.lap();

    let pages = Arc::new(Client::new(spec));
    let file_system = Arc::new(data_directory(spec, &new, &client, &pages)?);
    *agent.file_system.lock() = Some(Arc::clone(&file_system));
    let server_handle = Arc::new(Mutex::new(None));
    report_failures(&file_system, &server_handle, events.clone());
    phases.datadir = watch.lap();

    let mount_dir = spec.mount_dir();
    let mounted = fs::mount(Arc::clone(&file_system), &mount_dir, fs::MountOptions::default())
        .while_(|| format!("mount {}", mount_dir.display()))?;
    phases.mount = watch.lap();

    let server = Server::spawn(spec, lock)?;
    *server_handle.lock() = Some(server.handle());
    agent.update(|status| status.postgres_pid = Some(server.pid()));
    watch_exit(&server, events.clone());
    let alive = Arc::new(AtomicBool::new(true));
    let stream = WalStream {
        socket: config::socket_path(spec),
        user: spec.superuser.clone(),
        timeline: new.timeline,
        start: new.start,
        client: Arc::clone(&client),
        shipped: Arc::clone(&agent.shipped),
    };
    let pending = Pending { agent, server, pages: &pages, events: &received };
    let (server, mut pg) = pending.wait_ready()?;
    stream
        .create_slot(&mut pg)
        .map_err(|error| Error::Postgres(format!("create the replication slot: {error}")))?;
    *agent.flush_connection.lock() = Some(pg);
    phases.postgres_start = watch.lap();
    phases.total = begun.elapsed().as_secs_f64() * 1000.0;
    let stream = Some(spawn_stream(stream, Arc::clone(&alive), events));
    let segment_bytes = new.segment_bytes;
    let (stopping, events) = (false, received);
    Ok(Run {
        client,
        pages,
        file_system,
        mounted,
        server,
        stream,
        alive,
        events,
        stopping,
        segment_bytes,
        phases,
    })
}

/// Ships and removes what an earlier run left in `pg_wal`.
fn settle_tail(client: &Client, spec: &EndpointSpec) -> Result<(), Error> {
    let wal_dir = spec.wal_dir();
    match tail::ship(client, &wal_dir)? {
        Tail::Shipped(head) => tracing::info!("shipped the tail of an earlier run, up to {head}"),
        Tail::Absent => {}
        Tail::Superseded => {
            let aside = spec.dir.join("pg_wal.superseded");
            tracing::warn!("the branch went on without this WAL; it is kept in {}", aside.display());
            remove_dir(&aside)?;
            return std::fs::rename(&wal_dir, &aside).while_(|| format!("rename {}", wal_dir.display()));
        }
    }
    remove_dir(&wal_dir)
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.while_(|| format!("remove {}", path.display())),
    }
}

/// Makes everything Postgres will find: the file system's content, `pg_wal`, the socket's directory.
fn data_directory(
    spec: &EndpointSpec,
    new: &NewTimeline,
    client: &Client,
    pages: &Arc<Client>,
) -> Result<FileSystem, Error> {
    let state = &new.state;
    if state.cluster.lsn != new.start {
        let text = format!("state of {} for a timeline that begins at {}", state.cluster.lsn, new.start);
        return Err(Error::Answer(text));
    }
    let major = control_file::major_of(&new.control_template)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let checkpoint = Checkpoint {
        state: &state.cluster,
        timeline: new.timeline,
        at: new.start.record_start(new.segment_bytes),
        time: now.try_into().unwrap_or(i64::MAX),
    };
    let (uid, gid) = owner(spec);
    let options = fs::Options {
        overlay_dir: spec.dir.clone(),
        uid,
        gid,
        version_dir: datadir::version_directory(major, new.catalog_version),
    };
    let source = StorePages { client: Arc::clone(pages), lsn: new.start };
    let file_system = FileSystem::new(options, Arc::new(source)).while_(|| "make the overlay".to_owned())?;
    datadir::fill(&file_system, state, major, new.catalog_version)?;
    let control = control_file::encode(&new.control_template, &checkpoint)?;
    datadir::write(&file_system, "global/pg_control", &control)?;
    datadir::write(&file_system, "postgresql.conf", config::postgresql_conf(spec).as_bytes())?;
    datadir::write(&file_system, "postgresql.auto.conf", b"")?;
    datadir::write(&file_system, "pg_hba.conf", config::pg_hba_conf(spec).as_bytes())?;
    datadir::write(&file_system, "pg_ident.conf", b"")?;
    file_system.symlink("pg_wal", &spec.wal_dir()).while_(|| "link pg_wal".to_owned())?;

    let shape =
        WalShape { magic: major.wal_magic, system_id: new.system_id, segment_bytes: new.segment_bytes };
    let prefix = client.segment_prefix(new.start)?;
    let wal = wal_segment::first_wal(&shape, new.timeline, new.start, prefix, &checkpoint.record())?;
    for (directory, mode) in [(spec.socket_dir(), 0o700), (spec.wal_dir(), 0o700), (spec.mount_dir(), 0o700)]
    {
        make_dir(&directory, mode, spec)?;
    }
    make_dir(&spec.wal_dir().join("archive_status"), 0o700, spec)?;
    set_mode(&spec.dir, 0o711)?; // the server's user must get through
    write_wal(spec, new, &wal)?;
    Ok(file_system)
}

/// Writes the first segment files and the history file of the new timeline, durably.
fn write_wal(spec: &EndpointSpec, new: &NewTimeline, wal: &wal_segment::FirstWal) -> Result<(), Error> {
    let directory = spec.wal_dir();
    for (segment, bytes) in &wal.segments {
        let name = wal_segment::segment_name(new.timeline, *segment, new.segment_bytes);
        write_durably(&directory.join(name), bytes, new.segment_bytes, spec)?;
    }
    let history = wal_segment::history_file(&new.history);
    let name = format!("{:08X}.history", new.timeline.get());
    write_durably(&directory.join(name), history.as_bytes(), history.len() as u64, spec)?;
    for directory in [&directory, &spec.dir] {
        File::open(directory)
            .and_then(|file| file.sync_all())
            .while_(|| format!("sync {}", directory.display()))?;
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8], len: u64, spec: &EndpointSpec) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_len(len)?;
        file.sync_all()
    });
    written.while_(|| format!("write {}", path.display()))?;
    give_to_server(path, 0o600, spec)
}

fn make_dir(path: &Path, mode: u32, spec: &EndpointSpec) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // A dead mount: `fs::mount` removes it; its directory was given to the server when it was made.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => return Ok(()),
        other => other.while_(|| format!("create {}", path.display()))?,
    }
    match give_to_server(path, mode, spec) {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        other => other,
    }
}

fn give_to_server(path: &Path, mode: u32, spec: &EndpointSpec) -> Result<(), Error> {
    set_mode(path, mode)?;
    if let Some((uid, gid)) = spec.run_as {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .while_(|| format!("give {} away", path.display()))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).while_(|| format!("set the mode of {}", path.display()))
}

fn owner(spec: &EndpointSpec) -> (u32, u32) {
    let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    spec.run_as.unwrap_or_else(own)
}

/// Kills Postgres at once, from the file system's own thread, when the overlay cannot take a write.
fn report_failures(
    file_system: &FileSystem,
    server: &Arc<Mutex<Option<Arc<std::os::fd::OwnedFd>>>>,
    events: Sender<Event>,
) {
    let server = Arc::clone(server);
    file_system.on_failure(Arc::new(move |failure| match failure.kind {
        FailureKind::Source => tracing::warn!("page read: {}", failure.text),
        FailureKind::OverlayWrite => {
            if let Some(handle) = &*server.lock() {
                process::send(handle, Signal::KILL);
            }
            let _ = events.send(Event::OverlayFailed(failure.text.clone())); // the run may be over
        }
    }));
}

fn watch_exit(server: &Server, events: Sender<Event>) {
    let handle = server.handle();
    std::thread::spawn(move || {
        process::wait_exit(&handle);
        let _ = events.send(Event::Exited); // nobody waits after a failed start
    });
}

fn spawn_stream(stream: WalStream, alive: Arc<AtomicBool>, events: Sender<Event>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let end = stream.run(&|| alive.load(Ordering::SeqCst));
        let _ = events.send(Event::StreamEnded(end)); // the run may be over
    })
}

/// A server that does not accept connections yet.
struct Pending<'a> {
    agent: &'a Agent,
    server: Server,
    pages: &'a Client,
    events: &'a Receiver<Event>,
}

impl Pending<'_> {
    /// Waits for the first accepted connection. Nobody can have written anything before it, so a server that does
    /// not get there, or is no longer wanted, is simply killed.
    fn wait_ready(mut self) -> Result<(Server, PgClient), Error> {
        let error = loop {
            match self.agent.connect() {
                Ok(pg) => return Ok((self.server, pg)),
                Err(PgError::Server { code, message }) if code != CANNOT_CONNECT_NOW => {
                    break Error::Postgres(format!("postgres refuses the superuser: {message}"));
                }
                Err(_) => {}
            }
            match self.events.recv_timeout(CONNECT_PAUSE) {
                Ok(Event::Exited) => {
                    let lines = self.server.last_log_lines(&self.agent.spec.postgres_log());
                    break Error::Postgres(format!("postgres did not start:\n{lines}"));
                }
                Ok(Event::OverlayFailed(text)) => break Error::Postgres(text),
                Ok(Event::Stop) => break Error::Cancelled,
                Ok(Event::StreamEnded(_)) | Err(_) => {}
            }
        };
        self.pages.cancel();
        process::send(&self.server.handle(), Signal::KILL);
        if let Err(error) = self.server.reap() {
            tracing::warn!("collect postgres: {error}");
        }
        process::kill_orphans(&self.agent.spec.mount_dir());
        Err(error)
    }
}
