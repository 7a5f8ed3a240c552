//! One start of an endpoint: from "the store has a branch" to "Postgres accepts connections and its WAL is shipped".
//!
//! Not here: what is put on disk and into the file system for it (`prepare`).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs::{FailureKind, FileSystem, Mounted};
use parking_lot::Mutex;
use rustix::process::Signal;

use crate::client::Client;
use crate::config;
use crate::control::{Phases, State};
use crate::error::{Error, While};
use crate::limits::FREE_WITHIN;
use crate::postgres::lock;
use crate::postgres::process::{self, Server};
use crate::postgres::shared_memory::release_shared_memory;
use crate::protocol::{self, Failure, NewTimeline};
use crate::shipping::stream::{Alive, WalStream};
use crate::shipping::tail::{self, Tail};
use crate::spec::{Admission, EndpointSpec, TlsVersion};
use crate::sql::passwords;
use crate::sql::pg_client::{PgClient, PgError};
use crate::sql::predefined;
use crate::sql::quarantine::{self, Quarantine};
use crate::sql::replication;
use crate::sql::session::Own;
use crate::threads;

use super::certificate;
use super::known::{Agent, Event, remove_dir};
use super::prepare::{self, Closed, Opening, Prepared};
use super::room;

/// Pause between two looks at a server that starts.
const READY_PAUSE: Duration = Duration::from_millis(2);
/// Line of `postmaster.pid` that says how far the server is, from 0; PostgreSQL's `pidfile.h` counts from 1.
const STATUS_LINE: usize = 7;
const CANNOT_CONNECT_NOW: &str = "57P03";
const TOO_MANY_CONNECTIONS: &str = "53300";

/// A started endpoint.
pub(super) struct Run {
    pub client: Arc<Client>,
    pub pages: Arc<Client>,
    pub file_system: Arc<FileSystem>,
    pub mounted: Mounted,
    pub server: Server,
    pub stream: Option<JoinHandle<()>>,
    /// Who watches how much WAL waits for the store, and the certificate.
    pub watchers: Vec<JoinHandle<()>>,
    pub alive: Arc<Alive>,
    pub events: Receiver<Event>,
    pub stopping: bool,
    /// Whether Postgres is a standby, which writes no WAL.
    pub standby: bool,
    /// Whether this run did what comes before the first client, and another one is to let them in.
    pub settling: bool,
    pub phases: Phases,
}

/// A stop watch for the phases of a start.
pub(super) struct Watch(Instant);

impl Watch {
    /// One that runs.
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> f64 {
        let lap = ms_since(self.0);
        self.0 = Instant::now();
        lap
    }
}

/// Milliseconds, to the microsecond.
fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_micros() as f64 / 1000.0
}

/// What a Postgres of the endpoint can run on: its data directory, mounted, and a connection to the store for it.
pub(super) struct Ground {
    pub client: Arc<Client>,
    pub pages: Arc<Client>,
    pub new: NewTimeline,
    pub prepared: Prepared,
    pub file_system: Arc<FileSystem>,
    pub mounted: Mounted,
    /// Held by every process of a Postgres that runs on it.
    pub lock: File,
    /// Whom to kill when the overlay cannot take a write: empty until there is somebody.
    pub server: Arc<Mutex<Option<Arc<OwnedFd>>>>,
    pub events: Receiver<Event>,
    pub sender: Sender<Event>,
}

