//! Stock PostgreSQL 15 on a mount whose pages come from another, stopped cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs::{FileSystem, PageSource};
use support::*;
use types::path::{SEGMENT_BLOCKS, parse_relation_path, relation_path};
use types::{BlockNumber, RelFork};

/// Directory of PostgreSQL 15's programs: what `SCION_PG_BIN` names, or Debian's.
fn bin() -> PathBuf {
    std::env::var_os("SCION_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// Reads the files of a stopped cluster.
struct StoppedCluster(PathBuf);

impl PageSource for StoppedCluster {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        let segment = first.get() / SEGMENT_BLOCKS;
        let file = std::fs::File::open(self.0.join(relation_path(rel, segment, VERSION_DIR)))?;
        file.read_exact_at(out, u64::from(first.get() % SEGMENT_BLOCKS) * 8192)
    }
}

fn postgres_ids() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(bin().join(program));
    command.env("LC_ALL", "C").current_dir("/tmp").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{text}\n{}", String::from_utf8_lossy(&stderr));
    text
}

/// A running postmaster; killed by its own pid when dropped.
struct Server {
    child: Child,
    socket_dir: PathBuf,
    port: u16,
}

impl Server {
    fn start(data: &Path, socket_dir: &Path, port: u16) -> Self {
        Self::start_with(&[], data, socket_dir, port)
    }

    fn start_with(settings: &[&str], data: &Path, socket_dir: &Path, port: u16) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(socket_dir.join("log")).unwrap();
        let child = as_postgres("postgres")
            .args(["-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "max_wal_size=256MB"])
            .args(["-c", "autovacuum_naptime=2s", "-c", &format!("port={port}"), "-D"])
            .arg(data)
            .arg("-k")
            .arg(socket_dir)
            .args(settings)
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, socket_dir: socket_dir.to_owned(), port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !server.client("pg_isready").output().unwrap().status.success() {
            let log = || std::fs::read_to_string(socket_dir.join("log")).unwrap();
            assert!(Instant::now() < deadline, "postgres did not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn client(&self, program: &str) -> Command {
        let mut command = as_postgres(program);
        command.arg("-h").arg(&self.socket_dir).args(["-p", &self.port.to_string()]);
        if program != "pg_isready" {
            command.args(["-U", "postgres"]);
        }
        command
    }

    fn sql(&self, database: &str, text: &str) -> String {
        let mut command = self.client("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]);
        run(&mut command).trim_end().to_owned()
    }

    fn signal(&mut self, signal: i32) {
        // SAFETY: the pid is of a child not yet waited for, so it cannot belong to another process.
        unsafe { libc::kill(self.child.id() as i32, signal) };
        self.child.wait().unwrap();
    }

    /// A fast shutdown.
    fn stop(mut self) {
        self.signal(libc::SIGINT);
    }

    /// Kills the postmaster and waits until its children noticed.
    fn crash(mut self, data: &Path) {
        let segment = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
        self.signal(libc::SIGKILL);
        let id = segment.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(20);
        let attached = || {
            let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
            let row = table.lines().find(|row| row.split_whitespace().nth(1) == Some(&id));
            row.is_some_and(|row| row.split_whitespace().nth(6) != Some("0"))
        };
        while attached() {
            assert!(Instant::now() < deadline, "backends outlived their postmaster");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(libc::SIGQUIT);
        }
    }
}

/// A cleanly stopped cluster with pgbench tables, an unlogged table and data checksums.
fn make_cluster(data: &Path, socket_dir: &Path, port: u16) {
    run(as_postgres("initdb").args(["-k", "-N", "-A", "trust", "-U", "postgres", "-D"]).arg(data));
    let server = Server::start(data, socket_dir, port);
    run(server.client("pgbench").args(["-i", "-q", "-s", "3", "postgres"]));
    server.sql("postgres", "CREATE EXTENSION amcheck; CREATE UNLOGGED TABLE u AS SELECT 1 AS x");
    server.sql("postgres", "VACUUM ANALYZE");
    server.stop();
}

/// Puts a stopped cluster's files into a file system: relations by reference, the rest as contents.
fn fill(fs: &FileSystem, data: &Path, wal: &Path) {
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(data.join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            let text = path.to_str().unwrap();
            let meta = entry.metadata().unwrap();
            let mode = meta.permissions().mode() & 0o777;
            match parse_relation_path(text) {
                _ if text == "pg_wal" => fs.symlink("pg_wal", wal).unwrap(),
                _ if meta.is_dir() => {
                    fs.mkdir(text, mode).unwrap();
                    directories.push(path);
                }
                Some((rel, segment)) => {
                    assert_eq!(segment, 0, "the test cluster has no relation above 1 GB");
                    fs.add_relation(rel, (meta.len() / 8192) as u32, rel).unwrap();
                }
                None => fs.write_file(text, &std::fs::read(entry.path()).unwrap(), mode).unwrap(),
            }
        }
    }
}

fn own(path: &Path, ids: (u32, u32)) {
    chown(path, Some(ids.0), Some(ids.1)).unwrap();
}

fn copy_wal(from: &Path, to: &Path, ids: (u32, u32)) {
    std::fs::create_dir_all(to.join("archive_status")).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            own(&to.join(entry.file_name()), ids);
        }
    }
    own(&to.join("archive_status"), ids);
    own(to, ids);
}

/// A cluster behind a mount, and where its parts are. `dir` is bound first, so that it goes after the mount in it.
struct Setup {
    mount: Mount,
    sockets: PathBuf,
    space: PathBuf,
    port: u16,
    dir: tempfile::TempDir,
}

fn set_up(port: u16) -> Setup {
    let ids = postgres_ids().expect("user postgres exists");
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let [original, sockets, wal, space, overlay] =
        ["original", "sockets", "wal", "space", "overlay"].map(|name| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            own(&path, ids);
            path
        });
    make_cluster(&original, &sockets, port);
    copy_wal(&original.join("pg_wal"), &wal, ids);

