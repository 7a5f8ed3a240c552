//! From options to a running server, and its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use compute::TlsFiles;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::StoreOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::access::keys::Keys;
use crate::access::tls;
use crate::control::Control;
use crate::control::schedule::{backups, branches, deletion};
use crate::error::{Error, Kind};
use crate::fleet::{Fleet, Launch, page_service, reconcile};
use crate::http::{Context, Counting, router};
use crate::limits::{
    DRAIN_WITHIN, FIRST_REQUEST_WITHIN, HEAD_WITHIN, HTTP2_STREAMS, IDLE_THREADS_KEPT, OPEN_FILES_WANTED,
    REQUEST_THREADS,
};
use crate::machine::data_dir::{DataDir, ServerFile};
use crate::machine::installed::NamedBin;
use crate::machine::postgres::Postgres;
use crate::machine::threads::spawn;
use crate::metadata::Metadata;
use crate::operations::Operations;
use crate::storage::Storage;
use crate::{failpoint, recover};

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where HTTP is answered; port 0 takes a free one.
    pub http: SocketAddr,
    /// Speaks HTTP over TLS only, with the certificate that endpoints show.
    pub http_tls: bool,
    /// Requests that one API key may make in a second; any number if `None`.
    pub rate: Option<NonZeroU32>,
    /// Allows an address that other machines reach without TLS. The key then travels in the clear.
    pub allow_remote: bool,
    /// Directories of Postgres's programs; other places are looked at too.
    pub pg_bin: Vec<NamedBin>,
    /// User that Postgres runs as when this process is root; one for each project if `None`.
    pub run_as: Option<String>,
    /// Certificate and key that endpoints show their clients; made in the data directory if `None`.
    pub tls: Option<TlsFiles>,
    /// Names and addresses that a certificate made in the data directory is for, besides those of this machine's loopback.
    pub tls_names: Vec<String>,
    /// The program that is started as `PROGRAM compute --spec FILE`.
    pub compute_exe: PathBuf,
    /// What else of this machine every Postgres may reach, where the kernel holds it to its own directories.
    pub postgres_paths: Vec<PathBuf>,
    /// Extensions that owners may create, whatever their packages say.
    pub owner_extensions: Vec<String>,
    /// How long a program that reads or writes a schema may run; [`crate::limits::DUMP_WITHIN`] if `None`.
    pub dump_within: Option<Duration>,
    /// Bytes of recent changes kept in memory for a branch before they are written as a layer.
    pub memtable_bytes: usize,
    /// Bytes of those of all branches.
    pub memory_bytes: usize,
}

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not a loopback address and that was not allowed.
    #[error("{0} can be reached by other machines, and the key would travel in the clear")]
    NotLoopback(SocketAddr),
    /// Another server uses the data directory; the text names it.
    #[error("{0}")]
    InUse(String),
    /// It could not be set up; the text names what and why.
    #[error("{0}")]
    Setup(String),
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// HTTP ended with an error.
    #[error("serve HTTP")]
    Http(#[source] std::io::Error),
}

impl From<Error> for ServeError {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::Busy => Self::InUse(error.message),
            _ => Self::Setup(error.message),
        }
    }
}

/// Serves until SIGTERM, SIGINT or `POST /shutdown`. After a signal endpoints go on and are found again by the next
/// server; after a shutdown they are stopped.
///
/// # Errors
/// What kept it from starting.
pub fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    if !options.http.ip().is_loopback() && !options.http_tls && !options.allow_remote {
        return Err(ServeError::NotLoopback(options.http));
    }
    raise_open_files();
    let mut postgres = Postgres::find(&options.pg_bin, options.run_as.as_deref())?;
    postgres.dump_within = options.dump_within.unwrap_or(postgres.dump_within);
    for it in postgres.installed.by_major.values() {
        tracing::info!(version = it.version, bin = %it.bin.display(), "PostgreSQL");
    }
    check_owner_extensions(&options.owner_extensions, &postgres)?;
    let dir = DataDir::open(&options.data_dir)?;
    failpoint::start();
    let key = dir.api_key()?;
    let metadata = Metadata::open(&dir.metadata())?;
    let tls = tls::certificate(dir.path(), options.tls.as_ref(), &options.tls_names)?;
    let keys = Arc::new(Keys::new(options.rate));
    keys.load(&metadata, &key)?;
    let fleet = Arc::new(fleet_of(options, (dir, metadata), postgres, tls));
    let control = Arc::new(Control::new(fleet, keys));
    recover::run(&control)?;
    let waited_for = begin(&control)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(REQUEST_THREADS)
        .thread_keep_alive(IDLE_THREADS_KEPT)
        .build()
        .map_err(|error| ServeError::Setup(format!("start threads: {error}")))?;
    // The first one is there before any request: the runtime only panics without a thread if it has none at all.
    drop(runtime.spawn_blocking(|| ()));
    let result = runtime.block_on(serve_http(options, &control));
    control.dir.remove_server_file();
    let _ = std::fs::remove_file(control.dir.serve_socket());
    control.keys.write_uses(&control.metadata);
    control.life.closing.store(true, Ordering::Release);
    control.life.ending.store(true, Ordering::Release);
    control.fleet.bell.ring();
    runtime.shutdown_timeout(DRAIN_WITHIN);
    wait_for_ends(waited_for.into());
    result
}

