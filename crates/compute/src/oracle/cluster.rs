//! A real cluster, made with `initdb`, filled, and shut down; and what its files say.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use types::{ClusterState, Lsn};
use wal::ControlFile;
use wal::segment::segment_name;

pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Something that changes if any row does.
pub const DIGEST: &str = "select md5(string_agg(a::text, ',' order by aid)) from pgbench_accounts a";

const WORKLOAD: &str = "
    set allow_in_place_tablespaces = on;
    create tablespace beside location '';
    reset allow_in_place_tablespaces;
    create table moved tablespace beside as select g from generate_series(1, 5000) g;
    create unlogged table forgotten as select g from generate_series(1, 5000) g;
    create table pending(g int);
    begin;
    insert into pending values (7);
    prepare transaction 'later';
";

/// Directory of PostgreSQL 15's programs: what `SCION_PG_BIN` names, or Debian's.
pub fn pg_bin() -> PathBuf {
    std::env::var_os("SCION_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// The files of a cluster that is shut down.
#[derive(Clone)]
pub struct Cluster {
    /// A directory for whatever belongs to the test; the cluster is in it.
    pub root: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
}

/// User and group `postgres`.
pub fn postgres_user() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line =
        passwd.lines().find(|line| line.starts_with("postgres:")).expect("package postgresql-15 makes it");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

/// A temporary directory that the user `postgres` can reach and write.
pub fn temp_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("scion").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let (uid, gid) = postgres_user();
    std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
    dir
}

/// Runs a Postgres program as the user `postgres`; returns its output, panics if it fails.
pub fn pg(program: &str, arguments: &[&str]) -> String {
    let (uid, gid) = postgres_user();
    let mut command = Command::new(pg_bin().join(program));
    let output = command.args(arguments).uid(uid).gid(gid).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs SQL as the superuser over the unix socket in `sockets`.
pub fn psql(sockets: &Path, port: u16, sql: &str) -> String {
    let port = port.to_string();
    let host = sockets.to_str().unwrap();
    let flags = ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", &port, "-U", "postgres"];
    pg("psql", &[&flags[..], &["-d", "postgres", "-c", sql]].concat()).trim().to_owned()
}

/// A server on a plain directory, stopped when dropped.
pub struct Running<'a> {
    data: &'a Path,
    pub port: u16,
}

impl<'a> Running<'a> {
    /// Starts a server whose sockets are in `data`.
    pub fn start(data: &'a Path, port: u16) -> Self {
        let options = format!(
            "-k {0} -p {port} -c listen_addresses='' -c max_prepared_transactions=10 -c fsync=off",
            data.display()
        );
        let log = data.join("server.log");
        let paths = ["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap()];
        pg("pg_ctl", &[&paths[..], &["-w", "-s", "-o", &options, "start"]].concat());
        Self { data, port }
    }

    pub fn sql(&self, sql: &str) -> String {
        psql(self.data, self.port, sql)
    }

    /// Runs statements one by one in one session.
    fn script(&self, script: &str) {
        let path = self.data.join("script.sql");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let port = self.port.to_string();
        let host = self.data.to_str().unwrap();
        let flags = [
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            "postgres",
        ];
        pg("psql", &[&flags[..], &["-f", path.to_str().unwrap()]].concat());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        pg("pg_ctl", &["-D", self.data.to_str().unwrap(), "-w", "-s", "-m", "fast", "stop"]);
    }
}

impl Cluster {
    /// A cluster with tables, a tablespace, an unlogged table and a prepared transaction, shut down cleanly. It
    /// goes with the directory.
    pub fn stopped(port: u16) -> (TempDir, Self) {
        let dir = temp_dir();
        let root = dir.path().to_owned();
        let data = root.join("data");
        pg("initdb", &["-k", "-N", "-A", "trust", "-U", "postgres", "-D", data.to_str().unwrap()]);
        {
            let server = Running::start(&data, port);
            let port = port.to_string();
            let to = ["-h", data.to_str().unwrap(), "-p", &port, "-U", "postgres", "postgres"];
            pg("pgbench", &[&["-i", "-q", "-s", "1"][..], &to].concat());
            server.script(WORKLOAD);
            pg("pgbench", &[&["-n", "-c", "2", "-t", "300"][..], &to].concat());
        }
        (dir, Self { root, data })
    }

    pub fn control(&self) -> Vec<u8> {
        std::fs::read(self.data.join("global/pg_control")).unwrap()
    }

    /// The state at the end of the log, right after the shutdown checkpoint.
    pub fn state(&self) -> ClusterState {
        self.control_file().cluster_state().unwrap()
    }

    pub fn control_file(&self) -> ControlFile {
        ControlFile::parse(&self.control()).unwrap()
    }

    /// The segment that holds `lsn`, up to it.
    pub fn segment_prefix(&self, lsn: Lsn) -> Vec<u8> {
        let name = segment_name(self.state().timeline, lsn.segment(SEGMENT_BYTES), SEGMENT_BYTES);
        let mut bytes = std::fs::read(self.data.join("pg_wal").join(name)).unwrap();
        bytes.truncate(lsn.offset_in_segment(SEGMENT_BYTES) as usize);
        bytes
    }
}
