//! Gives the roles of a started server the passwords that its data does not have yet.
//!
//! What must hold
//! - All of them or none, durable on return: what begins on the branch from the position that is returned on has them.
//! - No verifier is written to a log of Postgres or kept by an extension (`session`).
//!
//! Not here: which passwords (`server`), keeping clients out meanwhile (`agent`).

use postgres_protocol::escape::{escape_identifier as identifier, escape_literal as literal};

use crate::spec::Passwords;
use crate::sql::pg_client::{PgError, first};
use crate::sql::session::Own;

/// Sets `passwords`; since which position the log has them.
///
/// # Errors
/// Those of its session; then nothing is set.
pub fn set(own: &Own<'_>, passwords: &Passwords) -> Result<String, PgError> {
    let mut pg = own.connect_any()?;
    let rows = pg.command("SELECT rolname, rolpassword FROM pg_authid ORDER BY oid")?;
    let statements: Vec<String> = rows
        .into_iter()
        .filter_map(|row| <[Option<String>; 2]>::try_from(row).ok())
        .filter_map(|[name, held]| statement(&name?, held.as_deref(), own.superuser, passwords))
        .collect();
    if !statements.is_empty() {
        // One message is one transaction.
        pg.command(&statements.join("; "))?;
    }
    let flushed = pg.command("SELECT pg_current_wal_flush_lsn()")?.into_iter().next();
    flushed.and_then(first).ok_or_else(|| PgError::Unexpected("no flush position".to_owned()))
}

/// What gives role `name`, which has the verifier `held`, the password it is to have.
fn statement(name: &str, held: Option<&str>, superuser: &str, passwords: &Passwords) -> Option<String> {
    let quoted = || identifier(name);
    match passwords.verifiers.get(name) {
        Some(wanted) if held == Some(wanted) => None,
        Some(wanted) => Some(format!("ALTER ROLE {} PASSWORD {}", quoted(), literal(wanted))),
        None if passwords.no_others && held.is_some() && name != superuser => {
            Some(format!("ALTER ROLE {} PASSWORD NULL", quoted()))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_named_loses_a_password_only_if_that_is_asked_for() {
        let verifiers = [("a\"b".to_owned(), "SCRAM-x".to_owned())].into();
        let fresh = Passwords { verifiers, no_others: true };
        let kept = Passwords { no_others: false, ..fresh.clone() };
        let of = |passwords: &Passwords, name: &str, held: Option<&str>| {
            statement(name, held, "postgres", passwords).unwrap_or_default()
        };
        assert_eq!(of(&fresh, "a\"b", Some("SCRAM-y")), "ALTER ROLE \"a\"\"b\" PASSWORD 'SCRAM-x'");
        assert_eq!(of(&fresh, "a\"b", None), "ALTER ROLE \"a\"\"b\" PASSWORD 'SCRAM-x'");
        assert_eq!(of(&fresh, "a\"b", Some("SCRAM-x")), "");
        assert_eq!(of(&fresh, "other", Some("SCRAM-y")), "ALTER ROLE \"other\" PASSWORD NULL");
        assert_eq!(of(&kept, "other", Some("SCRAM-y")), "");
        assert_eq!(of(&fresh, "other", None), "");
        assert_eq!(of(&fresh, "postgres", Some("SCRAM-y")), "");
    }

    #[test]
    fn a_verifier_is_not_printed() {
        let verifiers = [("a".to_owned(), "SCRAM-x".to_owned())].into();
        let text = format!("{:?}", Passwords { verifiers, no_others: true });
        assert!(text.contains("\"a\"") && !text.contains("SCRAM"), "{text}");
    }
}