/// Makes it on the head of the branch, once nothing of an earlier run is left.
pub(super) fn ground(
    agent: &Arc<Agent>,
    spec: &EndpointSpec,
    closed: Closed,
    watch: &mut Watch,
    phases: &mut Phases,
) -> Result<Ground, Error> {
    let (sender, events) = mpsc::channel();
    let client = Arc::new(Client::new(spec).listed_in(&agent.waiting));
    register(agent, &client, &sender);

    let lock = outlive_the_last(spec)?;
    settle_tail(&client, agent)?;
    phases.tail = watch.lap();
    let new = client.begin_timeline()?;
    note_timeline(agent, &new);
    phases.state = watch.lap();

    let pages = Arc::new(Client::new(spec).listed_in(&agent.waiting));
    let (file_system, prepared) = prepare::data_directory(spec, &new, &client, &pages, closed)?;
    let file_system = Arc::new(file_system);
    *agent.file_system.lock() = Some(Arc::clone(&file_system));
    let server = Arc::new(Mutex::new(None));
    report_failures(agent, &file_system, &pages, &server, sender.clone());
    phases.datadir = watch.lap();

    let mount_dir = spec.mount_dir();
    let mounted = fs::mount(Arc::clone(&file_system), &mount_dir, fs::MountOptions::default())
        .while_(|| format!("mount {}", mount_dir.display()))?;
    phases.mount = watch.lap();
    Ok(Ground { client, pages, new, prepared, file_system, mounted, lock, server, events, sender })
}

/// Starts the endpoint on the head of its branch.
pub(super) fn start(agent: &Arc<Agent>) -> Result<Run, Error> {
    let begun = Instant::now();
    let mut watch = Watch(begun);
    let mut phases = Phases::default();
    let spec = &agent.spec;
    let closed = closed(agent);
    let copied = spec.tls.as_ref().and_then(|files| files.version().ok());
    let ground = ground(agent, spec, closed, &mut watch, &mut phases)?;
    let Ground { client, pages, new, prepared, file_system, mounted, events: received, sender, .. } = ground;
    let Prepared { wal, opening, suspect, exposed, standby } = prepared;

    let server = Server::spawn(spec, ground.lock, wal.wait()?)?;
    *ground.server.lock() = Some(server.handle());
    agent.update(|status| status.postgres_pid = Some(server.pid()));
    let pending = Pending { agent, server, pages: &pages, events: &received };
    let (server, mut pg) = pending.wait_ready(&sender)?;
    let alive = Arc::new(Alive::default());
    let stream = if standby { None } else { Some(wal_stream(agent, &new, &client)?) };
    match &stream {
        Some(stream) => create_slot(stream, &mut pg)?,
        None => forbid_promotion(&spec.mount_dir())?,
    }
    *agent.flush_connection.lock() = Some(pg);
    let own = own(spec, &new)?;
    ready_roles(agent, &own, exposed, standby)?;
    let settling = let_clients_in(agent, &server, &own, (closed.admission, suspect), opening)?;
    (phases.postgres_start, phases.total) = (watch.lap(), ms_since(begun));
    let attended = attend(agent, stream, &file_system, (copied, server.handle()), &alive, sender);
    let Attending { stream, watchers } = attended.inspect_err(|_| alive.end())?;
    Ok(Run {
        client,
        pages,
        file_system,
        mounted,
        server,
        stream,
        watchers,
        alive,
        events: received,
        stopping: false,
        standby,
        settling,
        phases,
    })
}

/// The threads that last for as long as the server.
struct Attending {
    stream: Option<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

/// Ships the WAL and watches what can change while the server runs, each on a thread that lasts for as long as `alive`.
fn attend(
    agent: &Arc<Agent>,
    stream: Option<WalStream>,
    file_system: &Arc<FileSystem>,
    (copied, server): (Option<TlsVersion>, Arc<OwnedFd>),
    alive: &Arc<Alive>,
    events: Sender<Event>,
) -> Result<Attending, Error> {
    let room = stream.as_ref().map(|it| room::watch(agent, file_system, &it.progress, alive)).transpose()?;
    let certificate = certificate::watch(agent, copied, server, alive)?;
    let stream = stream.map(|stream| spawn_stream(stream, Arc::clone(alive), events)).transpose()?;
    Ok(Attending { stream, watchers: room.into_iter().chain(certificate).collect() })
}

fn closed(agent: &Agent) -> Closed {
    Closed {
        admission: agent.admission(),
        passwords_due: agent.passwords().is_some(),
        held: agent.held(),
        // A standby cannot write, so what a start before it wrote is all that can be.
        guarded: agent.spec.read_only && agent.guarded.load(Ordering::SeqCst),
    }
}

fn own<'a>(spec: &'a EndpointSpec, new: &NewTimeline) -> Result<Own<'a>, Error> {
    let major = wal::control::major_of(&new.control_template)?;
    Ok(Own { socket: config::socket_path(spec), superuser: &spec.superuser, major })
}

