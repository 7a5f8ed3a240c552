//! A real PostgreSQL in a temporary directory, on a unix socket only.
//!
//! Postgres refuses to run as root: its programs are then started as user `postgres`.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Directory of the release's programs: of 15 what `SCION_PG_BIN` names or Debian's, of others what `scripts/postgres-majors` put in its cache.
fn bin() -> PathBuf {
    if crate::RELEASE == "15" {
        let debian = || PathBuf::from("/usr/lib/postgresql/15/bin");
        return std::env::var_os("SCION_PG_BIN").map_or_else(debian, PathBuf::from);
    }
    let cache = std::env::var_os("SCION_PG_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres"));
    cache.join(crate::RELEASE).join("bin")
}

/// True if there is such a release; 15 must be there.
pub fn is_installed() -> bool {
    crate::RELEASE == "15" || bin().join("postgres").exists()
}

/// A cluster; its server is killed when this is dropped.
pub struct Server {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// A new cluster with page checksums, not started.
    pub fn initdb() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let server = Self { dir, child: None };
        let data = server.data();
        let data = data.to_str().unwrap();
        run(program("initdb").args([
            "-k",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
            "-U",
            "postgres",
            "-A",
            "trust",
            data,
        ]));
        server
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the server with these settings and waits until it answers.
    pub fn start(&mut self, settings: &[&str]) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.try_start(settings) {
            assert!(Instant::now() < until, "the server does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_start(&mut self, settings: &[&str]) -> bool {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).args(["-k", self.dir.path().to_str().unwrap()]);
        let fixed = [
            "listen_addresses=",
            "fsync=off",
            "wal_keep_size=100GB",
            "autovacuum=off",
            "statement_timeout=30s",
        ];
        for setting in fixed.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            let mut ready = program("pg_isready");
            if ready.arg("-h").arg(self.dir.path()).output().unwrap().status.success() {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Shuts the server down cleanly.
    pub fn stop(&mut self) {
        run(program("pg_ctl").args(["stop", "-m", "fast", "-w", "-D"]).arg(self.data()));
        self.child.take().unwrap().wait().unwrap();
    }

    /// Kills the server where it is.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs SQL in database `postgres`; an error fails the test.
    pub fn sql(&self, text: &str) -> String {
        let output = self.psql(text).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts SQL in database `postgres`, which may end when the server does.
    pub fn psql(&self, text: &str) -> Child {
        let mut command = program("psql");
        command.arg("-h").arg(self.dir.path()).args(["-U", "postgres", "-X", "-q", "-A", "-t"]);
        command.args(["-v", "ON_ERROR_STOP=1", "-f", "-", "postgres"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child
    }

    /// Runs `pgbench` with these arguments against database `postgres`.
    pub fn pgbench(&self, arguments: &[&str]) {
        let mut command = program("pgbench");
        command.arg("-h").arg(self.dir.path()).args(["-U", "postgres"]).args(arguments).arg("postgres");
        run(&mut command);
    }

    /// Writes a file into the temporary directory for a program to read.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What `pg_waldump` prints of the records in the segments from `first` to `last`.
    pub fn waldump(&self, first: &str, last: &str) -> String {
        let path = self.data().join("pg_wal");
        let output = program("pg_waldump").arg("-p").arg(path).args([first, last]).output().unwrap();
        // It ends with an error where the log does.
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of Postgres's programs, run as a user that it accepts.
fn program(name: &str) -> Command {
    let path = bin().join(name);
    let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}
