//! Puts to rest what every database of a started server holds, by SQL.
//!
//! What must hold
//! - What is of all databases is found though one of them cannot be entered: `pg_subscription` is changed as a table, from
//!   outside.
//! - Only what belongs to an extension is taken for its jobs: a table that an application calls `cron.job` is nobody's
//!   business. `pg_timetable` is no extension; its table is known by its name and columns.
//! - No function of a user runs as superuser. A table of an extension is changed only if nothing that somebody attached to
//!   it would run; one that a user owns and that is of no extension is changed in a session of that user.

use postgres_protocol::escape::{escape_identifier as identifier, escape_literal as literal};

use crate::spec::EndpointSpec;
use crate::sql::pg_client::{PgClient, PgError, first};
use crate::sql::session::Own;

use super::{Inherited, Quarantine, Undone, unknown_libraries};

/// Disables every subscription of the cluster. So does `ALTER SUBSCRIPTION`, one at a time and in its database.
const DISABLE: &str = "UPDATE pg_subscription s SET subenabled = false, subslotname = NULL FROM pg_database d \
    WHERE d.oid = s.subdbid AND (s.subenabled OR s.subslotname IS NOT NULL) RETURNING d.datname, s.subname";
/// Databases with whether they can be entered; one whose DROP was interrupted (-2) holds nothing any more.
const DATABASES: &str = "SELECT datname, datallowconn FROM pg_database \
    WHERE datname <> 'template0' AND datconnlimit <> -2 ORDER BY oid";

/// Whether nothing of a user's would run in a change of table `c`, in a session whose `session_replication_role` is
/// `replica`.
const CLEAN: &str = "(NOT c.relhasrules \
    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '') \
    AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('A', 'R')) \
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x')) \
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL \
        OR i.indpred IS NOT NULL OR EXISTS (SELECT FROM unnest(i.indclass::oid[]) class WHERE class >= 16384))))";
/// Of the rows of `pg_timetable`'s own table, and of no other that inherits from it.
const END_CHAINS: &str = "UPDATE ONLY timetable.chain SET live = false WHERE live RETURNING chain_id";

/// Whether `c` is a table with these columns, the second of them a boolean. So reading it runs nothing of a user's. OIDs
/// below 16384 are of what comes with Postgres (`FirstNormalObjectId`).
fn shape(key: &str, flag: &str) -> String {
    let (key, flag) = (literal(key), literal(flag));
    format!(
        "(c.relkind = 'r' AND 2 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid \
         AND NOT a.attisdropped AND a.attgenerated = '' \
         AND (a.attname = {key} AND a.atttypid < 16384 OR a.attname = {flag} AND a.atttypid = 16)))"
    )
}

fn changed(how: &str) -> PgError {
    PgError::Untouched(format!("the table was changed: {how}"))
}

/// A table whose rows make an extension act.
struct Table {
    extension: &'static str,
    schema: &'static str,
    table: &'static str,
    key: &'static str,
    flag: &'static str,
    /// What else is set, and of which rows.
    also: Option<(&'static str, &'static str)>,
    into: fn(&mut Quarantine) -> &mut Vec<Inherited>,
}

const TABLES: [Table; 3] = [
    Table {
        extension: "pg_cron",
        schema: "cron",
        table: "job",
        key: "jobid",
        flag: "active",
        also: None,
        into: |found| &mut found.cron_jobs,
    },
    Table {
        extension: "pgagent",
        schema: "pgagent",
        table: "pga_job",
        key: "jobid",
        flag: "jobenabled",
        also: None,
        into: |found| &mut found.pgagent_jobs,
    },
    // With the name of its slot it would drop the slot that the parent needs. It has to have some name.
    Table {
        extension: "pglogical",
        schema: "pglogical",
        table: "subscription",
        key: "sub_name",
        flag: "sub_enabled",
        also: Some((
            "sub_slot_name = left('held_' || sub_slot_name, 63)",
            "NOT starts_with(sub_slot_name::text, 'held_')",
        )),
        into: |found| &mut found.pglogical_subscriptions,
    },
];

/// Puts to rest what every database of a started server holds. What cannot be is among what is found.
///
/// # Errors
/// The server ended; what was done before stays done, and doing it again is harmless.
pub fn put_to_rest(own: &Own<'_>, spec: &EndpointSpec) -> Result<Quarantine, PgError> {
    let mut found = Quarantine { libraries: unknown_libraries(spec), ..Quarantine::default() };
    let mut pg = match own.connect_any() {
        Ok(pg) => pg,
        Err(error) => {
            found.undone.push(undone(None, "whatever it inherited", error)?);
            return Ok(found);
        }
    };
    match pg.command(DISABLE) {
        Ok(rows) => found.subscriptions.extend(rows.into_iter().filter_map(inherited)),
        Err(error) => found.undone.push(undone(None, "subscriptions", error)?),
    }
    let databases = match pg.command(DATABASES) {
        Ok(rows) => rows,
        Err(error) => {
            found.undone.push(undone(None, "the list of databases", error)?);
            return Ok(found);
        }
    };
    drop(pg);
    for row in databases {
        let [Some(database), Some(open)] = row.as_slice() else { continue };
        if open != "t" {
            found.closed_databases.push(database.clone());
            continue;
        }
        let rested = Database { own, name: database }.rest(&mut found);
        if let Err(error) = rested {
            found.undone.push(undone(Some(database), "the database", error)?);
        }
    }
    Ok(found)
}

