//! Roles and databases of a branch: asked of its catalog, changed in its catalog.
//!
//! ```text
//!   read:    endpoint runs? its Postgres : nothing written since the last look? the rows : a hidden endpoint
//!   change:  endpoint of the branch, started if it is idle --SQL--> catalog --take_over--> rows
//! ```
//!
//! What must hold
//! - What exists is what the catalog says, whoever made it. Rows only add passwords.
//! - One look or change at a time on a branch: an older look never overwrites what a newer one found.
//! - A change holds the lock of its branch: nobody restarts or stops the Postgres in which it is made.
//! - A password that Postgres has got is never lost: it is on disk before it is sent (`metadata::role`).
//!
//! Not here: how a password becomes a verifier, which positions a row holds for (`metadata::role`).

use tokio_postgres::Row;
use types::Lsn;

use crate::clock;
use crate::control::Control;
use crate::control::branch::point::{At, hidden_at};
use crate::control::endpoint::options;
use crate::error::{Error, Kind, Result};
use crate::failpoint::{self, Step};
use crate::fleet::endpoints::{runs, start_endpoint};
use crate::fleet::hidden::hidden_permit;
use crate::fleet::sessions::{self, connect_any};
use crate::limits::{CATALOG_TURN_WITHIN, RENAMES};
use crate::machine::postgres::role_sql;
use crate::machine::sql::{self, Client, SUPERUSER, identifier};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::role::{
    self, DatabaseRow, Found, FoundDatabase, FoundRole, Moment, RoleRow, named_database, named_role,
};
use crate::metadata::secret::Secret;
use crate::metadata::{catalog, project};
use crate::names::{check_sql_name, parse_branch};

/// Roles and databases of a branch.
pub type Rows = (Vec<RoleRow>, Vec<DatabaseRow>);

/// Roles and databases of a branch as they are now. If another request ends the Postgres that is asked, they are read
/// again once that request is done.
///
/// # Errors
/// `NotFound` without such a branch; `Busy` if that takes too long; those of its endpoint.
pub fn read_catalog(control: &Control, project: &str, id: &str) -> Result<Rows> {
    match read_catalog_now(control, project, id) {
        Err(error) if error.kind == Kind::Unavailable && !error.is_crowded() => {
            let _held = control.locks.take_turn(id)?;
            read_catalog_now(control, project, id)
        }
        read => read,
    }
}

fn read_catalog_now(control: &Control, project: &str, id: &str) -> Result<Rows> {
    let turn = control.catalogs.turn_of(id);
    let mut turn = turn.try_lock_for(CATALOG_TURN_WITHIN).ok_or_else(|| busy(id))?;
    let (branch, endpoints) = control.metadata.read(|connection| {
        Ok((branch::get(connection, project, id)?, endpoint::of_branch(connection, id)?))
    })?;
    if let Some(row) = endpoints.into_iter().find(|row| row.desired == Desired::Active && !row.read_only) {
        turn.read_at = None;
        let (row, _) = running(control, &row)?;
        let mut client = connect_any(&control.fleet, &row)?;
        return take_over(control, id, &mut client, None);
    }
    let head =
        || -> Result<Lsn> { Ok(control.storage.store(project)?.head(&parse_branch(&branch.store_id)?)?) };
    if turn.read_at == Some(head()?) {
        return known_catalog(control, id);
    }
    let permit = hidden_permit(&control.fleet, project)?;
    let head = head()?;
    let hidden = hidden_at(control, &branch, At::Head, permit)?;
    let mut client = hidden.connect_any()?;
    let rows = take_over(control, id, &mut client, Some(Moment::At(head)))?;
    turn.read_at = Some(head);
    Ok(rows)
}

/// Roles and databases of a branch as they were seen last.
///
/// # Errors
/// Those of SQLite.
pub fn known_catalog(control: &Control, branch: &str) -> Result<Rows> {
    control
        .metadata
        .read(|connection| Ok((role::roles(connection, branch)?, role::databases(connection, branch)?)))
}

