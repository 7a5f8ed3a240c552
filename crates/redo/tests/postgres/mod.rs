//! A real Postgres 15 in a temporary directory, and the work it is given.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// The cluster before and after the workload; both directories of a cleanly shut down server.
pub struct Recorded {
    /// The data directory before the workload.
    pub base: PathBuf,
    /// The data directory after it; its `pg_wal` has all WAL between the two.
    pub after: PathBuf,
    _dir: TempDir,
}

/// Runs the workload on a new cluster.
pub fn record_workload() -> Recorded {
    let dir = tempfile::tempdir().unwrap();
    assert!(Path::new(BIN).join("postgres").exists(), "PostgreSQL 15 must be installed in {BIN}");
    run(Command::new("chmod").arg("755").arg(dir.path()));
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(dir.path()));
    }
    let (base, after) = (dir.path().join("base"), dir.path().join("data"));
    run(tool("initdb")
        .args(["-k", "-E", "UTF8", "--locale=C", "-U", "postgres", "-D"])
        .arg(&after)
        .stdout(Stdio::null()));
    std::fs::write(after.join("postgresql.auto.conf"), settings(dir.path())).unwrap();
    run(Command::new("cp").arg("-a").arg(&after).arg(&base));
    let server = Server::start(&after, dir.path());
    server.workload();
    server.stop();
    Recorded { base, after, _dir: dir }
}

fn settings(sockets: &Path) -> String {
    let sockets = sockets.display();
    format!(
        "listen_addresses = ''\nunix_socket_directories = '{sockets}'\nwal_consistency_checking = 'all'\n\
         wal_compression = lz4\nfsync = off\nmax_wal_size = 8GB\nwal_keep_size = 16GB\nwal_level = logical\n\
         track_commit_timestamp = on\nmax_prepared_transactions = 10\nfull_page_writes = off\n\
         autovacuum = off\ncheckpoint_timeout = 1h\nshared_buffers = 64MB\nmax_connections = 30\n"
    )
}

struct Server {
    data: PathBuf,
    dir: PathBuf,
    running: bool,
}

impl Server {
    fn start(data: &Path, dir: &Path) -> Self {
        let log = dir.join("log");
        run(tool("pg_ctl")
            .args(["-w", "-s", "start", "-D"])
            .arg(data)
            .arg("-l")
            .arg(&log)
            .stdout(Stdio::null()));
        Self { data: data.to_owned(), dir: dir.to_owned(), running: true }
    }

    fn stop(mut self) {
        self.running = false;
        run(tool("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).arg(&self.data));
    }

    fn workload(&self) {
        run(self.client("pgbench").args(["-q", "-i", "-s", "2", "postgres"]).stderr(Stdio::null()));
        self.psql(include_str!("tables.sql"));
        self.pgbench(include_str!("contend.pgbench"), &["-c", "6", "-j", "2", "-t", "400"]);
        run(self
            .client("pgbench")
            .args(["-c", "4", "-j", "2", "-t", "800", "postgres"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()));
        self.psql(include_str!("btree.sql"));
        self.psql("ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT;");
        self.psql(include_str!("heap.sql"));
        self.pgbench(include_str!("contend.pgbench"), &["-c", "6", "-j", "2", "-t", "100"]);
    }

    fn psql(&self, script: &str) {
        let mut psql = self.client("psql");
        let rows = format!("rows={}", self.dir.join("rows").display());
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", &rows, "-d", "postgres", "-f", "-"]);
        let mut child: Child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "a statement failed");
    }

    fn pgbench(&self, script: &str, options: &[&str]) {
        let path = self.dir.join("script");
        std::fs::write(&path, script).unwrap();
        let mut pgbench = self.client("pgbench");
        pgbench.args(options).args(["-n", "--max-tries", "100", "-f"]).arg(&path).arg("postgres");
        run(pgbench.stdout(Stdio::null()).stderr(Stdio::null()));
    }

    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(BIN).join(name));
        command
            .env("PGHOST", &self.dir)
            .env("PGUSER", "postgres")
            .env("PGOPTIONS", "-c client_min_messages=error");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            let _ =
                tool("pg_ctl").args(["-w", "-s", "-m", "immediate", "stop", "-D"]).arg(&self.data).status();
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0")
}

/// A server program, run as a user that Postgres accepts.
fn tool(name: &str) -> Command {
    let path = Path::new(BIN).join(name);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path).current_dir("/");
    command
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