fn note_timeline(agent: &Agent, new: &NewTimeline) {
    agent.shipped.store(new.start.raw(), Ordering::SeqCst);
    agent.update(|status| {
        status.timeline = Some(new.timeline.get());
        status.start_lsn = Some(new.start.to_string());
    });
}

/// Sees to what roles may do before the first client.
fn ready_roles(agent: &Agent, own: &Own<'_>, exposed: bool, standby: bool) -> Result<(), Error> {
    if exposed {
        guard_roles(agent, own)?;
    }
    if agent.spec.logical && !standby {
        let allowed = replication::allow(own);
        let allowed =
            allowed.map_err(|error| Error::Postgres(format!("allow its roles to replicate: {error}")))?;
        allowed.iter().for_each(|role| tracing::info!("role {role} may replicate from now on"));
    }
    Ok(())
}

/// Takes the roles that reach the server's files and programs out of everybody's reach, and says who had them.
fn guard_roles(agent: &Agent, own: &Own<'_>) -> Result<(), Error> {
    let removed = predefined::guard(own);
    let removed = removed.map_err(|error| Error::Postgres(format!("guard its predefined roles: {error}")))?;
    for (role, member) in removed {
        tracing::warn!("role {member} is no longer a member of {role}: that is for superusers only");
    }
    agent.guarded.store(true, Ordering::SeqCst);
    Ok(())
}

/// Puts to rest what the branch inherited, if there may be something, gives its roles the passwords they are to have, and
/// lets its clients in; true if only another start can do that.
fn let_clients_in(
    agent: &Agent,
    server: &Server,
    own: &Own<'_>,
    (admission, suspect): (Admission, bool),
    opening: Opening,
) -> Result<bool, Error> {
    let spec = &agent.spec;
    if admission == Admission::Nobody {
        return Ok(false);
    }
    if admission == Admission::AfterQuarantine {
        let found = if suspect {
            let found = quarantine::put_to_rest(own, spec);
            found.map_err(|error| Error::Postgres(format!("quarantine of what it inherited: {error}")))?
        } else {
            Quarantine::default()
        };
        for undone in &found.undone {
            tracing::warn!(
                ?undone,
                "could not be put to rest; subscriptions and workers of libraries are off"
            );
        }
        agent.update(|status| status.quarantine = Some(Box::new(found)));
    }
    if let Some(due) = agent.passwords() {
        let set = passwords::set(own, due);
        let since = set.map_err(|error| Error::Postgres(format!("passwords of its roles: {error}")))?;
        agent.update(|status| status.passwords_since = Some(since));
    }
    let files = match opening {
        Opening::Nothing => return Ok(false),
        Opening::Start => return Ok(true),
        // What was not known when they were written.
        Opening::Files(_) if agent.held() => return Ok(true),
        Opening::Files(files) => files,
    };
    // Through the mount, as the kernel remembers what it read.
    for (name, text) in files {
        let path = spec.mount_dir().join(name);
        std::fs::write(&path, text).while_(|| format!("write {}", path.display()))?;
    }
    // The postmaster takes the signal before it takes the next connection.
    process::send(&server.handle(), Signal::HUP);
    Ok(false)
}

/// From here on a stop request reaches this start.
fn register(agent: &Agent, client: &Arc<Client>, events: &Sender<Event>) {
    *agent.client.lock() = Some(Arc::clone(client));
    *agent.events.lock() = Some(events.clone());
    agent.update(|status| status.state = State::Starting);
    if agent.stop.load(Ordering::SeqCst) {
        client.cancel();
    }
}