/// A refusal as something undone; the end of the server stays an error.
fn undone(database: Option<&str>, what: &str, error: PgError) -> Result<Undone, PgError> {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match error {
        PgError::Io(error) if !matches!(error.kind(), TimedOut | WouldBlock) => Err(PgError::Io(error)),
        PgError::Io(_)
        | PgError::Server { .. }
        | PgError::Malformed(_)
        | PgError::Unexpected(_)
        | PgError::Untouched(_) => {
            let database = database.map(str::to_owned);
            Ok(Undone { database, what: what.to_owned(), reason: error.to_string() })
        }
    }
}

fn inherited(row: Vec<Option<String>>) -> Option<Inherited> {
    let [database, name] = row.try_into().ok()?;
    Some(Inherited { database: database?, name: name? })
}

struct Database<'a> {
    own: &'a Own<'a>,
    name: &'a str,
}

impl Database<'_> {
    fn rest(&self, found: &mut Quarantine) -> Result<(), PgError> {
        let mut pg = self.own.connect(self.name)?;
        for table in &TABLES {
            match self.switch_off(&mut pg, table) {
                Ok(rows) => (table.into)(found).extend(rows),
                Err(error) => {
                    let what = format!("{}.{} of {}", table.schema, table.table, table.extension);
                    found.undone.push(undone(Some(self.name), &what, error)?);
                }
            }
        }
        match self.end_chains(&mut pg) {
            Ok(rows) => found.timetable_chains.extend(rows),
            Err(error) => {
                found.undone.push(undone(Some(self.name), "timetable.chain of pg_timetable", error)?);
            }
        }
        let servers = pg.command("SELECT srvname FROM pg_foreign_server ORDER BY srvname")?;
        found.foreign_servers.extend(self.named(servers));
        Ok(())
    }

    /// Makes the flag false in every row of a table that belongs to its extension, as superuser.
    fn switch_off(&self, pg: &mut PgClient, table: &Table) -> Result<Vec<Inherited>, PgError> {
        let Table { extension, schema, table, key, flag, also, .. } = table;
        let sql = format!(
            "SELECT {}, {CLEAN} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 \
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' \
             JOIN pg_extension e ON e.oid = d.refobjid \
             WHERE e.extname = {} AND n.nspname = {} AND c.relname = {}",
            shape(key, flag),
            literal(extension),
            literal(schema),
            literal(table),
        );
        let Some(row) = pg.command(&sql)?.into_iter().next() else { return Ok(Vec::new()) };
        let (set, of) = also
            .map_or((String::new(), String::new()), |(set, of)| (format!(", {set}"), format!(" OR {of}")));
        let name = format!("{}.{}", identifier(schema), identifier(table));
        let (key, flag) = (identifier(key), identifier(flag));
        match row.as_slice() {
            [Some(shape), _] if shape != "t" => return Err(changed("its columns are others")),
            [_, Some(clean)] if clean == "t" => {}
            _ if pg.command(&format!("SELECT FROM ONLY {name} WHERE {flag}{of} LIMIT 1"))?.is_empty() => {
                return Ok(Vec::new());
            }
            _ => return Err(changed("what was attached to it would run as superuser")),
        }
        let sql = format!("UPDATE ONLY {name} SET {flag} = false{set} WHERE {flag}{of} RETURNING {key}");
        let rows = pg.command(&sql)?;
        Ok(self.named(rows))
    }

    /// Makes every chain of `pg_timetable` not live, in a session of the table's owner unless that is a superuser.
    fn end_chains(&self, pg: &mut PgClient) -> Result<Vec<Inherited>, PgError> {
        let sql = format!(
            "SELECT r.rolname, r.rolsuper, {CLEAN} FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'timetable' AND c.relname = 'chain' AND {}",
            shape("chain_id", "live"),
        );
        let Some(row) = pg.command(&sql)?.into_iter().next() else { return Ok(Vec::new()) };
        let [Some(owner), Some(superuser), Some(clean)] = row.as_slice() else { return Ok(Vec::new()) };
        if pg.command("SELECT FROM ONLY timetable.chain WHERE live LIMIT 1")?.is_empty() {
            return Ok(Vec::new());
        }
        let rows = match (superuser == "t", clean == "t") {
            (false, _) => self.own.connect_as(owner, self.name)?.command(END_CHAINS)?,
            (true, true) => pg.command(END_CHAINS)?,
            (true, false) => return Err(changed("what was attached to it would run as superuser")),
        };
        Ok(self.named(rows))
    }

    fn named(&self, rows: Vec<Vec<Option<String>>>) -> Vec<Inherited> {
        let inherited = |name| Inherited { database: self.name.to_owned(), name };
        rows.into_iter().filter_map(first).map(inherited).collect()
    }
}
