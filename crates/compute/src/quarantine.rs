//! What a branch inherits that acts on the world outside of it: found before its Postgres starts, put to rest before its
//! first client is let in.
//!
//! | inherited                    | then                                                               |
//! |------------------------------|--------------------------------------------------------------------|
//! | subscription                 | disabled, its `slot_name` NONE; the publisher is never contacted   |
//! | job of `pg_cron`             | `active` false                                                     |
//! | chain of `pg_timetable`      | `live` false                                                       |
//! | foreign server               | named, left as it is                                               |
//!
//! Replication slots are not inherited at all.
//!
//! What must hold
//! - A branch that has none of it pays for a few page reads beside its start, and for no session of Postgres. So what is
//!   looked at are the catalogs' pages: a catalog with no page holds nothing, and a name that is on no page of
//!   `pg_namespace` names no schema. Doubt is settled by SQL.
//! - Tables that a user could have made are changed in a session of their owner: a trigger on one never runs as superuser.
//!
//! Not here: keeping clients out meanwhile (`agent`), remembering that it was done (`server`).

use std::path::Path;

use serde::{Deserialize, Serialize};
use types::{BLOCK_SIZE, BlockNumber, Fork, GLOBAL_TABLESPACE, Lsn, RelFork, RelTag};

use crate::client::{Client, ClientError};
use crate::pg_client::{PgClient, PgError, first, identifier};
use crate::protocol::StateAt;

/// OIDs of catalogs, and the numbers of their files until they are rewritten whole (`catalog/pg_*.h`).
const PG_SUBSCRIPTION: u32 = 6100;
const PG_NAMESPACE: u32 = 2615;
const PG_FOREIGN_SERVER: u32 = 1417;
/// Pages of `pg_namespace` beyond which SQL is asked at once.
const NAMESPACE_BLOCKS_MAX: u32 = 16;
/// Schemas of the schedulers.
const SCHEDULERS: [&str; 2] = ["cron", "timetable"];

/// What was found and put to rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quarantine {
    /// Subscriptions that were disabled and lost their slot's name.
    pub subscriptions: Vec<Inherited>,
    /// Jobs of `pg_cron` that were made inactive.
    pub cron_jobs: Vec<Inherited>,
    /// Chains of `pg_timetable` that were made not live.
    pub timetable_chains: Vec<Inherited>,
    /// Foreign servers; they still reach what they reach from the parent.
    pub foreign_servers: Vec<Inherited>,
}

/// One thing in one database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// The database.
    pub database: String,
    /// Its name or number there.
    pub name: String,
}

