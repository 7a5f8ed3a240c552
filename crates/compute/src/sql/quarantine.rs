//! What a branch inherits that acts on the world outside of it: found before its Postgres starts, put to rest before its
//! first client is let in.
//!
//! | inherited                         | then                                                                  |
//! |-----------------------------------|-----------------------------------------------------------------------|
//! | subscription                      | disabled, its `slot_name` NONE; the publisher is never contacted      |
//! | subscription of `pglogical`       | disabled, its slot another one                                        |
//! | job of `pg_cron`, `pgagent`       | `active` (`jobenabled`) false                                         |
//! | chain of `pg_timetable`           | `live` false                                                          |
//! | foreign server                    | named, left as it is                                                  |
//! | other preloaded library that acts | named, left as it is                                                  |
//!
//! Replication slots are not inherited at all.
//!
//! What must hold
//! - A branch that has none of it pays for a few page reads beside its start, and for no session of Postgres. So what is
//!   looked at are the catalogs' pages: a catalog with no page holds nothing, and a name that is on no page of
//!   `pg_namespace` names no schema. Doubt is settled by SQL.
//! - Until it is over nothing acts: Postgres preloads no library, and runs no subscription.
//! - What could not be put to rest never keeps the owner out: the branch starts without what would act (`config::Acts`),
//!   says so, and tries again at its next start.
//!
//! Not here: the SQL (`rest`), keeping clients out meanwhile (`agent`), remembering that it was done (`server`).

mod rest;

use serde::{Deserialize, Serialize};
use types::{BLOCK_SIZE, BlockNumber, Fork, GLOBAL_TABLESPACE, Lsn, RelFork, RelTag, StateAt};

use crate::client::{Client, ClientError};
use crate::cluster::libraries;
use crate::spec::EndpointSpec;

pub use rest::put_to_rest;

/// OIDs of catalogs, and the numbers of their files until they are rewritten whole (`catalog/pg_*.h`).
const PG_SUBSCRIPTION: u32 = 6100;
const PG_NAMESPACE: u32 = 2615;
const PG_FOREIGN_SERVER: u32 = 1417;
/// Pages of `pg_namespace` beyond which SQL is asked at once.
const NAMESPACE_BLOCKS_MAX: u32 = 16;
/// Schemas of what is known to act.
const SCHEMAS: [&str; 4] = ["cron", "timetable", "pglogical", "pgagent"];
/// Libraries that act on what is in such a schema only.
const KNOWN: [&str; 2] = ["pg_cron", "pglogical"];

/// What was found and put to rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quarantine {
    /// Subscriptions that were disabled and lost their slot's name.
    pub subscriptions: Vec<Inherited>,
    /// Subscriptions of `pglogical` that were disabled and have the name of another slot.
    pub pglogical_subscriptions: Vec<Inherited>,
    /// Jobs of `pg_cron` that were made inactive.
    pub cron_jobs: Vec<Inherited>,
    /// Jobs of `pgagent` that were disabled.
    pub pgagent_jobs: Vec<Inherited>,
    /// Chains of `pg_timetable` that were made not live.
    pub timetable_chains: Vec<Inherited>,
    /// Foreign servers; they still reach what they reach from the parent.
    pub foreign_servers: Vec<Inherited>,
    /// Preloaded libraries that act by themselves, of which nobody here knows how; they do.
    pub libraries: Vec<String>,
    /// Databases that nobody may connect to, which were not looked into.
    pub closed_databases: Vec<String>,
    /// What could not be put to rest. While there is some, no subscription runs and no library is preloaded that acts.
    pub undone: Vec<Undone>,
}

/// One thing in one database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// The database.
    pub database: String,
    /// Its name or number there.
    pub name: String,
}

/// Something that could not be put to rest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Undone {
    /// The database; none if it is of all.
    pub database: Option<String>,
    /// What it is.
    pub what: String,
    /// Why not.
    pub reason: String,
}

impl Quarantine {
    /// True if there was nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What there may be to put to rest: false only where there surely is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Suspicion {
    /// Subscriptions.
    pub subscriptions: bool,
    /// Anything else.
    pub others: bool,
}

impl Suspicion {
    /// Whether SQL has to look.
    pub fn is_any(self) -> bool {
        self.subscriptions || self.others
    }
}

