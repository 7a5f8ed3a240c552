//! Stock Postgres recovering the same WAL to the same place: the oracle.
//!
//! A base backup of a running endpoint and the WAL it streams are taken with Postgres's own programs, so that nothing
//! of scion's store is on this side of the comparison.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use types::Lsn;

use crate::process::{self, as_postgres, give_to_postgres, pg_program, wait_for};
use crate::server::Endpoint;
use crate::sql;

/// A base backup of an endpoint, and all WAL since, as `pg_receivewal` writes it.
pub struct Archive {
    dir: TempDir,
    receiver: Child,
}

/// Where recovery stops.
#[derive(Clone, Debug)]
pub enum Target {
    /// Before the first record that starts at or after this LSN.
    Lsn(String),
    /// Before the first commit later than this time.
    Time(String),
}

impl Archive {
    /// Begins to stream the endpoint's WAL and takes a base backup.
    pub fn begin(endpoint: &Endpoint) -> Self {
        let dir = tempfile::Builder::new().prefix("oracle-").tempdir().unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        give_to_postgres(dir.path());
        let receiver = endpoint
            .superuser("pg_receivewal")
            .args(["--no-loop", "--synchronous", "-D"])
            .arg(dir.path().join("wal"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let archive = Self { dir, receiver };
        wait_for("pg_receivewal to write", Duration::from_secs(20), || {
            fs::read_dir(archive.wal_dir()).unwrap().next().map(|_| ())
        });
        process::run(
            endpoint
                .superuser("pg_basebackup")
                .args(["-X", "none", "--checkpoint=fast", "--no-sync", "--no-manifest", "-D"])
                .arg(archive.base()),
        );
        archive
    }

    /// Waits until WAL up to `lsn` (of `pg_current_wal_flush_lsn()`) is here, then ends the stream.
    pub fn finish(&mut self, endpoint: &Endpoint) {
        let end = endpoint.psql("postgres", "select pg_current_wal_flush_lsn()");
        let caught_up = format!(
            "select flush_lsn >= '{end}'::pg_lsn from pg_stat_replication where application_name = 'pg_receivewal'"
        );
        wait_for("pg_receivewal to catch up", Duration::from_secs(60), || {
            (endpoint.psql("postgres", &caught_up) == "t").then_some(())
        });
        self.end_receiver();
        give_to_postgres(self.dir.path());
        for entry in fs::read_dir(self.wal_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "partial") {
                fs::rename(&path, path.with_extension("")).unwrap();
            }
        }
    }

    fn end_receiver(&mut self) {
        process::signal(i32::try_from(self.receiver.id()).unwrap(), libc::SIGINT);
        self.receiver.wait().unwrap();
    }

    /// The directory of WAL segments.
    pub fn wal_dir(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    /// End of the base backup: the first LSN it can be recovered to.
    pub fn backup_end(&self) -> Lsn {
        let found = self.records(|record| record.contains("BACKUP_END"));
        *found.last().expect("a base backup ends with its record")
    }

    /// Starts of all records after the base backup, in order.
    pub fn record_starts(&self) -> Vec<Lsn> {
        let end = self.backup_end();
        self.records(|_| true).into_iter().filter(|lsn| *lsn > end).collect()
    }

    /// How many records of this kind there are; `kind` as `pg_waldump` names it, such as `CREATE_ID`.
    pub fn count(&self, kind: &str) -> usize {
        self.records(|record| record.contains(&format!("desc: {kind}"))).len()
    }

    fn records(&self, wanted: impl Fn(&str) -> bool) -> Vec<Lsn> {
        let mut segments: Vec<PathBuf> = fs::read_dir(self.wal_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().len() == 24)
            .collect();
        segments.sort();
        let output = process::output(
            Command::new(pg_program("pg_waldump"))
                .arg(segments.first().unwrap())
                .arg(segments.last().unwrap()),
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| wanted(line))
            .map(|line| line.split("lsn: ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap())
            .collect()
    }

    /// Recovers a copy of the base backup to `target`, promotes it, and stops it with everything on disk.
    pub fn recover(&self, target: &Target) -> Stock {
        let dir = tempfile::Builder::new().prefix("stock-").tempdir().unwrap();
        let data = dir.path().join("data");
        process::run(Command::new("cp").arg("-a").arg(self.base()).arg(&data));
        let _ = fs::remove_dir_all(data.join("pg_wal"));
        fs::create_dir(data.join("pg_wal")).unwrap();
        fs::create_dir(dir.path().join("sock")).unwrap();
        fs::write(data.join("recovery.signal"), "").unwrap();
        let stop = match target {
            Target::Lsn(lsn) => format!("recovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = off\n"),
            // The setting is parsed before time zone abbreviations such as Z are known.
            Target::Time(time) => {
                format!("recovery_target_time = '{}'\n", time.replace('T', " ").replace('Z', "+00"))
            }
        };
        let restore = format!("restore_command = 'cp {}/%f %p'\n", self.wal_dir().display());
        let rest = "recovery_target_action = promote\nrecovery_target_timeline = current\n";
        let conf = format!("{stop}{restore}{rest}{SETTINGS}");
        let mut auto = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
        auto.push_str(&conf);
        fs::write(data.join("postgresql.auto.conf"), auto).unwrap();
        give_to_postgres(dir.path());
        let mut stock = Stock { dir, options: Vec::new(), child: None };
        stock.start();
        stock.stop();
        stock
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if matches!(self.receiver.try_wait(), Ok(None)) {
            self.end_receiver();
        }
    }
}

/// No network, no background writers, nothing that changes pages by itself, and no answer before recovery ends.
const SETTINGS: &str = "listen_addresses = ''\nautovacuum = off\nfsync = off\nhot_standby = off\n\
    shared_buffers = '64MB'\nmax_logical_replication_workers = 0\nrestart_after_crash = off\n";

/// A stock server in a directory of its own.
pub struct Stock {
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl Stock {
    /// Makes a cluster with checksums and starts it with `options`; defaults otherwise.
    pub fn create(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("stock-").tempdir().unwrap();
        fs::create_dir(dir.path().join("sock")).unwrap();
        give_to_postgres(dir.path());
        // Subscribers run as other users.
        for directory in [dir.path().to_owned(), dir.path().join("sock")] {
            fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let options =
            ["-c", "listen_addresses="].iter().chain(options).map(|&option| option.to_owned()).collect();
        let mut stock = Self { dir, options, child: None };
        let initdb = ["-k", "-U", "postgres", "--no-sync", "-D"];
        process::run(as_postgres(pg_program("initdb")).args(initdb).arg(stock.data()));
        stock.start();
        stock
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of its socket, which is for port 5432.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// What it wrote to its standard error.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts it and waits until it answers: at the end of recovery, if there is one to do.
    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let child = as_postgres(pg_program("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.socket())
            .args(["-p", "5432"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("stock Postgres to answer", Duration::from_secs(120), || self.answers().then_some(()));
    }

    fn answers(&mut self) -> bool {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
            panic!("stock postgres ended: {status}\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
        process::output(self.client("psql").args(["-c", "select 1"])).status.success()
    }

    /// Clean shutdown.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(i32::try_from(child.id()).unwrap(), libc::SIGINT);
            child.wait().unwrap();
        }
    }

    /// A client program of database `postgres`.
    pub fn client(&self, program: &str) -> Command {
        let mut command = as_postgres(pg_program(program));
        command
            .arg("-h")
            .arg(self.socket())
            .args(["-p", "5432", "-U", "postgres"])
            .env("PGDATABASE", "postgres");
        command
    }

    /// What one statement prints.
    pub fn psql(&self, sql: &str) -> String {
        process::run(self.client("psql").args(["-XAtq", "-c", sql])).trim().to_owned()
    }

    /// Everything a dump shows.
    pub fn dumpall(&self) -> String {
        sql::without_nonces(&process::run(self.client("pg_dumpall").args(["--no-sync"])))
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.stop();
    }
}
