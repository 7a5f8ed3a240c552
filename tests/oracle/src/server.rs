//! A stock PostgreSQL in a temporary directory, and its data directory before and after a load.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::skips::skipped;

/// Directory of PostgreSQL 15's programs: what `SCION_PG_BIN` names, or Debian's.
fn v15_bin() -> PathBuf {
    std::env::var_os("SCION_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// The programs of one major version. Its clients are those of 15, which work with every major.
#[derive(Clone, Debug)]
pub struct Postgres {
    major: u32,
    prefix: PathBuf,
}

impl Postgres {
    /// Version 15.
    ///
    /// # Panics
    /// If it is not installed.
    pub fn v15() -> Self {
        Self::of(15).expect("PostgreSQL 15 must be installed: scripts/setup")
    }

    /// The version `major`, if it is here: 15 as `SCION_PG_BIN` says or where Debian puts it, others where `scripts/postgres-majors` does.
    pub fn of(major: u32) -> Option<Self> {
        if major != 15 {
            return Self::release(&major.to_string());
        }
        let prefix = v15_bin().canonicalize().ok()?.parent()?.to_owned();
        prefix.join("bin/postgres").is_file().then_some(Self { major, prefix })
    }

    /// What `scripts/postgres-majors` was asked for, a major or an older minor such as `18.4`; `None`, and said so, if it
    /// is not there.
    pub fn release(name: &str) -> Option<Self> {
        let cache = std::env::var_os("SCION_PG_CACHE").map(PathBuf::from);
        let cache =
            cache.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres"));
        let prefix = cache.join(name).canonicalize().unwrap_or_default();
        if prefix.join("bin/postgres").is_file() {
            let major = name.split('.').next()?.parse().ok()?;
            return Some(Self { major, prefix });
        }
        let why = format!("there is no PostgreSQL {name}; `scripts/postgres-majors {name}` installs it");
        skipped(name, &why);
        None
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Its minor version, such as `15.18`.
    pub fn version(&self) -> String {
        let output = self.tool("postgres").arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().nth(2).unwrap_or("unknown").to_owned()
    }

    /// The directory of its programs.
    pub fn bin(&self) -> PathBuf {
        self.prefix.join("bin")
    }

    /// The directory of its loadable libraries.
    pub fn library_dir(&self) -> PathBuf {
        let libraries = self.prefix.join("lib");
        let below = libraries.join("postgresql");
        if below.join("plpgsql.so").exists() { below } else { libraries }
    }

    /// The headers of its server, if they came with it.
    pub fn headers(&self) -> Option<PathBuf> {
        let candidates = ["include/postgresql/server", "include/server"].map(|name| self.prefix.join(name));
        candidates.into_iter().find(|dir| dir.join("postgres.h").exists())
    }

    /// A program of the server, run as a user that Postgres accepts.
    pub fn tool(&self, name: &str) -> Command {
        self.as_server_user(&self.bin().join(name))
    }

    /// A program run as the user that the server runs as.
    pub fn as_server_user(&self, program: &Path) -> Command {
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
            .arg(program)
            .current_dir("/");
        command
    }

    /// How images of pages are to be compressed: by what takes no time, if this server was built with it. With pglz it is
    /// busy with nothing else.
    fn compression(&self, data: &Path) -> &'static str {
        let mut postgres = self.tool("postgres");
        postgres.args(["-C", "wal_compression", "-c", "wal_compression=lz4", "-D"]).arg(data);
        let known = postgres.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
        if known { "lz4" } else { "off" }
    }
}

/// The cluster before and after a load; both directories of a cleanly shut down server.
pub struct Recorded {
    /// The data directory before the load.
    pub base: PathBuf,
    /// The data directory after it; its `pg_wal` has all WAL between the two.
    pub after: PathBuf,
    _dir: TempDir,
}

/// Settings under which every record carries the page as it was after it, and all WAL is kept.
pub const SETTINGS: &str = "wal_consistency_checking = 'all'\nfsync = off\nmax_wal_size = 8GB\nwal_keep_size = 16GB\nwal_level = logical\n\
     track_commit_timestamp = on\nmax_prepared_transactions = 10\nfull_page_writes = off\n\
     autovacuum = off\ncheckpoint_timeout = 1h\nshared_buffers = 64MB\nmax_connections = 30\n";

/// Runs `load` on a new cluster with `settings`.
pub fn record(postgres: &Postgres, settings: &str, load: impl FnOnce(&Server)) -> Recorded {
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("chmod").arg("755").arg(dir.path()));
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(dir.path()));
    }
    let (base, after) = (dir.path().join("base"), dir.path().join("data"));
    run(postgres
        .tool("initdb")
        .args(["-k", "-E", "UTF8", "--locale=C", "-A", "trust", "-U", "postgres", "-D"])
        .arg(&after)
        .stdout(Stdio::null()));
    let (sockets, compression) = (dir.path().display(), postgres.compression(&after));
    let settings = format!(
        "listen_addresses = ''\nunix_socket_directories = '{sockets}'\nwal_compression = {compression}\n{settings}"
    );
    std::fs::write(after.join("postgresql.auto.conf"), settings).unwrap();
    run(Command::new("cp").arg("-a").arg(&after).arg(&base));
    let server = Server::start(postgres, &after, dir.path());
    load(&server);
    for line in crashes(&dir.path().join("log")) {
        println!("the server crashed: {line}");
    }
    server.stop();
    Recorded { base, after, _dir: dir }
}