/// What the state at `lsn` and the endpoint's libraries give to suspect.
///
/// # Errors
/// Those of reading pages.
pub fn suspicion(
    client: &Client,
    state: &StateAt,
    lsn: Lsn,
    spec: &EndpointSpec,
) -> Result<Suspicion, ClientError> {
    let read = |rel: RelFork, blocks: u32| {
        let mut bytes = vec![0; blocks as usize * BLOCK_SIZE];
        client.read_pages(lsn, rel, BlockNumber::new(0), &mut bytes).map(|()| bytes)
    };
    let found = suspicion_in(&state.relations, &state.databases, read)?;
    Ok(Suspicion { others: found.others || !unknown_libraries(spec).is_empty(), ..found })
}

/// The libraries that act in a way that nobody here knows.
fn unknown_libraries(spec: &EndpointSpec) -> Vec<String> {
    let acting = libraries::acting(spec).into_iter();
    acting.filter(|written| !KNOWN.contains(&libraries::base(written))).map(str::to_owned).collect()
}

fn suspicion_in(
    relations: &[(RelFork, u32)],
    databases: &[(u32, u32)],
    read: impl Fn(RelFork, u32) -> Result<Vec<u8>, ClientError>,
) -> Result<Suspicion, ClientError> {
    let file = |tablespace, database, relation| RelFork {
        rel: RelTag { tablespace, database, relation },
        fork: Fork::Main,
    };
    // A catalog that was rewritten has another number: then its old file is not there, and who knows.
    let blocks =
        |wanted: RelFork| relations.iter().find(|(rel, _)| *rel == wanted).map(|(_, blocks)| *blocks);
    let subscriptions = blocks(file(GLOBAL_TABLESPACE, 0, PG_SUBSCRIPTION)) != Some(0);
    for (tablespace, database) in databases {
        let namespace = file(*tablespace, *database, PG_NAMESPACE);
        let held = match blocks(namespace) {
            Some(held) if held <= NAMESPACE_BLOCKS_MAX => held,
            _ => return Ok(Suspicion { subscriptions, others: true }),
        };
        let servers = blocks(file(*tablespace, *database, PG_FOREIGN_SERVER));
        if servers != Some(0) || names_one(&read(namespace, held)?) {
            return Ok(Suspicion { subscriptions, others: true });
        }
    }
    Ok(Suspicion { subscriptions, others: false })
}

/// Whether pages hold the name of a schema of what acts, in a row that lives or died.
fn names_one(pages: &[u8]) -> bool {
    SCHEMAS.iter().any(|name| libraries::holds(pages, &[name.as_bytes(), &[0]].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tablespace: u32, database: u32, relation: u32) -> RelFork {
        RelFork { rel: RelTag { tablespace, database, relation }, fork: Fork::Main }
    }

    /// One database with these sizes of its catalogs in blocks, and this on its page of schemas.
    fn suspicion(subscriptions: Option<u32>, servers: Option<u32>, page: &[u8]) -> (bool, bool) {
        let mut relations = vec![(file(1663, 5, PG_NAMESPACE), 1)];
        relations.extend(subscriptions.map(|blocks| (file(GLOBAL_TABLESPACE, 0, PG_SUBSCRIPTION), blocks)));
        relations.extend(servers.map(|blocks| (file(1663, 5, PG_FOREIGN_SERVER), blocks)));
        let found = suspicion_in(&relations, &[(1663, 5)], |_, _| Ok(page.to_vec())).unwrap();
        assert_eq!(found.is_any(), found.subscriptions || found.others);
        (found.subscriptions, found.others)
    }

    #[test]
    fn only_what_is_surely_empty_is_not_looked_at() {
        assert_eq!(suspicion(Some(0), Some(0), b"..public\0..cronjobs\0"), (false, false));
        assert_eq!(suspicion(Some(1), Some(0), b""), (true, false), "a subscription");
        assert_eq!(suspicion(None, Some(0), b""), (true, false), "a catalog that was rewritten");
        assert_eq!(suspicion(Some(0), Some(1), b""), (false, true), "a foreign server");
        assert_eq!(suspicion(Some(0), None, b""), (false, true));
        for schema in SCHEMAS {
            assert_eq!(suspicion(Some(0), Some(0), format!("..{schema}\0\0").as_bytes()), (false, true));
        }
    }

    #[test]
    fn what_an_older_version_says_of_a_quarantine_is_understood() {
        let old = r#"{"subscriptions": [{"database": "d", "name": "s"}], "cron_jobs": []}"#;
        let found: Quarantine = serde_json::from_str(old).unwrap();
        assert!(found.subscriptions.len() == 1 && found.undone.is_empty() && !found.is_empty());
    }
}
