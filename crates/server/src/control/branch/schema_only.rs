//! A branch with the schema of another one and none of its data: `init_source` `schema-only`.
//!
//! ```text
//!   source at the moment asked for ---------> hidden endpoint --pg_dumpall --schema-only--+
//!                                                                                         v
//!   the project's cluster as it was imported --branch--> new data --> hidden endpoint <--psql
//! ```
//!
//! What must hold
//! - Nothing of the source's data can be reached from it: what its own data begins on is the cluster before anybody
//!   used it, and its log holds what the script wrote.
//! - A row names it when all of the schema is there, in the store.
//!
//! Not here: rows (`branch::create`), hidden endpoints (`fleet::hidden`).

use std::path::Path;

use store::BranchPoint;
use types::{BranchId, Lsn};

use crate::control::Control;
use crate::control::branch::history;
use crate::control::branch::point::{At, discard, hidden_at, wait_durable};
use crate::control::catalog::{change, schema_code};
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::fleet::hidden::{Hidden, hidden_permit, start_hidden};
use crate::machine::sql::{Client, SUPERUSER, identifier};
use crate::metadata::branch::BranchRow;
use crate::metadata::role::Found;
use crate::metadata::{endpoint, password};

/// What the new data's catalog holds, and where in its log.
#[derive(Debug)]
pub struct Copied {
    /// Its roles and databases.
    pub found: Found,
    /// How far its log was flushed.
    pub lsn: Lsn,
    /// The branch or snapshot whose roles they were.
    pub source: String,
    /// The branch it was copied from.
    pub parent: String,
    /// Whether its passwords are those of a protected branch.
    pub foreign: bool,
}

/// Makes branch `data` of the store with the schema that `source` had at `at`. The caller keeps `data` from being
/// swept until a row names it.
///
/// # Errors
/// Those of creating a branch, and of hidden endpoints; `Unavailable` with the last words of `pg_dumpall` or `psql`. Then
/// nothing is left of it.
pub fn copy_schema(control: &Control, source: &BranchRow, at: At, data: &BranchId) -> Result<Copied> {
    let theirs = hidden_at(control, source, at, hidden_permit(&control.fleet, &source.project_id)?)?;
    schema_code::refuse_code(&theirs)?;
    let (script, origin) = (schema_of_all(control, &theirs)?, theirs.origin());
    drop(theirs);
    branch_off_first(control, &source.project_id, data)?;
    let filled = fill(control, origin, data, &script);
    if filled.is_err() {
        discard(control, &source.project_id, data.as_str());
    }
    filled
}

/// Branches off the cluster as it was when the project was made.
fn branch_off_first(control: &Control, project: &str, data: &BranchId) -> Result<()> {
    let store = control.storage.store(project)?;
    control.storage.in_tree(project, || {
        let first = store.first_branch();
        let (first, start) = first.ok_or_else(|| Error::internal("a project without its first branch"))?;
        store.create_branch(data, &first, start)?;
        failpoint::passed(Step::BranchMade);
        Ok(())
    })
}

fn fill(
    control: &Control,
    origin: (BranchRow, BranchPoint),
    data: &BranchId,
    script: &str,
) -> Result<Copied> {
    let (source, point) = &origin;
    let (options, holder, foreign) = control.metadata.read(|connection| {
        let history = history::of(connection, source, point)?;
        let foreign = history.protected || password::is_foreign(connection, &history.roles, point.lsn)?;
        Ok((endpoint::of_branch(connection, &source.id)?, history.roles, foreign))
    })?;
    // An extension may need its library in `shared_preload_libraries`.
    let options = options.first().map_or("{}", |row| row.options.as_str());
    let (store, parent) = (control.storage.store(&source.project_id)?, source.id.clone());
    let permit = hidden_permit(&control.fleet, &source.project_id)?;
    let ours = start_hidden(&control.fleet, data, origin, options, (None, permit))?;
    let mut client = ours.connect_any()?;
    empty(&mut client)?;
    restore_schema(control, &ours, script)?;
    failpoint::tried(Step::SchemaCopied)?;
    let (lsn, found) = change::scan(&mut client)?;
    let lsn = lsn.parse().map_err(|_| Error::internal("no flush position"))?;
    wait_durable(control, &store, data, lsn)?;
    Ok(Copied { found, lsn, source: holder, parent, foreign })
}

/// Roles, databases and all they hold but rows, as a script for psql.
fn schema_of_all(control: &Control, from: &Hidden<'_>) -> Result<String> {
    let waits = control.postgres.lock_wait();
    let options = ["--schema-only", &waits, "--no-tablespaces", "--no-subscriptions", "--no-password"];
    let (socket, port) = address(control, from);
    let address = ["-h", &socket, "-p", &port, "-U", SUPERUSER];
    let major = control.storage.major(&from.endpoint().project_id)?;
    let script = control.postgres.as_owner_of(Path::new(&socket)).output(
        major,
        "pg_dumpall",
        &[options.as_slice(), &address].concat(),
    )?;
    // The only role that is there already.
    let there = format!("\nCREATE ROLE {SUPERUSER};\n");
    Ok(script.replacen(&there, "\n", 1))
}

fn restore_schema(control: &Control, to: &Hidden<'_>, script: &str) -> Result<()> {
    let (socket, port) = address(control, to);
    let arguments = [
        "-X",
        "-q",
        "--no-password",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        &socket,
        "-p",
        &port,
        "-U",
        SUPERUSER,
        "-d",
        SUPERUSER,
        "-f",
        "-",
    ];
    control.postgres.as_owner_of(Path::new(&socket)).feed(
        control.storage.major(&to.endpoint().project_id)?,
        "psql",
        &arguments,
        script,
    )
}

fn address(control: &Control, of: &Hidden<'_>) -> (String, String) {
    let dir = control.dir.endpoint(&of.endpoint().id);
    (dir.join("sock").to_string_lossy().into_owned(), of.endpoint().port.to_string())
}

/// Drops the first role and database of the project, which the script makes again if they are still there.
fn empty(client: &mut Client) -> Result<()> {
    let (_, found) = change::scan(client)?;
    for database in found.databases {
        client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", identifier(&database.name)))?;
    }
    for role in found.roles {
        client.batch_execute(&format!("DROP ROLE {}", identifier(&role.name)))?;
    }
    Ok(())
}