/// Does `work`, which gives a branch other data, while nobody looks at its catalog or changes it. Before, what the
/// catalog says is taken over if that can be had at once.
///
/// # Errors
/// `Busy` if another request has the catalog in hand for too long; those of `work`.
pub fn while_unseen<T>(
    control: &Control,
    id: &str,
    endpoints: &[EndpointRow],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let turn = control.catalogs.turn_of(id);
    let mut turn = turn.try_lock_for(CATALOG_TURN_WITHIN).ok_or_else(|| busy(id))?;
    turn.read_at = None;
    let runs = |row: &&EndpointRow| !row.read_only && runs(&control.fleet, &row.id);
    if let Some(row) = endpoints.iter().find(runs)
        && let Err(error) =
            connect_any(&control.fleet, row).and_then(|mut client| take_over(control, id, &mut client, None))
    {
        tracing::warn!(branch = id, %error, "passwords that SQL changed last are not known");
    }
    work()
}

/// Takes over what the catalog of a protected branch says, whose roles are to get other passwords on what begins on
/// it. A role that this does not find has none there.
///
/// # Errors
/// `Unavailable` if there is no place for the Postgres that has to be asked. Another failure is logged.
pub fn know_roles(control: &Control, branch: &BranchRow) -> Result<()> {
    if !branch.protected {
        return Ok(());
    }
    match read_catalog_now(control, &branch.project_id, &branch.id) {
        Err(error) if error.is_crowded() => return Err(error),
        Err(error) => {
            tracing::warn!(branch = branch.id, %error, "roles that SQL made last are not known")
        }
        Ok(_) => {}
    }
    Ok(())
}

/// The endpoint's row once it runs; a start that this needed.
fn running(control: &Control, row: &EndpointRow) -> Result<(EndpointRow, Option<OperationRow>)> {
    let started =
        if runs(&control.fleet, &row.id) { None } else { Some(start_endpoint(&control.fleet, row)?) };
    let row = control.metadata.read(|connection| endpoint::get(connection, &row.project_id, &row.id))?;
    Ok((row, started))
}

/// Takes over what the catalog says; by default it was read where its Postgres is now.
fn take_over(control: &Control, branch: &str, client: &mut Client, moment: Option<Moment>) -> Result<Rows> {
    let (lsn, found) = scan(client)?;
    let moment = moment.or_else(|| lsn.parse().ok().map(Moment::At));
    let moment = moment.ok_or_else(|| Error::internal("no flush position"))?;
    control.metadata.write(|change| {
        catalog::take_over(change, branch, &found, moment, clock::now_us())?;
        Ok((role::roles(change, branch)?, role::databases(change, branch)?))
    })
}

