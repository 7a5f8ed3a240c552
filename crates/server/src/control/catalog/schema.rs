//! The schema of a database on a branch, now or in the past, as `pg_dump` writes it or as a list of tables; and what
//! differs between two.
//!
//! The endpoint of the branch is asked when it runs and the present is wanted; otherwise a hidden one, which ends with
//! the question.
//!
//! Not here: starting and removing a hidden endpoint (`fleet::hidden`).

use std::path::Path;

use api::schema::{SchemaDiff, SchemaTables};
use similar::TextDiff;

use crate::control::Control;
use crate::control::branch::history::history_of;
use crate::control::branch::point::{At, hidden_at, parse_at};
use crate::error::{Error, Kind, Result};
use crate::fleet::endpoints::runs;
use crate::fleet::hidden::hidden_permit;
use crate::machine::permits::Permit;
use crate::machine::sql::{self, Address, SUPERUSER};
use crate::machine::{threads, work};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// All tables that are not Postgres's own, as [`SchemaTables`] in JSON.
const TABLES: &str = "
    SELECT json_build_object('tables', coalesce(json_agg(json_build_object(
        'schema', n.nspname,
        'name', c.relname,
        'columns', (
            SELECT coalesce(json_agg(json_build_object(
                'name', a.attname,
                'type', format_type(a.atttypid, a.atttypmod),
                'nullable', NOT a.attnotnull,
                'generated', a.attgenerated <> '') ORDER BY a.attnum), '[]')
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        'constraints', (
            SELECT coalesce(json_agg(json_build_object(
                'type', CASE k.contype WHEN 'p' THEN 'primary_key' WHEN 'u' THEN 'unique' ELSE 'foreign_key' END,
                'name', k.conname,
                'columns', (
                    SELECT json_agg(a.attname ORDER BY place)
                    FROM unnest(k.conkey) WITH ORDINALITY AS key(attnum, place)
                    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.attnum),
                'referenced_table', CASE k.contype WHEN 'f' THEN (
                    SELECT json_build_object('schema', fn.nspname, 'table', f.relname, 'columns', (
                        SELECT json_agg(a.attname ORDER BY place)
                        FROM unnest(k.confkey) WITH ORDINALITY AS key(attnum, place)
                        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.attnum))
                    FROM pg_class f JOIN pg_namespace fn ON fn.oid = f.relnamespace
                    WHERE f.oid = k.confrelid) END) ORDER BY k.conname), '[]')
            FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f'))
        ) ORDER BY n.nspname, c.relname), '[]'))::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// A branch at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side<'a> {
    /// The branch.
    pub branch: &'a str,
    /// A position in its log.
    pub lsn: Option<&'a str>,
    /// A moment in its history, RFC 3339.
    pub time: Option<&'a str>,
}

/// What is asked for that.
enum Asked {
    /// The endpoint with this id and port, which runs.
    Endpoint(String, u16),
    /// A hidden one.
    Hidden(Box<BranchRow>, At),
}

/// What was seen of a branch at a moment.
#[derive(Debug, Default)]
pub struct Seen<T> {
    /// What it was.
    pub what: T,
    /// The branch whose history the moment is in, if that is another.
    pub history: Option<String>,
}

/// The schema of a database as SQL.
///
/// # Errors
/// `Malformed` and `Refused` for a moment that cannot be; `NotFound` without such a branch or database.
pub fn schema(control: &Control, project: &str, side: &Side<'_>, database: &str) -> Result<Seen<String>> {
    let (asked, permit) = find(control, project, side)?;
    schema_of(control, project, asked, permit, database)
}

fn schema_of(
    control: &Control,
    project: &str,
    asked: Asked,
    permit: Option<Permit>,
    database: &str,
) -> Result<Seen<String>> {
    looking_at(control, (asked, permit), |dir, port| dump(control, project, dir, port, database))
}

/// The tables of a database, with their columns and keys.
///
/// # Errors
/// As [`schema`].
pub fn schema_tables(
    control: &Control,
    project: &str,
    side: &Side<'_>,
    database: &str,
) -> Result<Seen<SchemaTables>> {
    let asked = find(control, project, side)?;
    let major = control.storage.major(project)?;
    looking_at(control, asked, |dir, port| {
        let mut client = Address { dir, port, major }.connect(database)?;
        let row = client.query_one(TABLES, &[])?;
        let text: String = row.get(0);
        serde_json::from_str(&text).map_err(|error| Error::internal(format!("tables: {error}")))
    })
}

/// What is asked for a side, with a permit for it if it is to be started.
fn find(control: &Control, project: &str, side: &Side<'_>) -> Result<(Asked, Option<Permit>)> {
    let asked = asked(control, project, side)?;
    let permit = asked.is_hidden().then(|| hidden_permit(&control.fleet, project)).transpose()?;
    Ok((asked, permit))
}

fn asked(control: &Control, project: &str, side: &Side<'_>) -> Result<Asked> {
    let at = parse_at(side.lsn, side.time)?;
    let row = control.metadata.read(|connection| branch::get(connection, project, side.branch))?;
    let running = if at == At::Head { running_endpoint(control, &row)? } else { None };
    Ok(running.map_or_else(|| Asked::Hidden(Box::new(row), at), |(id, port)| Asked::Endpoint(id, port)))
}

/// Does `work` with the directory and the port of the endpoint that is asked.
fn looking_at<T>(
    control: &Control,
    (asked, permit): (Asked, Option<Permit>),
    work: impl FnOnce(&Path, u16) -> Result<T>,
) -> Result<Seen<T>> {
    let (row, at) = match asked {
        Asked::Endpoint(id, port) => {
            let what = work(&control.dir.endpoint(&id), port)?;
            return Ok(Seen { what, history: None });
        }
        Asked::Hidden(row, at) => (row, at),
    };
    let permit = permit.map_or_else(|| hidden_permit(&control.fleet, &row.project_id), Ok)?;
    let hidden = hidden_at(control, &row, at, permit)?;
    let (source, point) = hidden.origin();
    let history = history_of(control, &source, &point)?;
    let endpoint = hidden.endpoint();
    let what = work(&control.dir.endpoint(&endpoint.id), endpoint.port)?;
    Ok(Seen { what, history })
}

/// Id and port of the branch's endpoint, if that runs.
fn running_endpoint(control: &Control, branch: &BranchRow) -> Result<Option<(String, u16)>> {
    let rows = control.metadata.read(|connection| endpoint::of_branch(connection, &branch.id))?;
    Ok(rows.into_iter().find(|row| runs(&control.fleet, &row.id)).map(|row| (row.id, row.port)))
}

fn dump(control: &Control, project: &str, dir: &Path, port: u16, database: &str) -> Result<String> {
    let major = control.storage.major(project)?;
    // Says which database is missing better than pg_dump does.
    drop(Address { dir, port, major }.connect(database)?);
    let socket = dir.join("sock").to_string_lossy().into_owned();
    let port = port.to_string();
    let waits = control.postgres.lock_wait();
    let arguments =
        ["--schema-only", &waits, "--no-password", "-h", &socket, "-p", &port, "-U", SUPERUSER, "-d"];
    let named = sql::database_argument(database);
    // Not an older one, which refuses a newer server.
    let written = control.postgres.as_owner_of(Path::new(&socket)).output(
        major,
        "pg_dump",
        &[arguments.as_slice(), &[&named]].concat(),
    )?;
    Ok(without_keys(&written))
}

/// What differs in a database from `base` to `side` as a unified diff; empty if nothing does. A database that one of
/// them does not have is empty there.
///
/// # Errors
/// As [`schema`]; `NotFound` if neither has the database.
pub fn compare_schema(
    control: &Control,
    project: &str,
    side: &Side<'_>,
    base: &Side<'_>,
    database: &str,
) -> Result<SchemaDiff> {
    let (of_base, of_side) = (asked(control, project, base)?, asked(control, project, side)?);
    // Both places at once: two requests with one each would wait for each other.
    let hidden = [&of_base, &of_side].iter().filter(|asked| asked.is_hidden()).count();
    let mut places =
        if hidden > 0 { Some(control.fleet.hidden_servers.take(project, hidden)?) } else { None };
    let second = places.as_mut().and_then(Permit::split);
    let (base_place, side_place) = if of_base.is_hidden() { (places, second) } else { (None, places) };
    let (old, new) = std::thread::scope(|scope| {
        let unwanted = work::flag();
        let of_base = || {
            let _begun = work::begin(unwanted);
            schema_of(control, project, of_base, base_place, database)
        };
        let old = std::thread::Builder::new().spawn_scoped(scope, of_base);
        let new = schema_of(control, project, of_side, side_place, database);
        let panicked = || Error::internal("a bug: a dump panicked");
        let old = old.map_err(|error| threads::none("a dump", &error));
        (old.and_then(|old| old.join().unwrap_or_else(|_| Err(panicked()))), new)
    });
    let (old, new) = match (old, new) {
        (Err(old), Err(error)) if old.kind == Kind::NotFound && error.kind == Kind::NotFound => {
            return Err(error);
        }
        (Err(error), new) if error.kind == Kind::NotFound => (Seen::default(), new?),
        (old, Err(error)) if error.kind == Kind::NotFound => (old?, Seen::default()),
        (old, new) => (old?, new?),
    };
    Ok(SchemaDiff {
        diff: diff(&old.what, &new.what, database),
        history_branch_id: new.history,
        base_history_branch_id: old.history,
    })
}

impl Asked {
    const fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden(..))
    }
}

fn diff(old: &str, new: &str, database: &str) -> String {
    let names = (format!("a/{database}"), format!("b/{database}"));
    let lines = TextDiff::from_lines(old, new);
    lines.unified_diff().context_radius(CONTEXT_LINES).header(&names.0, &names.1).to_string()
}

/// A dump without its `\restrict` lines, whose random keys would be a difference.
fn without_keys(dump: &str) -> String {
    let is_key = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    let mut text = String::with_capacity(dump.len());
    for line in dump.lines().filter(|line| !is_key(line)) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_dumps_of_one_schema_do_not_differ() {
        let dump = |key: &str| format!("\\restrict {key}\n\nCREATE TABLE t ();\n\n\\unrestrict {key}\n");
        let (a, b) = (without_keys(&dump("x1")), without_keys(&dump("y2")));
        assert_eq!(a, "\nCREATE TABLE t ();\n\n");
        assert_eq!(diff(&a, &b, "db"), "");
    }

    #[test]
    fn a_difference_names_the_database_and_shows_the_line() {
        let text = diff("a\nb\nc\n", "a\nB\nc\n", "neondb");
        assert_eq!(text, "--- a/neondb\n+++ b/neondb\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
    }
}