/// Keeps a superuser's `pg_promote` from making a standby writable: what was written would be in no branch. It asks the
/// postmaster by a file, which cannot be made while there is a link to nowhere in its place. Through the mount, as the
/// kernel remembers that there was none.
fn forbid_promotion(mount_dir: &Path) -> Result<(), Error> {
    let path = mount_dir.join("promote");
    std::os::unix::fs::symlink("no/such/place", &path).while_(|| format!("create {}", path.display()))
}

fn create_slot(stream: &WalStream, pg: &mut PgClient) -> Result<(), Error> {
    let made = stream.create_slot(pg);
    made.map_err(|error| Error::Postgres(format!("create the replication slot: {error}")))
}

fn wal_stream(agent: &Agent, new: &NewTimeline, client: &Arc<Client>) -> Result<WalStream, Error> {
    Ok(WalStream {
        socket: config::socket_path(&agent.spec),
        user: agent.spec.superuser.clone(),
        major: wal::control::major_of(&new.control_template)?,
        timeline: new.timeline,
        start: new.start,
        client: Arc::clone(client),
        shipped: Arc::clone(&agent.shipped),
        pace: Arc::clone(&agent.pace),
        progress: Arc::default(),
    })
}

/// Ships and removes what an earlier run left in `pg_wal`.
///
/// If the branch went on without it, a start somebody asked for takes the branch over; one that follows a crash
/// does not, or two endpoints would take it from each other for ever.
fn settle_tail(client: &Client, agent: &Agent) -> Result<(), Error> {
    let spec = &agent.spec;
    let wal_dir = spec.wal_dir();
    let tail = match tail::ship(client, &wal_dir) {
        Err(Error::Cancelled) => return Err(Error::Unshipped(wal_dir)),
        other => other?,
    };
    match tail {
        Tail::Shipped(head) => tracing::info!("shipped the tail of an earlier run, up to {head}"),
        Tail::Absent => {}
        Tail::Superseded if agent.status.lock().restarts > 0 => {
            let text = "another endpoint writes this branch now";
            return Err(Error::Store(Failure::new(protocol::FailureKind::Fenced, text)));
        }
        Tail::Superseded => {
            let aside = spec.dir.join("pg_wal.superseded");
            tracing::warn!("the branch went on without this WAL; it is kept in {}", aside.display());
            remove_dir(&aside)?;
            return std::fs::rename(&wal_dir, &aside).while_(|| format!("rename {}", wal_dir.display()));
        }
    }
    remove_dir(&wal_dir)
}

/// Waits until no process of an earlier run lives, and takes from the machine what they left in it.
fn outlive_the_last(spec: &EndpointSpec) -> Result<File, Error> {
    let lock = lock::lock_when_free(&lock::lock_path(&spec.dir))?;
    release_shared_memory(&spec.dir);
    detach_dead_mount(&spec.mount_dir())?;
    Ok(lock)
}

/// Detaches what a killed process left mounted, so that a start that fails leaves an ordinary directory.
fn detach_dead_mount(mount_dir: &Path) -> Result<(), Error> {
    use rustix::io::Errno;
    // Not by stat: the kernel may go on answering that from what it remembers of the root directory.
    if !matches!(rustix::fs::statvfs(mount_dir), Err(Errno::NOTCONN | Errno::CONNABORTED)) {
        return Ok(());
    }
    fs::unmount(mount_dir).while_(|| format!("unmount {}", mount_dir.display()))
}

