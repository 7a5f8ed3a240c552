//! SQL on an endpoint as its superuser, over the unix socket that only scion and Postgres can reach.
//!
//! What must hold
//! - Nothing that users set, make or break in their data decides what happens here: `compute::session_options`.
//! - Nothing sent here is written to a log of Postgres or kept by `pg_stat_statements`: it may hold verifiers of
//!   passwords. A password itself is never sent.
//! - Every call ends. Postgres ends a statement that takes too long; where it does not, this gives it up.
//! - What Postgres refuses has the HTTP status that fits its SQLSTATE (appendix A of the manual).
//!
//! Not here: which statements (`catalog::change`).

use std::future::Future;
use std::path::Path;
use std::time::Duration;

pub use postgres_protocol::escape::{escape_identifier as identifier, escape_literal as literal};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, Row};

use crate::error::{Error, Result};
use crate::limits::{CALL_WITHIN, CANCEL_WITHIN, CONNECT_WITHIN, THEIRS_WITHIN};

/// The superuser of every cluster; reached over the unix socket only.
pub const SUPERUSER: &str = "postgres";

/// Databases that every cluster begins with and that users have no reason to take away, the likeliest first.
const EVERYBODYS: [&str; 2] = [SUPERUSER, "template1"];

/// Where a Postgres can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The endpoint's directory.
    pub dir: &'a Path,
    /// The port in the name of its socket.
    pub port: u16,
    /// Its major version.
    pub major: i32,
}

impl Address<'_> {
    /// Connects to `database` as superuser.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer, `NotFound` if it has no such database.
    pub fn connect(&self, database: &str) -> Result<Client> {
        let mut config = self.config(SUPERUSER, database);
        config.options(compute::session_options(self.major));
        Client::connect(&config, CALL_WITHIN, barred)
    }

    /// Connects as superuser for what all databases share, to one that should be there.
    ///
    /// # Errors
    /// What the last of them said.
    pub fn connect_any(&self) -> Result<Client> {
        let mut last = Err(Error::internal("no database"));
        for database in EVERYBODYS {
            last = self.connect(database);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Connects as `role`, with the settings that it has there.
    ///
    /// # Errors
    /// As [`Address::connect`]; `Refused` if the role may not log in.
    pub fn connect_as(&self, database: &str, role: &str) -> Result<Client> {
        Client::connect(&self.config(role, database), THEIRS_WITHIN, explained)
    }

    /// Runs statements that make event triggers fire in `database`, all of them or none, without firing any. Before 17 those
    /// that always fire have to be off meanwhile.
    ///
    /// # Errors
    /// As [`Address::connect`], and what Postgres says of them.
    pub fn change(&self, database: &str, statements: &str) -> Result<()> {
        let mut client = self.connect(database)?;
        let sql = "SELECT evtname::text, CASE evtenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END \
                   FROM pg_event_trigger WHERE evtenabled IN ('A', 'R') ORDER BY oid";
        let always = if self.major < 17 { client.query(sql, &[])? } else { Vec::new() };
        let (mut off, mut on) = (String::new(), String::new());
        for row in &always {
            let (name, when): (String, String) = (row.get(0), row.get(1));
            off.push_str(&format!("ALTER EVENT TRIGGER {} DISABLE; ", identifier(&name)));
            on.push_str(&format!("; ALTER EVENT TRIGGER {} ENABLE {when}", identifier(&name)));
        }
        client.batch_execute(&format!("{off}{statements}{on}"))
    }

    fn config(&self, role: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.dir.join("sock")).port(self.port).user(role).dbname(database);
        config.application_name("scion");
        config
    }
}

/// A session, every call of which ends.
pub struct Client {
    runtime: Runtime,
    client: tokio_postgres::Client,
    within: Duration,
}

