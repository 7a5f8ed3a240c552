//! SQL on an endpoint, as its owner or as its superuser.

use std::process::Command;
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::process::{self, as_postgres, pg_program, wait_for};
use crate::server::Endpoint;

impl Endpoint {
    /// A connection as the project's owner, over TCP with its password.
    pub fn connect(&self) -> Client {
        self.try_connect().unwrap_or_else(|error| panic!("connect to {}: {error}", self.id))
    }

    /// As `connect`, for an endpoint that may be down.
    pub fn try_connect(&self) -> Result<Client, postgres::Error> {
        let mut config: postgres::Config = self.uri.parse()?;
        config.connect_timeout(Duration::from_secs(5));
        config.connect(NoTls)
    }

    /// Waits until the endpoint answers again.
    pub fn reconnect(&self) -> Client {
        wait_for("the endpoint to answer", Duration::from_secs(60), || self.try_connect().ok())
    }

    /// Runs statements as the owner.
    pub fn execute(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// One number.
    pub fn number(&self, sql: &str) -> i64 {
        number(&mut self.connect(), sql)
    }

    /// The port in its connection string.
    pub fn port(&self) -> String {
        let config: postgres::Config = self.uri.parse().unwrap();
        config.get_ports().first().unwrap().to_string()
    }

    /// A Postgres client program as superuser, over the endpoint's unix socket, which only root and the endpoint's own
    /// user reach.
    pub fn superuser(&self, program: &str) -> Command {
        let mut command = Command::new(pg_program(program));
        command.args(["-h"]).arg(self.dir.join("sock")).args(["-p", &self.port(), "-U", "postgres"]);
        command
    }

    /// A connection as superuser, over the endpoint's unix socket.
    pub fn superuser_client(&self, database: &str) -> Client {
        let mut config = postgres::Config::new();
        config.host_path(self.dir.join("sock")).port(self.port().parse().unwrap());
        config.user("postgres").dbname(database).connect(NoTls).unwrap()
    }

    /// Statements as superuser in database `database`; what they print, unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut command = self.superuser("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        process::run(&mut command).trim().to_owned()
    }

    /// pgbench against database `neondb`.
    pub fn pgbench(&self, arguments: &[&str]) -> Command {
        let mut command = as_postgres(pg_program("pgbench"));
        command.args(arguments).arg(&self.uri);
        command
    }

    /// Every index and table of every database agrees with its heap.
    pub fn amcheck(&self) {
        let mut command = self.superuser("pg_amcheck");
        command.args(["--all", "--install-missing", "--heapallindexed", "--no-dependent-toast"]);
        process::run(&mut command);
    }

    /// Everything a dump shows, as superuser, by the programs in `bin`: they must not be older than the server. The
    /// content of unlogged tables, which a branch does not have, is left out.
    pub fn dumpall_by(&self, bin: &std::path::Path) -> String {
        let mut command = Command::new(bin.join("pg_dumpall"));
        command.args(["-h"]).arg(self.dir.join("sock")).args(["-p", &self.port(), "-U", "postgres"]);
        without_nonces(&process::run(command.args(["--no-sync", "--no-unlogged-table-data"])))
    }

    /// Everything a dump shows, as superuser.
    pub fn dumpall(&self) -> String {
        without_nonces(&process::run(self.superuser("pg_dumpall").args(["--no-sync"])))
    }
}

/// One number from one row.
pub fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// A dump without its `\restrict` lines, which carry a random key.
pub(crate) fn without_nonces(dump: &str) -> String {
    let kept =
        dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    kept.fold(String::new(), |text, line| text + line + "\n")
}