/// Does `work` in the branch's Postgres and takes over what that made of its catalog.
fn change_catalog<T>(
    control: &Control,
    project: &str,
    id: &str,
    work: impl FnOnce(&mut Session<'_>) -> Result<T>,
) -> Result<Changed<T>> {
    let begun = OperationRow::begun(Action::ApplyConfig, project, id, clock::now_us())?;
    control.operations.run(&begun, || change_catalog_as(control, &begun, id, work))
}

fn change_catalog_as<T>(
    control: &Control,
    begun: &OperationRow,
    id: &str,
    work: impl FnOnce(&mut Session<'_>) -> Result<T>,
) -> Result<Changed<T>> {
    let project = begun.project_id.as_str();
    let _held = control.locks.take_turn(id)?;
    let turn = control.catalogs.turn_of(id);
    let mut turn = turn.try_lock_for(CATALOG_TURN_WITHIN).ok_or_else(|| busy(id))?;
    turn.read_at = None;
    let (branch, wanted) = control.metadata.write(|change| {
        let branch = branch::get(change, project, id)?;
        let row = endpoint::of_branch(change, id)?.into_iter().next();
        let row = row.ok_or_else(|| no_endpoint(&branch))?;
        if row.read_only {
            return Err(only_reads(&branch, &row));
        }
        options::set_desired(change, &row, Desired::Active)?;
        Ok((branch, row))
    })?;
    let (endpoint, started) = running(control, &wanted)?;
    let mut client = connect_any(&control.fleet, &endpoint)?;
    let before = flushed(&mut client)?;
    let (control, branch) = (control, &branch);
    let done = work(&mut Session { control, branch, endpoint: &endpoint, client: &mut client });
    // A change that stopped half-way has changed something too.
    let rows = take_over(control, id, &mut client, before.parse().ok().map(Moment::After));
    let ended = begun.clone().about_endpoint(&endpoint.id).ended(done.as_ref().err());
    control.metadata.write(|change| operation::put(change, &ended))?;
    let (value, rows) = (done?, rows?);
    Ok(Changed { value, rows, operations: started.into_iter().chain([ended]).collect() })
}

/// Makes a role. One that may log in gets a password and what the owner of a project has.
///
/// # Errors
/// `Malformed` for a name that cannot be one, `Conflict` if it is taken, `Refused` if the branch has no endpoint.
pub fn create_role(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
    login: bool,
) -> Result<Changed<RoleRow>> {
    check_sql_name("role", name)?;
    let secret = if login { Some(Secret::new()?) } else { None };
    let done = change_catalog(control, project, branch, |session| {
        if let Some(secret) = &secret {
            session.expect_verifier(name, secret)?;
        }
        let mut statements = role_sql(name, secret.as_ref().map(|secret| secret.verifier.as_str()));
        if login && control.metadata.read(|connection| project::replicates_logically(connection, project))? {
            statements.push(format!("ALTER ROLE {} REPLICATION", identifier(name)));
        }
        session.run_together(&statements)
    })?;
    done.role(name)
}

/// Gives a role a new password and ends its sessions.
///
/// # Errors
/// `NotFound` without such a role, `Refused` if it may not log in or the branch has no endpoint.
pub fn reset_password(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
) -> Result<Changed<RoleRow>> {
    let secret = Secret::new()?;
    let done = change_catalog(control, project, branch, |session| {
        if !session.role(name)?.login {
            let text = format!("role {name} may not log in, so it has no password");
            return Err(Error::refused("ROLE_NO_LOGIN", text));
        }
        session.expect_verifier(name, &secret)?;
        let verifier = sql::literal(&secret.verifier);
        session.run(&format!("ALTER ROLE {} PASSWORD {verifier}", identifier(name)))?;
        session.end_sessions("usename", name)
    })?;
    done.role(name)
}

/// Removes a role. What it owns in a database goes to that database's owner. `None` if it is not there.
///
/// # Errors
/// `Refused` while it owns a database, or if the branch has no endpoint.
pub fn delete_role(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
) -> Result<Option<Changed<RoleRow>>> {
    let gone = |row: Result<RoleRow>| match row {
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        row => row.map(Some),
    };
    let done = change_catalog(control, project, branch, |session| {
        let Some(row) = gone(session.role(name))? else { return Ok(None) };
        let owned: Vec<String> =
            session.databases()?.into_iter().filter(|it| it.1 == name).map(|it| it.0).collect();
        if !owned.is_empty() {
            let hint = "hint: delete them or give them to another role first";
            let text = format!("role {name} owns the databases {}\n{hint}", owned.join(", "));
            return Err(Error::refused("ROLE_OWNS_DATABASES", text));
        }
        let quoted = identifier(name);
        for (database, owner) in session.databases()? {
            let heir = identifier(&owner);
            let sql = format!("REASSIGN OWNED BY {quoted} TO {heir}; DROP OWNED BY {quoted}");
            sessions::at(&session.control.fleet, session.endpoint, |address| {
                address.change(&database, &sql)
            })?;
            failpoint::passed(Step::StatementRun);
        }
        session.end_sessions("usename", name)?;
        session.run(&format!("DROP ROLE {quoted}"))?;
        Ok(Some(row))
    })?;
    let Changed { value, rows, operations } = done;
    Ok(value.map(|value| Changed { value, rows, operations }))
}

/// Makes a database.
///
/// # Errors
/// `Malformed` for names that cannot be, `NotFound` without such an owner, `Conflict` if the name is taken, `Refused`
/// without endpoint.
pub fn create_database(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
    owner: &str,
) -> Result<Changed<DatabaseRow>> {
    check_sql_name("database", name)?;
    let done = change_catalog(control, project, branch, |session| {
        session.role(owner)?;
        session.run(&format!("CREATE DATABASE {} OWNER {}", identifier(name), identifier(owner)))
    })?;
    done.database(name)
}

/// Renames a database or gives it to another role. A rename ends its sessions, as Postgres demands that.
///
/// # Errors
/// `Malformed`, `NotFound`, `Conflict` and `Refused` as for making one.
pub fn update_database(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
    (new_name, new_owner): (Option<&str>, Option<&str>),
) -> Result<Changed<DatabaseRow>> {
    let new_name = new_name.filter(|new| *new != name);
    if let Some(new) = new_name {
        check_sql_name("database", new)?;
    }
    let done = change_catalog(control, project, branch, |session| {
        session.database(name)?;
        let mut statements = Vec::new();
        if let Some(owner) = new_owner {
            session.role(owner)?;
            statements.push(format!("ALTER DATABASE {} OWNER TO {}", identifier(name), identifier(owner)));
        }
        match new_name {
            Some(new) => {
                statements.push(format!("ALTER DATABASE {} RENAME TO {}", identifier(name), identifier(new)));
                session.run_without_sessions(name, &statements)
            }
            None => session.run_together(&statements),
        }
    })?;
    done.database(new_name.unwrap_or(name))
}

/// Removes a database and ends its sessions. `None` if it is not there.
///
/// # Errors
/// `Refused` if the branch has no endpoint.
pub fn delete_database(
    control: &Control,
    project: &str,
    branch: &str,
    name: &str,
) -> Result<Option<Changed<DatabaseRow>>> {
    let known = read_catalog(control, project, branch)?.1;
    let Some(row) = known.into_iter().find(|row| row.name == name) else { return Ok(None) };
    let done = change_catalog(control, project, branch, |session| {
        let quoted = identifier(name);
        let sql = "SELECT FROM pg_database WHERE datname = $1::text AND datistemplate";
        if session.client.query_opt(sql, &[&name])?.is_some() {
            session.run(&format!("ALTER DATABASE {quoted} IS_TEMPLATE false"))?;
        }
        session.run(&format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"))
    })?;
    Ok(Some(Changed { value: row, rows: done.rows, operations: done.operations }))
}

/// What a change of a catalog gave.
#[derive(Debug)]
pub struct Changed<T> {
    /// The value asked for.
    pub value: T,
    /// What was done.
    pub operations: Vec<OperationRow>,
    rows: Rows,
}

impl Changed<()> {
    fn role(self, name: &str) -> Result<Changed<RoleRow>> {
        let value = named_role(self.rows.0.clone(), name)?;
        Ok(Changed { value, rows: self.rows, operations: self.operations })
    }

    fn database(self, name: &str) -> Result<Changed<DatabaseRow>> {
        let value = named_database(self.rows.1.clone(), name)?;
        Ok(Changed { value, rows: self.rows, operations: self.operations })
    }
}

/// A superuser's session on the branch whose catalog is being changed.
struct Session<'a> {
    control: &'a Control,
    branch: &'a BranchRow,
    endpoint: &'a EndpointRow,
    client: &'a mut Client,
}

impl Session<'_> {
    fn run(&mut self, statements: &str) -> Result<()> {
        self.client.batch_execute(statements)?;
        failpoint::passed(Step::StatementRun);
        Ok(())
    }

    /// All of them or none.
    fn run_together(&mut self, statements: &[String]) -> Result<()> {
        // One message is one transaction.
        self.run(&statements.join(";\n"))
    }

    fn taken_over(&mut self) -> Result<Rows> {
        take_over(self.control, &self.branch.id, self.client, None)
    }

    fn role(&mut self, name: &str) -> Result<RoleRow> {
        named_role(self.taken_over()?.0, name)
    }

    fn database(&mut self, name: &str) -> Result<DatabaseRow> {
        named_database(self.taken_over()?.1, name)
    }

    /// Every database that can be connected to, with its owner. One whose DROP was interrupted (-2) cannot.
    fn databases(&mut self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database \
                   WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid";
        let rows = self.client.query(sql, &[])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Puts a password on disk before Postgres gets its verifier.
    fn expect_verifier(&self, name: &str, secret: &Secret) -> Result<()> {
        self.control.metadata.write(|change| role::set_pending(change, &self.branch.id, name, secret))
    }

    /// Ends the sessions whose `column` of `pg_stat_activity` is `value`.
    fn end_sessions(&mut self, column: &str, value: &str) -> Result<()> {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE {column} = $1::text AND pid <> pg_backend_pid()"
        );
        self.client.query(&sql, &[&value]).map(drop)
    }

    /// As `run_together`, for what Postgres does only while nobody uses `database`. Clients may come back between the end
    /// of their sessions and that.
    fn run_without_sessions(&mut self, database: &str, statements: &[String]) -> Result<()> {
        for _ in 1..RENAMES {
            self.end_sessions("datname", database)?;
            match self.run_together(statements) {
                Err(error) if error.kind == Kind::Busy => {}
                result => return result,
            }
        }
        self.run_together(statements)
    }
}

fn flushed(client: &mut Client) -> Result<String> {
    Ok(client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[])?.get(0))
}