impl Client {
    fn connect(
        config: &Config,
        within: Duration,
        refused: fn(&tokio_postgres::Error) -> Error,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("make a runtime"))?;
        let connected =
            runtime.block_on(async { tokio::time::timeout(CONNECT_WITHIN, config.connect(NoTls)).await });
        let text = "Postgres of the branch takes no connection in time";
        let (client, connection) =
            connected.map_err(|_| Error::unavailable(text))?.map_err(|error| refused(&error))?;
        // It ends with the client, and says nothing that a call does not.
        runtime.spawn(async { drop(connection.await) });
        Ok(Self { runtime, client, within })
    }

    /// Runs statements.
    ///
    /// # Errors
    /// What Postgres says; `Unavailable` if it takes too long.
    pub fn batch_execute(&mut self, statements: &str) -> Result<()> {
        self.call(self.client.batch_execute(statements))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// As [`Client::batch_execute`].
    pub fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.call(self.client.query(sql, parameters))
    }

    /// The only row of a query.
    ///
    /// # Errors
    /// As [`Client::batch_execute`], or if it is not one.
    pub fn query_one(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.call(self.client.query_one(sql, parameters))
    }

    /// The only row of a query, if there is one.
    ///
    /// # Errors
    /// As [`Client::batch_execute`], or if there are more.
    pub fn query_opt(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        self.call(self.client.query_opt(sql, parameters))
    }

    fn call<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            if let Ok(done) = tokio::time::timeout(self.within, work.as_mut()).await {
                return done.map_err(|error| explained(&error));
            }
            // The backend is asked to end it. If it does not listen, it finds its client gone.
            let (cancelled, patience) = (self.client.cancel_token(), CANCEL_WITHIN.min(self.within));
            let _ = tokio::time::timeout(patience, cancelled.cancel_query(NoTls)).await;
            let _ = tokio::time::timeout(patience, work).await;
            let text = format!(
                "a statement in Postgres of the branch was given up after {} s",
                self.within.as_secs()
            );
            Err(Error::unavailable(text))
        })
    }
}

/// Why the superuser gets no session. Who may not log in, or set what superusers may, is no superuser any more.
fn barred(error: &tokio_postgres::Error) -> Error {
    let own = [SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INSUFFICIENT_PRIVILEGE];
    match error.as_db_error() {
        Some(said) if own.contains(said.code()) => Error::unavailable(format!(
            "Postgres of the branch refuses its superuser, which scion needs: {}\n\
             hint: restart the endpoint, which mends the role {SUPERUSER}",
            said.message()
        )),
        _ => explained(error),
    }
}

/// An error of Postgres as one of ours.
fn explained(error: &tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else {
        return Error::unavailable(format!("Postgres of the branch: {}", crate::error::chain(error)));
    };
    let text = match (said.detail(), said.hint()) {
        (Some(detail), _) => format!("{}: {detail}", said.message()),
        (None, Some(hint)) => format!("{}\nhint: {hint}", said.message()),
        (None, None) => said.message().to_owned(),
    };
    let code = said.code();
    match code {
        &SqlState::DUPLICATE_OBJECT | &SqlState::DUPLICATE_DATABASE => Error::conflict(text),
        &SqlState::UNDEFINED_OBJECT | &SqlState::UNDEFINED_DATABASE => Error::gone(text),
        &SqlState::OBJECT_IN_USE | &SqlState::LOCK_NOT_AVAILABLE => Error::busy(text),
        &SqlState::DISK_FULL => Error::disk_full(text),
        _ => match code.code().get(..2) {
            Some("08" | "53" | "57" | "58") => Error::unavailable(text),
            Some("XX") => Error::internal(text),
            _ => Error::refused("POSTGRES_REFUSED", text),
        },
    }
}

/// The argument of a program of Postgres's that means the database called `name` and nothing else: to libpq a name with
/// an `=`, or one that begins like a URI, is a connection string, which may name another server.
pub fn database_argument(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_name_of_a_database_is_no_connection_string() {
        for name in ["neondb", "host=127.0.0.1 port=1", "postgresql://x/y", "a'b\\' user='c", ""] {
            let parsed: Config = database_argument(name).parse().unwrap();
            assert_eq!(parsed.get_dbname(), Some(name));
            assert!(parsed.get_hosts().is_empty() && parsed.get_user().is_none(), "{name}");
        }
    }

    /// A server that says this to each who connects, and nothing after that.
    fn silent(dir: &Path, said: &'static [u8]) {
        std::fs::create_dir(dir.join("sock")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.join("sock/.s.PGSQL.5432")).unwrap();
        std::thread::spawn(move || {
            let mut clients = Vec::new();
            while let Ok((mut client, _)) = listener.accept() {
                std::io::Write::write_all(&mut client, said).unwrap();
                clients.push(client);
            }
        });
    }

    #[test]
    fn a_call_that_is_never_answered_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        silent(temp.path(), b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
        let place = Address { dir: temp.path(), port: 5432, major: 15 };
        let config = place.config(SUPERUSER, "postgres");
        let mut client = Client::connect(&config, Duration::from_millis(50), explained).unwrap();
        let error = client.batch_execute("DROP DATABASE x").unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("given up"), "{}", error.message);
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_503() {
        let temp = tempfile::tempdir().unwrap();
        let place = Address { dir: temp.path(), port: 20_000, major: 15 };
        assert_eq!(place.connect_any().err().unwrap().kind, Kind::Unavailable);
    }
}