fn fleet_of(
    options: &ServeOptions,
    (dir, metadata): (DataDir, Metadata),
    postgres: Postgres,
    tls: TlsFiles,
) -> Fleet {
    let metadata = Arc::new(metadata);
    let operations = Arc::new(Operations::new(Arc::clone(&metadata)));
    let memory = Arc::new(store::Memory::new(options.memory_bytes));
    let store_options = StoreOptions { memtable_bytes: options.memtable_bytes, memory };
    let storage = Arc::new(Storage::new(Arc::new(dir), metadata, store_options));
    let launch = Launch {
        compute_exe: options.compute_exe.clone(),
        tls,
        postgres_paths: options.postgres_paths.clone(),
        owner_extensions: options.owner_extensions.clone(),
    };
    Fleet::new(storage, Arc::new(postgres), operations, Arc::default(), launch)
}

/// Begins to serve pages and to do by itself what has to be done; the threads to wait for at the end.
fn begin(control: &Arc<Control>) -> Result<[JoinHandle<()>; 2], ServeError> {
    let fleet = &control.fleet;
    let socket = page_service::listen(&control.dir.serve_socket())?;
    let own = Arc::clone(fleet);
    spawn("page service", move || page_service::run(&socket, &own))?;
    // What runs is known before the first request is answered.
    reconcile::pass(fleet);
    let loop_of = |name, run: fn(&Arc<Control>)| {
        let control = Arc::clone(control);
        spawn(name, move || run(&control))
    };
    let reconciler = |control: &Arc<Control>| {
        reconcile::run(&control.fleet, || control.keys.write_uses_if_due(&control.metadata));
    };
    let waited_for = [loop_of("reconciler", reconciler)?, loop_of("deletion", deletion::run)?];
    // Not waited for at the end: SQL of a template may take long, and what it leaves is swept.
    loop_of("backups", backups::run)?;
    loop_of("branch schedules", branches::run)?;
    loop_of("idle stores", |control| control.storage.close_idle_until_end(&control.life))?;
    Ok(waited_for)
}

fn check_owner_extensions(extensions: &[String], postgres: &Postgres) -> Result<(), ServeError> {
    compute::check_owner_extensions(extensions).map_err(|error| ServeError::Setup(error.to_string()))?;
    let directories: Vec<PathBuf> =
        postgres.installed.by_major.values().filter_map(|it| compute::control_files(&it.bin)).collect();
    for extension in extensions {
        let file = format!("{extension}.control");
        if !directories.iter().any(|directory| directory.join(&file).is_file()) {
            tracing::warn!(
                "extension {extension} of --owner-extensions is not installed for any PostgreSQL here"
            );
        }
    }
    Ok(())
}

/// Every connection and every layer that is read takes a descriptor: as many as the system lets this process have.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let most = limit.maximum.unwrap_or(u64::MAX);
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files to {most}");
    }
    if most < OPEN_FILES_WANTED {
        tracing::warn!(
            "this process may open {most} files at most, few for many endpoints; \
             raise the hard limit (ulimit -Hn) to {OPEN_FILES_WANTED} or more"
        );
    }
}