    let inner = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(dir.path())
        .unwrap();
    let source = Arc::new(StoppedCluster(original.clone()));
    let mount = Mount::owned(ids, inner, &overlay, source, |fs| fill(fs, &original, &wal));
    Setup { mount, sockets, space, port, dir }
}

fn postgres_is_here() -> bool {
    if !fuse_is_here() {
        return false;
    }
    let here = bin().join("postgres").exists() && postgres_ids().is_some();
    if !here {
        let why =
            format!("no {}/postgres, or no user postgres; scripts/setup installs both", bin().display());
        oracle::skips::skipped("15", &why);
    }
    here
}

fn check_everything(server: &Server) {
    let sums = "SELECT sum(abalance) - (SELECT sum(bbalance) FROM pgbench_branches) FROM pgbench_accounts";
    assert_eq!(server.sql("postgres", sums), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pgbench_accounts"), "300000");
    run(server.client("pg_amcheck").args(["--heapallindexed", "--all", "--exclude-database=copy*"]));
}

#[test]
fn postgres_works_and_recovers_from_a_crash_on_a_mount() {
    if !postgres_is_here() {
        return;
    }
    let Setup { dir: _dir, mount, sockets, space, port } = set_up(54_931);
    let server = Server::start(&mount.at, &sockets, port);
    let sql = |text: &str| server.sql("postgres", text);
    assert_eq!(sql("SELECT count(*), sum(bid) FROM pgbench_accounts"), "300000|600000");
    assert_eq!(sql("SELECT x FROM u"), "1");
    run(server.client("pgbench").args(["-c", "4", "-T", "3", "-n", "postgres"]));

    sql("CREATE DATABASE copy_wal TEMPLATE postgres STRATEGY wal_log");
    sql("CREATE DATABASE copy_file TEMPLATE postgres STRATEGY file_copy");
    for database in ["copy_wal", "copy_file"] {
        assert_eq!(server.sql(database, "SELECT count(*) FROM pgbench_accounts"), "300000");
    }
    sql("DROP DATABASE copy_file");
    sql("CREATE TABLE big AS SELECT g AS a, repeat(g::text, 20) AS b FROM generate_series(1, 100000) g");
    sql("CREATE INDEX ON big (a); DELETE FROM big WHERE a % 3 = 0");
    sql("VACUUM big");
    sql("VACUUM FULL big");
    sql("CREATE TABLE emptied AS SELECT * FROM big");
    sql("CHECKPOINT");
    sql("TRUNCATE emptied");
    sql("INSERT INTO emptied SELECT * FROM big LIMIT 5");
    sql(
        "CREATE TEMP TABLE t AS SELECT * FROM big; SET work_mem = '64kB'; SELECT count(*) FROM (SELECT * FROM t ORDER BY b OFFSET 0) s",
    );
    sql("CREATE UNLOGGED TABLE ul AS SELECT * FROM big");

    sql(&format!("CREATE TABLESPACE far LOCATION '{}'", space.display()));
    sql("CREATE TABLE in_far TABLESPACE far AS SELECT generate_series(1, 1000) AS x");
    assert!(
        sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'")
            .starts_with("pg_tblspc/")
    );
    server.crash(&mount.at);

    let server = Server::start(&mount.at, &sockets, port);
    let sql = |text: &str| server.sql("postgres", text);
    assert_eq!(sql("SELECT count(*) FROM big"), "66667");
    assert_eq!(sql("SELECT count(*) FROM emptied"), "5");
    assert_eq!(sql("SELECT count(*) FROM in_far"), "1000");
    assert_eq!(sql("SELECT count(*) FROM ul"), "0");
    run(server.client("pgbench").args(["-c", "4", "-T", "2", "-n", "postgres"]));
    check_everything(&server);
    sql("DROP TABLE in_far");
    sql("DROP TABLESPACE far");
    // What Postgres made where the link was to lead stays, and is in nobody's way but its own.
    for version in std::fs::read_dir(&space).unwrap() {
        std::fs::remove_dir(version.unwrap().path()).unwrap();
    }
    sql(&format!("CREATE TABLESPACE far2 LOCATION '{}'", space.display()));
    server.stop();

    run(as_postgres("pg_checksums").arg("--check").arg("-D").arg(&mount.at));
    let server = Server::start(&mount.at, &sockets, port);
    check_everything(&server);
    server.stop();
    assert!(mount.failures.lock().unwrap().is_empty());
}

#[test]
fn a_base_backup_of_a_mount_starts_on_a_plain_disk() {
    if !postgres_is_here() {
        return;
    }
    let Setup { dir: _dir, mount, sockets, space, port } = set_up(54_932);
    let server = Server::start(&mount.at, &sockets, port);
    server.sql("postgres", &format!("CREATE TABLESPACE far LOCATION '{}'", space.display()));
    server.sql("postgres", "CREATE TABLE in_far TABLESPACE far AS SELECT generate_series(1, 1000) AS x");
    let backup = _dir.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    std::fs::set_permissions(&backup, std::fs::Permissions::from_mode(0o700)).unwrap();
    own(&backup, postgres_ids().unwrap());
    run(server.client("pg_basebackup").args(["-c", "fast", "-D"]).arg(&backup));
    server.stop();
    // Recovery of a backup insists on links in pg_tblspc unless told otherwise.
    let settings = ["-c", "allow_in_place_tablespaces=on"];
    let server = Server::start_with(&settings, &backup, &sockets, port);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM in_far"), "1000");
    check_everything(&server);
    server.stop();
}
