//! Sessions of scion itself in a Postgres whose data, roles and settings belong to its users.
//!
//! Users may `ALTER DATABASE ... SET`, `ALTER ROLE ... SET`, make event triggers, revoke `CONNECT`, and put functions of
//! any name into `public`. None of it may decide whether scion's own statements succeed, what they answer, or who runs
//! what as superuser. Options of a connection come before all that a catalog says of a role or a database, so what scion
//! relies on is in them, whether or not Postgres's default would do.
//!
//! | made by users                                | then                                                           |
//! |----------------------------------------------|----------------------------------------------------------------|
//! | settings of a role or a database             | the same setting is in the options                             |
//! | a preload library of a session, or none such | no session preloads any                                        |
//! | functions, operators, tables in `public`     | names are looked up in `pg_catalog` only                       |
//! | triggers and rules of tables                 | none fires but by `ENABLE ALWAYS`: `session_replication_role`  |
//! | event triggers, from 17 those of logins too  | off from 17; before, the same as for triggers                  |
//! | a synchronous standby that is not there      | commits wait for the local disk only                           |
//! | revoked `CONNECT`, limits of connections     | a superuser is not asked                                       |
//! | locks, slow functions                        | `lock_timeout` and `statement_timeout`                         |
//!
//! What must hold: nothing sent here is written to a log of Postgres or kept by an extension, as it may hold verifiers of
//! passwords.
//!
//! Not here: the sessions of `server`, which takes the options from here; a role that cannot log in any more
//! (`agent::mend`).

use std::path::PathBuf;
use std::time::Duration;

use wal::Major;

use crate::sql::pg_client::{PgClient, PgError};

/// How long a statement may run.
const STATEMENT_S: u64 = 60;
/// How long an answer may take: a statement's time, and the store's for the pages it reads.
const ANSWER_WITHIN: Duration = Duration::from_secs(STATEMENT_S + 10);
/// Databases that every cluster begins with and that users have no reason to take away, the likeliest first.
const EVERYBODYS: [&str; 2] = ["postgres", "template1"];

/// What any role may set.
const OF_ANYBODY: &[(&str, &str)] = &[
    ("role", "none"),
    ("search_path", "pg_catalog,pg_temp"),
    ("local_preload_libraries", ""),
    ("statement_timeout", "60s"),
    ("lock_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("synchronous_commit", "local"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "warning"),
    ("exit_on_error", "off"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("row_security", "on"),
    ("default_tablespace", ""),
    ("temp_tablespaces", ""),
    ("default_table_access_method", "heap"),
    ("jit", "off"),
    ("debug_print_parse", "off"),
    ("debug_print_rewritten", "off"),
    ("debug_print_plan", "off"),
];

/// What only a superuser may set.
const OF_SUPERUSER: &[(&str, &str)] = &[
    ("session_preload_libraries", ""),
    ("session_replication_role", "replica"),
    ("lc_messages", "C"),
    ("dynamic_library_path", "$libdir"),
    ("temp_file_limit", "-1"),
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("log_duration", "off"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_transaction_sample_rate", "0"),
    ("pg_stat_statements.track", "none"),
    ("auto_explain.log_min_duration", "-1"),
    ("pgaudit.log", "none"),
];

/// What came with 17.
const SINCE_17: &[(&str, &str)] = &[("event_triggers", "off"), ("transaction_timeout", "0")];

/// What would keep a superuser out, end or hold up the session or whatever is done in it, or make somebody else of it.
const TO_GET_IN: &[(&str, &str)] = &[
    ("role", "none"),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    // Another encoding than the database's needs a library that comes with Postgres.
    ("dynamic_library_path", "$libdir"),
    ("statement_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("synchronous_commit", "local"),
    ("exit_on_error", "off"),
];

/// Options of a superuser's session of scion on this major, for the start of a connection or `PGOPTIONS`.
pub fn session_options(major: i32) -> String {
    let newer = if major >= 17 { SINCE_17 } else { &[] };
    options(&[OF_ANYBODY, OF_SUPERUSER, newer])
}

/// The same as arguments of a Postgres in single-user mode.
pub fn arguments(major: i32) -> Vec<String> {
    let newer = if major >= 17 { SINCE_17 } else { &[] };
    let all = OF_ANYBODY.iter().chain(OF_SUPERUSER).chain(newer);
    all.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
}

/// Options with which a person gets in as superuser, stays in and is one, whatever users set or made. Everything else is as
/// the person would find it with any other client.
pub fn entry_options(major: i32) -> String {
    let newer = if major >= 17 { SINCE_17 } else { &[] };
    options(&[TO_GET_IN, newer])
}

fn options(lists: &[&[(&str, &str)]]) -> String {
    let all = lists.iter().copied().flatten();
    // Backslashes keep blanks together.
    all.map(|(name, value)| format!("-c {name}={}", value.replace(' ', "\\ "))).collect::<Vec<_>>().join(" ")
}

/// Where the sessions of a start are.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    /// Postgres's private socket.
    pub socket: PathBuf,
    /// Name of the cluster's superuser.
    pub superuser: &'a str,
    /// Which Postgres.
    pub major: &'a Major,
}

impl Own<'_> {
    /// Connects as superuser.
    ///
    /// # Errors
    /// `Server` if there is no such database, or it takes no connections.
    pub fn connect(&self, database: &str) -> Result<PgClient, PgError> {
        let options = session_options(self.major.number.cast_signed());
        PgClient::connect_sql(&self.socket, (self.superuser, database), &options, ANSWER_WITHIN)
    }

    /// Connects as superuser to a database that should be there, for what all databases share.
    ///
    /// # Errors
    /// What the last of them said.
    pub fn connect_any(&self) -> Result<PgClient, PgError> {
        let mut last = Err(PgError::Unexpected("no database".to_owned()));
        for database in EVERYBODYS {
            last = self.connect(database);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Connects as the owner of something, whose own functions may then run.
    ///
    /// # Errors
    /// `Server` if the role may not log in or connect.
    pub fn connect_as(&self, role: &str, database: &str) -> Result<PgClient, PgError> {
        let options = options(&[OF_ANYBODY]);
        PgClient::connect_sql(&self.socket, (role, database), &options, ANSWER_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_a_major_does_not_have_is_not_asked_of_it() {
        assert!(!session_options(16).contains("event_triggers"));
        assert!(session_options(17).contains("-c event_triggers=off"));
    }

    #[test]
    fn a_value_with_a_blank_stays_one() {
        assert!(session_options(15).contains("-c default_transaction_isolation=read\\ committed "));
        assert!(arguments(15).contains(&"default_transaction_isolation=read committed".to_owned()));
    }

    #[test]
    fn a_statement_ends_before_its_answer_is_given_up() {
        assert!(session_options(15).contains(&format!("-c statement_timeout={STATEMENT_S}s")));
    }
}
