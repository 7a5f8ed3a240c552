//! The same Postgres without scion, on the same disk.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scion_tests::process::{self, as_postgres, give_to_postgres, pg_program, wait_for};
use tempfile::TempDir;

/// A stock server.
pub struct Stock {
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl Stock {
    /// Makes a cluster and starts it with `options`; defaults otherwise.
    pub fn new(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("stock-").tempdir().unwrap();
        give_to_postgres(dir.path());
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut stock = Self { dir, options, child: None };
        process::run(
            as_postgres(pg_program("initdb"))
                .args(["-k", "-U", "postgres", "--no-sync", "-D"])
                .arg(stock.data()),
        );
        stock.start();
        stock
    }

    /// A server with default settings and pgbench's tables.
    pub fn with_data(scale: u32) -> Self {
        let stock = Self::new(&[]);
        let scale = scale.to_string();
        process::run(stock.client("pgbench").args(["-i", "-q", "-s", &scale]).stderr(Stdio::null()));
        stock
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = as_postgres(pg_program("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.dir.path())
            .args(["-c", "listen_addresses="])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("stock Postgres to answer", Duration::from_secs(30), || {
            process::output(self.client("psql").args(["-c", "select 1"])).status.success().then_some(())
        });
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
        command.arg("-h").arg(self.dir.path()).args(["-U", "postgres"]).env("PGDATABASE", "postgres");
        command
    }

    /// What one statement prints.
    pub fn psql(&self, sql: &str) -> String {
        process::run(self.client("psql").args(["-XAtq", "-c", sql])).trim().to_owned()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.stop();
    }
}