/// What ended the server, by its log: a bug of its own, and no load for a judge.
fn crashes(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let marks = ["was terminated by signal", "Failed process was running", "PANIC:"];
    let of_one = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    String::from_utf8_lossy(&text).lines().filter(of_one).map(str::to_owned).collect()
}

/// A running server.
pub struct Server {
    postgres: Postgres,
    /// Its data directory, if ending it is ours to do.
    data: Option<PathBuf>,
    dir: PathBuf,
    sockets: PathBuf,
    port: String,
}

impl Server {
    fn start(postgres: &Postgres, data: &Path, dir: &Path) -> Self {
        let log = dir.join("log");
        run(postgres
            .tool("pg_ctl")
            .args(["-w", "-s", "start", "-D"])
            .arg(data)
            .arg("-l")
            .arg(&log)
            .stdout(Stdio::null()));
        let mut server = Self::at(postgres, dir, dir, "5432");
        server.data = Some(data.to_owned());
        server
    }

    /// A server that somebody else runs, with its socket for `port` in `sockets`. It may write to `dir`.
    pub fn at(postgres: &Postgres, dir: &Path, sockets: &Path, port: &str) -> Self {
        let (dir, sockets) = (dir.to_owned(), sockets.to_owned());
        Self { postgres: postgres.clone(), data: None, dir, sockets, port: port.to_owned() }
    }

    fn stop(mut self) {
        let data = self.data.take();
        run(self.postgres.tool("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).args(data));
    }

    /// Its programs.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// A directory that the server may write to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of its socket.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The port that its socket is named after.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Gives `path` to the user that the server runs as.
    pub fn give_away(&self, path: &Path) {
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres:").arg(path));
        }
    }

    /// Runs a script with psql in database `postgres`; `:rows` is a file that `COPY` may use.
    ///
    /// # Panics
    /// If a statement fails.
    pub fn psql(&self, script: &str) {
        let mut psql = self.client("psql");
        let rows = format!("rows={}", self.dir.join("rows").display());
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", &rows, "-d", "postgres", "-f", "-"]);
        let mut child: Child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "a statement failed");
    }

    /// Runs a script with pgbench.
    pub fn pgbench(&self, script: &str, options: &[&str]) {
        let path = self.dir.join("script");
        std::fs::write(&path, script).unwrap();
        let mut pgbench = self.client("pgbench");
        pgbench.args(options).args(["-n", "--max-tries", "100", "-f"]).arg(&path).arg("postgres");
        run(pgbench.stdout(Stdio::null()).stderr(Stdio::null()));
    }

    /// A client program that connects to this server.
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(v15_bin().join(name));
        command
            .env("PGHOST", &self.sockets)
            .env("PGPORT", &self.port)
            .env("PGUSER", "postgres")
            .env("PGOPTIONS", "-c client_min_messages=error");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(data) = &self.data {
            let mut stop = self.postgres.tool("pg_ctl");
            let _ = stop.args(["-w", "-s", "-m", "immediate", "stop", "-D"]).arg(data).status();
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0")
}

/// Runs `command` to its end, with nothing to read.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
