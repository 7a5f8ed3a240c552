//! SQL on an endpoint as its superuser, over the unix socket that only scion and Postgres can reach.
//!
//! What must hold
//! - Nothing sent here is written to a log of Postgres or kept by `pg_stat_statements`: it may hold verifiers of
//!   passwords. A password itself is never sent.
//! - What Postgres refuses has the HTTP status that fits its SQLSTATE (appendix A of the manual).
//!
//! Not here: which statements (`catalog`).

use std::path::Path;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use crate::error::{Error, Result};
use crate::postgres::SUPERUSER;

/// How long a connection may take; one that is refused during a start of Postgres is refused at once.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Settings of every session beside those that keep it out of logs: nothing waits for a lock for ever.
const OPTIONS: &str = "-c lock_timeout=30s -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 \
                       -c search_path=pg_catalog -c default_transaction_read_only=off \
                       -c client_min_messages=warning";

/// Connects to `database` of the endpoint in directory `dir` that listens on `port`.
///
/// # Errors
/// 503 if it does not answer, 404 if it has no such database.
pub fn connect(dir: &Path, port: u16, database: &str) -> Result<Client> {
    let mut config = Config::new();
    config.host_path(dir.join("sock")).port(port).user(SUPERUSER).dbname(database);
    let options = format!("{} {OPTIONS}", compute::QUIET_OPTIONS);
    config.application_name("scion").options(&options).connect_timeout(CONNECT_WITHIN);
    config.connect(NoTls).map_err(|error| explained(&error))
}

/// As [`connect`], as `role` and with settings of its own.
///
/// # Errors
/// As [`connect`]; 422 if the role may not log in.
pub fn connect_as(dir: &Path, port: u16, database: &str, role: &str) -> Result<Client> {
    let mut config = Config::new();
    config.host_path(dir.join("sock")).port(port).user(role).dbname(database);
    config.application_name("scion").connect_timeout(CONNECT_WITHIN);
    config.connect(NoTls).map_err(|error| explained(&error))
}

/// An error of Postgres as one of ours.
pub fn explained(error: &postgres::Error) -> Error {
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

/// `text` as an identifier.
pub fn identifier(text: &str) -> String {
    quoted(text, '"')
}

/// `text` as a literal. Only for what holds no backslash: names and verifiers that were checked.
pub fn literal(text: &str) -> String {
    quoted(text, '\'')
}

fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("x'y"), "'x''y'");
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_503() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(connect(temp.path(), 20_000, "postgres").err().unwrap().status, 503);
    }
}