/// What the catalog says now, and how far the log was flushed before.
///
/// # Errors
/// Those of SQL.
pub fn scan(client: &mut Client) -> Result<(String, Found)> {
    let lsn = flushed(client)?;
    let sql = "SELECT oid, rolname, rolcanlogin, rolpassword FROM pg_authid \
               WHERE rolname !~ '^pg_' AND rolname <> $1::text ORDER BY oid";
    let roles = client.query(sql, &[&SUPERUSER])?;
    let sql = "SELECT oid, datname, pg_get_userbyid(datdba) FROM pg_database \
               WHERE datname NOT IN ($1::text, 'template0', 'template1') ORDER BY oid";
    let databases = client.query(sql, &[&SUPERUSER])?;
    let role =
        |row: &Row| FoundRole { oid: row.get(0), name: row.get(1), login: row.get(2), verifier: row.get(3) };
    let database = |row: &Row| FoundDatabase { oid: row.get(0), name: row.get(1), owner: row.get(2) };
    let found = Found {
        roles: roles.iter().map(role).collect(),
        databases: databases.iter().map(database).collect(),
    };
    Ok((lsn, found))
}

fn busy(branch: &str) -> Error {
    Error::busy(format!("roles or databases of branch {branch} are being changed; try again"))
}

fn only_reads(branch: &BranchRow, row: &EndpointRow) -> Error {
    let text = format!("endpoint {} of branch {} only reads", row.id, branch.name);
    let hint = "hint: change roles and databases of a branch that has a read_write endpoint";
    Error::refused("ENDPOINT_IS_READ_ONLY", format!("{text}\n{hint}"))
}

fn no_endpoint(branch: &BranchRow) -> Error {
    let text =
        format!("branch {} has no endpoint, and its Postgres is what makes roles and databases", branch.name);
    let hint = format!("hint: give it one first: `scion endpoint start {}`", branch.name);
    Error::refused("BRANCH_HAS_NO_ENDPOINT", format!("{text}\n{hint}"))
}