/// Kills Postgres at once, from the file system's own thread, when the overlay cannot take a write; keeps what the
/// store said of a page it does not have, which Postgres only calls an I/O error.
fn report_failures(
    agent: &Arc<Agent>,
    file_system: &FileSystem,
    pages: &Arc<Client>,
    server: &Arc<Mutex<Option<Arc<OwnedFd>>>>,
    events: Sender<Event>,
) {
    let (agent, pages, server) = (Arc::downgrade(agent), Arc::clone(pages), Arc::clone(server));
    file_system.on_failure(Arc::new(move |failure| match failure.kind {
        // A run that is taken apart ends its own reads.
        FailureKind::Source if pages.is_cancelled() => {}
        FailureKind::Source => {
            tracing::warn!("page read: {}", failure.text);
            if let Some(agent) = agent.upgrade() {
                agent.read_errors.lock().note(&failure.text);
                agent.update(|status| status.last_read_error = Some(failure.text.clone()));
            }
        }
        FailureKind::OverlayWrite => {
            if let Some(handle) = &*server.lock() {
                process::send(handle, Signal::KILL);
            }
            let _ = events.send(Event::OverlayFailed(failure.text.clone())); // the run may be over
        }
    }));
}

fn watch_exit(server: &Server, events: Sender<Event>) -> Result<(), Error> {
    let handle = server.handle();
    let watching = threads::spawn("watch postgres", move || {
        process::wait_exit(&handle, None);
        let _ = events.send(Event::Exited); // nobody waits after a failed start
    });
    watching.map(|_| ())
}

fn spawn_stream(
    stream: WalStream,
    alive: Arc<Alive>,
    events: Sender<Event>,
) -> Result<JoinHandle<()>, Error> {
    threads::spawn("ship WAL", move || {
        let end = stream.run(&alive);
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
    /// Waits for the server to say that it is ready, and connects. Nobody can have written anything before that, so a
    /// server that does not get there, or is no longer wanted, is simply killed.
    fn wait_ready(mut self, events: &Sender<Event>) -> Result<(Server, PgClient), Error> {
        let watching = watch_exit(&self.server, events.clone());
        let error = match watching.and_then(|()| self.first_session()) {
            Ok(pg) => return Ok((self.server, pg)),
            Err(error) => error,
        };
        self.pages.cancel();
        process::send(&self.server.handle(), Signal::KILL);
        if let Err(error) = self.server.reap() {
            tracing::warn!("collect postgres: {error}");
        }
        process::kill_orphans(&self.agent.spec.mount_dir());
        Err(error)
    }

    /// A session of its superuser, once it takes connections.
    fn first_session(&self) -> Result<PgClient, Error> {
        let superuser = &self.agent.spec.superuser;
        let mut full_since = None;
        loop {
            if says_ready(&self.agent.spec.mount_dir()) {
                match self.agent.connect() {
                    Ok(pg) if pg.is_superuser() => return Ok(pg),
                    Ok(_) => return Err(Error::Barred(format!("role {superuser} is no superuser"))),
                    Err(PgError::Server { code, .. }) if code == CANNOT_CONNECT_NOW => {}
                    // Clients may have been faster.
                    Err(PgError::Server { code, .. })
                        if code == TOO_MANY_CONNECTIONS
                            && full_since.get_or_insert_with(Instant::now).elapsed() < FREE_WITHIN => {}
                    Err(PgError::Server { message, .. }) => return Err(Error::Barred(message)),
                    Err(_) => {}
                }
            }
            match self.events.recv_timeout(READY_PAUSE) {
                Ok(Event::Exited) => {
                    let lines = self.server.last_log_lines(&self.agent.spec.postgres_log());
                    return Err(Error::Postgres(format!("postgres did not start:\n{lines}")));
                }
                Ok(Event::OverlayFailed(text)) => return Err(Error::Postgres(text)),
                Ok(Event::Stop) => return Err(Error::Cancelled),
                Ok(Event::StreamEnded(_)) | Err(_) => {}
            }
        }
    }
}

/// Whether the server accepts connections, found out as `pg_ctl` does: a try to connect would leave a line in its log.
/// Read through the mount, as the kernel may still hold the line back from the file system.
fn says_ready(mount_dir: &Path) -> bool {
    let text = std::fs::read_to_string(mount_dir.join("postmaster.pid"));
    text.is_ok_and(|text| text.lines().nth(STATUS_LINE).is_some_and(|status| status.trim_end() == "ready"))
}