/// Waits for loops that were told to end, [`DRAIN_WITHIN`] at most: what one leaves half-done the next start finishes.
fn wait_for_ends(mut loops: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + DRAIN_WITHIN;
    // One that waits for its next turn has nothing to do in it.
    loops.iter().for_each(|it| it.thread().unpark());
    while !loops.is_empty() && Instant::now() < deadline {
        for thread in loops.extract_if(.., |thread| thread.is_finished()) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("the {name} panicked");
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for thread in loops {
        tracing::warn!(
            "the {} is not done; the next start goes on",
            thread.thread().name().unwrap_or_default()
        );
    }
}

async fn serve_http(options: &ServeOptions, control: &Arc<Control>) -> Result<(), ServeError> {
    let address = options.http;
    let watched = tls::Watched::new(&control.fleet.launch.tls);
    let tls = if options.http_tls { Some(tls::of_http(&control.fleet.launch.tls)?) } else { None };
    let listen = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let local = listener.local_addr().map_err(listen)?;
    let shutdown = Arc::new(Notify::new());
    let context = Context::new(Arc::clone(control), Arc::clone(&shutdown));
    let counting = Counting(Arc::clone(&context.connections));
    let app = router(context);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let url = format!("{}://{}", if tls.is_some() { "https" } else { "http" }, reached_at(local));
    let certificate = tls.as_ref().map(|_| control.fleet.launch.tls.certificate.clone());
    let handle = Handle::new();
    end_when_told(handle.clone(), shutdown)?;
    let installed = control.postgres.installed.by_major.values();
    let pg_bin = installed.map(|it| format!("{}={}", it.major, it.bin.display())).collect();
    let pid = std::process::id();
    control.dir.write_server_file(&ServerFile { url: url.clone(), pid, certificate, pg_bin })?;
    tracing::info!(url, data_dir = %control.dir.path().display(), "serving");
    let mut accepting = axum_server::from_tcp(listener).map_err(listen)?.handle(handle);
    accepting.http_builder().http1().header_read_timeout(HEAD_WITHIN);
    accepting.http_builder().http2().keep_alive_interval(HEAD_WITHIN).max_concurrent_streams(HTTP2_STREAMS);
    // When there is no descriptor left it waits a little and goes on.
    let accepting = accepting
        .first_request_timeout(FIRST_REQUEST_WITHIN)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "connection not taken"));
    let serving = match tls {
        Some(config) => {
            let config = RustlsConfig::from_config(Arc::new(config));
            let (life, renewed) = (Arc::clone(&control.life), config.clone());
            spawn("certificate", move || tls::renew(&life, watched, &renewed))?;
            accepting.map(|_| RustlsAcceptor::new(config).acceptor(counting)).serve(app).await
        }
        None => accepting.map(|_| counting).serve(app).await,
    };
    serving.map_err(ServeError::Http)
}

/// An address that this machine reaches `local` at.
fn reached_at(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, local.port())
}

/// Ends what `handle` serves at a signal or a request; requests under way get some time.
fn end_when_told(handle: Handle<SocketAddr>, shutdown: Arc<Notify>) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Http)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Http)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: endpoints go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: endpoints go on"),
            () = shutdown.notified() => tracing::info!("shutdown: endpoints are stopped"),
        }
        handle.graceful_shutdown(Some(DRAIN_WITHIN));
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_not_served_unasked() {
        let options = ServeOptions {
            data_dir: PathBuf::from("/nonexistent"),
            http: SocketAddr::from(([0, 0, 0, 0], 0)),
            http_tls: false,
            rate: None,
            allow_remote: false,
            pg_bin: Vec::new(),
            run_as: None,
            tls: None,
            tls_names: Vec::new(),
            compute_exe: PathBuf::from("/nonexistent"),
            postgres_paths: Vec::new(),
            owner_extensions: Vec::new(),
            dump_within: None,
            memtable_bytes: 1 << 20,
            memory_bytes: 64 << 20,
        };
        assert!(matches!(serve(&options), Err(ServeError::NotLoopback(_))));
    }

    #[test]
    fn a_loop_that_waits_for_its_next_turn_holds_up_no_end() {
        let waiting = std::thread::spawn(|| std::thread::park_timeout(3 * DRAIN_WITHIN));
        let began = Instant::now();
        wait_for_ends(vec![waiting]);
        assert!(began.elapsed() < DRAIN_WITHIN);
    }

    /// Each test has a process of its own, so its limit is nobody else's.
    #[test]
    fn the_server_may_open_as_many_files_as_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..before }).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        setrlimit(Resource::Nofile, before).unwrap();
    }

    #[test]
    fn a_server_on_every_address_is_found_on_this_machine() {
        let at = |text: &str| reached_at(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:7080"), "127.0.0.1:7080");
        assert_eq!(at("[::]:7080"), "[::1]:7080");
        assert_eq!(at("192.0.2.1:7080"), "192.0.2.1:7080");
    }
}
