//! What the catalog of a branch was found to hold, as rows: it is taken over, and handed over where data changes its branch.
//!
//! What must hold: a password is believed only beside the verifier that was found, or is to be found once no password is due.
//!
//! Not here: asking the catalog (`control::catalog`), the rows themselves (`role`), passwords that are due (`password`).

use rusqlite::Connection;

use super::role::{
    DatabaseRow, Found, FoundDatabase, FoundRole, LINEAGE, Moment, RoleRow, close, databases, put_database,
    put_role, roles,
};
use super::{one, password, run};
use crate::error::Result;

/// Brings the rows of a branch into agreement with its catalog.
///
/// # Errors
/// Those of SQLite.
pub fn take_over(
    connection: &Connection,
    branch: &str,
    found: &Found,
    moment: Moment,
    now_us: i64,
) -> Result<()> {
    take_over_copied(connection, (branch, branch), found, moment, now_us)
}

/// As [`take_over`], for `branch` whose catalog may hold passwords that were made for `source`.
///
/// # Errors
/// Those of SQLite.
pub fn take_over_copied(
    connection: &Connection,
    (branch, source): (&str, &str),
    found: &Found,
    moment: Moment,
    now_us: i64,
) -> Result<()> {
    let lsn = moment.first();
    let known = roles(connection, branch)?;
    for row in &known {
        if !found.roles.iter().any(|it| is_role(row, it)) {
            close(connection, "role", row.version, lsn)?;
        }
    }
    let due = password::due(connection, branch)?;
    for it in &found.roles {
        let row = known.iter().find(|row| is_role(row, it));
        let it = FoundRole { verifier: password::instead_of(&due, it), ..it.clone() };
        update_role(connection, (branch, source), row, &it, (lsn, now_us))?;
    }
    run(connection, "DELETE FROM role_pending WHERE branch_id = ?", [branch])?;
    let known = databases(connection, branch)?;
    for row in &known {
        if !found.databases.iter().any(|it| is_database(row, it)) {
            close(connection, "database", row.version, lsn)?;
        }
    }
    for it in &found.databases {
        let row = known.iter().find(|row| is_database(row, it));
        update_database(connection, branch, row, it, (lsn, now_us))?;
    }
    Ok(())
}

/// Gives `to`, whose data is what `from` had, all that is known of it at every position.
///
/// # Errors
/// Those of SQLite.
pub fn hand_over(connection: &Connection, from: &str, to: &str) -> Result<()> {
    let sql = "INSERT INTO role (branch_id, oid, name, login, password, verifier, from_lsn, until_lsn, created_us, \
               updated_us) SELECT ?2, oid, name, login, password, verifier, from_lsn, until_lsn, created_us, \
               updated_us FROM role WHERE branch_id = ?1 ORDER BY version";
    run(connection, sql, [from, to])?;
    let sql = "INSERT INTO database (id, branch_id, oid, name, owner_name, from_lsn, until_lsn, created_us, updated_us) \
               SELECT (SELECT max(id) FROM database) + dense_rank() OVER (ORDER BY id), ?2, oid, name, owner_name, \
               from_lsn, until_lsn, created_us, updated_us FROM database WHERE branch_id = ?1 ORDER BY version";
    run(connection, sql, [from, to])?;
    password::hand_over(connection, from, to)
}

fn is_role(row: &RoleRow, it: &FoundRole) -> bool {
    row.oid.map_or(row.name == it.name, |oid| oid == it.oid)
}

fn is_database(row: &DatabaseRow, it: &FoundDatabase) -> bool {
    row.oid.map_or(row.name == it.name, |oid| oid == it.oid)
}

fn update_role(
    connection: &Connection,
    (branch, source): (&str, &str),
    row: Option<&RoleRow>,
    it: &FoundRole,
    (lsn, now_us): (i64, i64),
) -> Result<()> {
    if let Some(row) = row.filter(|row| row.name == it.name && row.login == it.login) {
        // A row of an older version of scion has no verifier yet.
        let adopted = row.verifier.is_none() && row.password.is_some();
        if row.oid.is_some() && row.verifier == it.verifier {
            return Ok(());
        }
        if adopted || row.verifier == it.verifier {
            let sql = "UPDATE role SET oid = ?2, verifier = ?3 WHERE version = ?1";
            return run(connection, sql, (row.version, it.oid, &it.verifier)).map(|_| ());
        }
    }
    let new = RoleRow {
        branch_id: branch.to_owned(),
        name: it.name.clone(),
        password: password_of(connection, (branch, source), it)?,
        login: it.login,
        created_us: row.map_or(now_us, |row| row.created_us),
        updated_us: now_us,
        version: 0,
        oid: Some(it.oid),
        verifier: it.verifier.clone(),
    };
    if let Some(row) = row {
        close(connection, "role", row.version, lsn)?;
    }
    put_role(connection, &new, lsn)
}

/// The password that belongs to a role's verifier, if it was made for a role of `source` or of what that began on. Elsewhere nobody looks: who copies the verifier of another project's role would be told its password.
fn password_of(
    connection: &Connection,
    (branch, source): (&str, &str),
    it: &FoundRole,
) -> Result<Option<String>> {
    let Some(verifier) = &it.verifier else { return Ok(None) };
    let pending = "SELECT password FROM role_pending WHERE branch_id = ?1 AND name = ?2 AND verifier = ?3";
    if let Some(password) = one(connection, pending, [branch, &it.name, verifier], |row| row.get(0))? {
        return Ok(Some(password));
    }
    let known = format!(
        "WITH RECURSIVE {LINEAGE} SELECT password FROM role \
         WHERE verifier = ?2 AND password IS NOT NULL AND branch_id IN (SELECT id FROM lineage) LIMIT 1"
    );
    one(connection, &known, [source, verifier], |row| row.get(0))
}

fn update_database(
    connection: &Connection,
    branch: &str,
    row: Option<&DatabaseRow>,
    it: &FoundDatabase,
    (lsn, now_us): (i64, i64),
) -> Result<()> {
    if let Some(row) = row.filter(|row| row.name == it.name && row.owner_name == it.owner) {
        if row.oid.is_none() {
            let sql = "UPDATE database SET oid = ?2 WHERE version = ?1";
            run(connection, sql, (row.version, it.oid))?;
        }
        return Ok(());
    }
    let new = DatabaseRow {
        id: row.map_or(0, |row| row.id),
        branch_id: branch.to_owned(),
        name: it.name.clone(),
        owner_name: it.owner.clone(),
        created_us: row.map_or(now_us, |row| row.created_us),
        updated_us: now_us,
        version: 0,
        oid: Some(it.oid),
    };
    if let Some(row) = row {
        close(connection, "database", row.version, lsn)?;
    }
    put_database(connection, &new, lsn)
}