impl Quarantine {
    /// True if there was nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether SQL has to look: false only if the state at `lsn` surely holds nothing to put to rest.
///
/// # Errors
/// Those of reading pages.
pub fn is_suspect(client: &Client, state: &StateAt, lsn: Lsn) -> Result<bool, ClientError> {
    let read = |rel: RelFork, blocks: u32| {
        let mut bytes = vec![0; blocks as usize * BLOCK_SIZE];
        client.read_pages(lsn, rel, BlockNumber::new(0), &mut bytes).map(|()| bytes)
    };
    suspect_in(&state.relations, &state.databases, read)
}

fn suspect_in(
    relations: &[(RelFork, u32)],
    databases: &[(u32, u32)],
    read: impl Fn(RelFork, u32) -> Result<Vec<u8>, ClientError>,
) -> Result<bool, ClientError> {
    let file = |tablespace, database, relation| RelFork {
        rel: RelTag { tablespace, database, relation },
        fork: Fork::Main,
    };
    // A catalog that was rewritten has another number: then its old file is not there, and who knows.
    let blocks =
        |wanted: RelFork| relations.iter().find(|(rel, _)| *rel == wanted).map(|(_, blocks)| *blocks);
    if blocks(file(GLOBAL_TABLESPACE, 0, PG_SUBSCRIPTION)) != Some(0) {
        return Ok(true);
    }
    for (tablespace, database) in databases {
        let namespace = file(*tablespace, *database, PG_NAMESPACE);
        let held = match blocks(namespace) {
            Some(held) if held <= NAMESPACE_BLOCKS_MAX => held,
            _ => return Ok(true),
        };
        let servers = blocks(file(*tablespace, *database, PG_FOREIGN_SERVER));
        if servers != Some(0) || names_scheduler(&read(namespace, held)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether pages hold the name of a scheduler's schema, in a row that lives or died.
fn names_scheduler(pages: &[u8]) -> bool {
    SCHEDULERS.iter().any(|name| {
        let name = [name.as_bytes(), &[0]].concat();
        pages.windows(name.len()).any(|bytes| bytes == name)
    })
}

/// Puts to rest what every database of a started server holds.
///
/// # Errors
/// Those of its sessions; what was done before stays done, and doing it again is harmless.
pub fn put_to_rest(socket: &Path, superuser: &str) -> Result<Quarantine, PgError> {
    let mut found = Quarantine::default();
    let list = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY oid";
    // Everybody has this one: its own absence is an error that says so.
    let databases = PgClient::connect_sql(socket, superuser, "template1")?.command(list)?;
    for database in databases.into_iter().filter_map(first) {
        let mut session = Session { socket, database: &database, found: &mut found };
        session.rest(superuser)?;
    }
    Ok(found)
}

struct Session<'a> {
    socket: &'a Path,
    database: &'a str,
    found: &'a mut Quarantine,
}

impl Session<'_> {
    fn rest(&mut self, superuser: &str) -> Result<(), PgError> {
        let mut pg = PgClient::connect_sql(self.socket, superuser, self.database)?;
        let sql = "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                   WHERE d.datname = current_database() AND (s.subenabled OR s.subslotname IS NOT NULL)";
        for name in pg.command(sql)?.into_iter().filter_map(first) {
            let quoted = identifier(&name);
            pg.command(&format!("ALTER SUBSCRIPTION {quoted} DISABLE"))?;
            pg.command(&format!("ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)"))?;
            self.found.subscriptions.push(self.inherited(name));
        }
        let jobs = self.switch_off(&mut pg, "cron.job", "jobid", "active")?;
        self.found.cron_jobs.extend(jobs);
        let chains = self.switch_off(&mut pg, "timetable.chain", "chain_id", "live")?;
        self.found.timetable_chains.extend(chains);
        let servers = pg.command("SELECT srvname FROM pg_foreign_server ORDER BY srvname")?;
        let servers: Vec<_> = servers.into_iter().filter_map(first).map(|it| self.inherited(it)).collect();
        self.found.foreign_servers.extend(servers);
        Ok(())
    }

    /// Makes `flag` false in every row of `table`, in a session of the table's owner; names the rows by `key`.
    fn switch_off(
        &self,
        pg: &mut PgClient,
        table: &str,
        key: &str,
        flag: &str,
    ) -> Result<Vec<Inherited>, PgError> {
        let sql = format!(
            "SELECT r.rolname, r.rolcanlogin FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner \
             WHERE c.oid = to_regclass('{table}') AND c.relkind = 'r' AND 2 = (SELECT count(*) FROM pg_attribute a \
             WHERE a.attrelid = c.oid AND a.attname IN ('{key}', '{flag}') AND NOT a.attisdropped)"
        );
        let Some(row) = pg.command(&sql)?.into_iter().next() else { return Ok(Vec::new()) };
        let [Some(owner), Some(login)] = row.as_slice() else { return Ok(Vec::new()) };
        if login != "t" {
            let text = format!("{table} in database {}: its owner {owner} may not log in", self.database);
            return Err(PgError::Unexpected(text));
        }
        let mut own = PgClient::connect_sql(self.socket, owner, self.database)?;
        let sql = format!("UPDATE {table} SET {flag} = false WHERE {flag} RETURNING {key}");
        let rows = own.command(&sql).or_else(|error| {
            // pg_cron's own trigger fails where the library is not loaded. Only a superuser can go on without.
            own.command("SET session_replication_role = replica").map_err(|_| error)?;
            own.command(&sql)
        })?;
        Ok(rows.into_iter().filter_map(first).map(|it| self.inherited(it)).collect())
    }

    fn inherited(&self, name: String) -> Inherited {
        Inherited { database: self.database.to_owned(), name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tablespace: u32, database: u32, relation: u32) -> RelFork {
        RelFork { rel: RelTag { tablespace, database, relation }, fork: Fork::Main }
    }

    /// One database with these sizes of its catalogs in blocks, and this on its page of schemas.
    fn suspect(subscriptions: Option<u32>, servers: Option<u32>, page: &[u8]) -> bool {
        let mut relations = vec![(file(1663, 5, PG_NAMESPACE), 1)];
        relations.extend(subscriptions.map(|blocks| (file(GLOBAL_TABLESPACE, 0, PG_SUBSCRIPTION), blocks)));
        relations.extend(servers.map(|blocks| (file(1663, 5, PG_FOREIGN_SERVER), blocks)));
        suspect_in(&relations, &[(1663, 5)], |_, _| Ok(page.to_vec())).unwrap()
    }

    #[test]
    fn only_what_is_surely_empty_is_not_looked_at() {
        assert!(!suspect(Some(0), Some(0), b"..public\0..cronjobs\0"));
        assert!(suspect(Some(1), Some(0), b""), "a subscription");
        assert!(suspect(None, Some(0), b""), "a catalog that was rewritten");
        assert!(suspect(Some(0), Some(1), b""), "a foreign server");
        assert!(suspect(Some(0), None, b""));
        assert!(suspect(Some(0), Some(0), b"..cron\0\0"));
        assert!(suspect(Some(0), Some(0), b"..timetable\0"));
    }
}
