//! Passwords with the verifiers that Postgres keeps of them, and how a transaction gets new ones.
//!
//! A verifier takes thousands of hashes, on purpose. Whoever has the metadata holds up every request, so nothing is hashed
//! meanwhile: a transaction says what it lacked, is undone, and is done again with that.

use std::collections::HashMap;

use super::{Metadata, is_held};
use crate::error::{Error, Result};
use crate::limits::SECRET_ROUNDS;

/// A password and the verifier that Postgres keeps of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// As it is typed.
    pub password: String,
    /// `SCRAM-SHA-256$...`.
    pub verifier: String,
}

impl Secret {
    /// A new random password.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub fn new() -> Result<Self> {
        let password = crate::names::password()?;
        let verifier = hashed(&password);
        Ok(Self { password, verifier })
    }
}

fn hashed(password: &str) -> String {
    debug_assert!(!is_held(), "everybody waits for the metadata while a password is hashed");
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

/// What was hashed for a transaction.
#[derive(Default)]
pub struct Secrets {
    new: Vec<Secret>,
    /// How many of `new` the transaction wanted.
    wanted: usize,
    verifiers: HashMap<String, String>,
    /// Passwords whose verifiers it lacked.
    unhashed: Vec<String>,
}

impl Secrets {
    /// A secret that nobody has.
    pub fn fresh(&mut self) -> Secret {
        self.wanted += 1;
        let made = self.new.get(self.wanted - 1).cloned();
        made.unwrap_or(Secret { password: String::new(), verifier: String::new() })
    }

    /// What Postgres keeps of `password`.
    pub fn verifier(&mut self, password: &str) -> String {
        let made = self.verifiers.get(password).cloned();
        made.unwrap_or_else(|| {
            self.unhashed.push(password.to_owned());
            String::new()
        })
    }

    fn lacks(&self) -> bool {
        self.wanted > self.new.len() || !self.unhashed.is_empty()
    }

    fn begin(&mut self) {
        self.wanted = 0;
        self.unhashed.clear();
    }

    fn make(&mut self) -> Result<()> {
        while self.wanted > self.new.len() {
            self.new.push(Secret::new()?);
        }
        for password in self.unhashed.drain(..) {
            let verifier = hashed(&password);
            self.verifiers.insert(password, verifier);
        }
        Ok(())
    }

    /// So many new ones.
    #[cfg(test)]
    pub fn made(count: usize) -> Self {
        let mut made = Self { wanted: count, ..Self::default() };
        made.make().unwrap();
        made.begin();
        made
    }
}

impl Metadata {
    /// As [`Metadata::write`], for `work` that needs secrets. It is done again with those that it lacked.
    ///
    /// # Errors
    /// Those of `work`, and of SQLite; `Busy` if it lacks others each time.
    pub fn write_with_secrets<T>(
        &self,
        mut work: impl FnMut(&rusqlite::Connection, &mut Secrets) -> Result<T>,
    ) -> Result<T> {
        let mut secrets = Secrets::default();
        let busy = || Error::busy("the roles that this needs passwords for are being changed; try again");
        for _ in 0..SECRET_ROUNDS {
            secrets.begin();
            let done = self.write(|change| {
                let value = work(change, &mut secrets)?;
                if secrets.lacks() { Err(busy()) } else { Ok(value) }
            });
            if !secrets.lacks() {
                return done;
            }
            secrets.make()?;
        }
        Err(busy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_transaction_that_lacks_secrets_is_undone_and_done_again_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        metadata.write(|change| Ok(change.execute_batch("CREATE TABLE t (verifier TEXT)")?)).unwrap();
        let mut rounds = 0;
        let done = metadata.write_with_secrets(|change, secrets| {
            rounds += 1;
            let all = [secrets.fresh(), secrets.fresh()];
            let known = [secrets.verifier("a"), secrets.verifier("b"), secrets.verifier("a")];
            for verifier in all.iter().map(|it| &it.verifier).chain(&known) {
                change.execute("INSERT INTO t VALUES (?)", [verifier])?;
            }
            Ok((all, known))
        });
        let (all, known) = done.unwrap();
        assert_eq!(rounds, 2);
        assert!(all.iter().all(|it| it.password.len() > 8) && all[0].password != all[1].password);
        assert!(known[0] == known[2] && known[0] != known[1]);
        let kept = metadata.read(|connection| {
            let sql = "SELECT count(*) FROM t WHERE verifier LIKE 'SCRAM-SHA-256$4096:%'";
            Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(kept.unwrap(), 5, "nothing of the first time is there");
    }

    #[test]
    fn what_is_refused_is_refused_whatever_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        let refused = metadata.write_with_secrets(|_, secrets| {
            secrets.fresh();
            Err::<(), _>(Error::conflict("taken"))
        });
        assert_eq!(refused.unwrap_err().kind, Kind::Conflict);
    }
}
