//! Rows of roles and databases: what a branch's connection strings are made of, and what a child begins with.
//!
//! What exists is said by the catalog of a branch; these rows are what it said last, and the passwords, which no catalog
//! has. Each row holds for the positions of the branch's log from `from_lsn` up to `until_lsn`, so that a child that
//! begins in the past begins with what was there then.
//!
//! What must hold
//! - A password is believed only beside the verifier that Postgres holds: one that was changed by SQL is not known.
//! - A new password is written as pending before Postgres gets it. Whichever of the two a crash leaves in Postgres,
//!   [`take_over`](super::catalog::take_over) finds out from its verifier.
//!
//! Not here: asking the catalog (`catalog::change`), passwords that the data of a branch does not have (`password`).

use rusqlite::{Connection, Row, named_params};
use types::Lsn;

use super::secret::Secret;
use super::{many, one, run};
use crate::error::{Error, Result};

/// One role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRow {
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// Its password, as it is typed; `None` if it has none or SQL gave it one.
    pub password: Option<String>,
    /// Whether it may log in.
    pub login: bool,
    /// When it was made, or first seen.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
    pub(super) version: i64,
    pub(super) oid: Option<u32>,
    pub(super) verifier: Option<String>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRow {
    /// A number of ours.
    pub id: i64,
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner_name: String,
    /// When it was made, or first seen.
    pub created_us: i64,
    /// When it was last changed.
    pub updated_us: i64,
    pub(super) version: i64,
    pub(super) oid: Option<u32>,
}

/// What the catalog of a branch says, read at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its roles, without those of Postgres's own.
    pub roles: Vec<FoundRole>,
    /// Its databases, without those of Postgres's own.
    pub databases: Vec<FoundDatabase>,
}

/// Where in the log of its branch a catalog was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It was read there.
    At(Lsn),
    /// What is new in it came later: who begins there begins without that.
    After(Lsn),
}

impl Moment {
    /// The first position that what was found holds for.
    pub(super) fn first(self) -> i64 {
        match self {
            Self::At(lsn) => position(Some(lsn)),
            Self::After(lsn) => position(Some(lsn)).saturating_add(1),
        }
    }
}

/// A role in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRole {
    /// Its number.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub login: bool,
    /// What Postgres keeps of its password.
    pub verifier: Option<String>,
}

/// A database in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDatabase {
    /// Its number.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
}

const ROLE: &str = "branch_id, name, password, login, created_us, updated_us, version, oid, verifier";
const DATABASE: &str = "id, branch_id, name, owner_name, created_us, updated_us, version, oid";

fn read_role(row: &Row<'_>) -> rusqlite::Result<RoleRow> {
    Ok(RoleRow {
        branch_id: row.get(0)?,
        name: row.get(1)?,
        password: row.get(2)?,
        login: row.get(3)?,
        created_us: row.get(4)?,
        updated_us: row.get(5)?,
        version: row.get(6)?,
        oid: row.get(7)?,
        verifier: row.get(8)?,
    })
}

fn read_database(row: &Row<'_>) -> rusqlite::Result<DatabaseRow> {
    Ok(DatabaseRow {
        id: row.get(0)?,
        branch_id: row.get(1)?,
        name: row.get(2)?,
        owner_name: row.get(3)?,
        created_us: row.get(4)?,
        updated_us: row.get(5)?,
        version: row.get(6)?,
        oid: row.get(7)?,
    })
}

/// Branch or snapshot `?1`, and what its data began on, which are branches and snapshots of one project.
pub(super) const LINEAGE: &str = "lineage (id) AS (SELECT ?1 \
     UNION SELECT parent_id FROM branch JOIN lineage USING (id) WHERE parent_id IS NOT NULL \
     UNION SELECT history_id FROM branch JOIN lineage USING (id) WHERE history_id IS NOT NULL \
     UNION SELECT restored_from FROM branch JOIN lineage USING (id) WHERE restored_from IS NOT NULL \
     UNION SELECT source_branch_id FROM snapshot JOIN lineage USING (id))";

/// A position as SQLite holds it.
pub(super) fn position(lsn: Option<Lsn>) -> i64 {
    lsn.map_or(0, |lsn| i64::try_from(lsn.raw()).unwrap_or(i64::MAX))
}

/// Writes a new role that was there from the beginning of the branch.
///
/// # Errors
/// Those of SQLite.
pub fn insert_role(
    connection: &Connection,
    branch: &str,
    name: &str,
    secret: &Secret,
    now_us: i64,
) -> Result<()> {
    let row = RoleRow {
        branch_id: branch.to_owned(),
        name: name.to_owned(),
        password: Some(secret.password.clone()),
        login: true,
        created_us: now_us,
        updated_us: now_us,
        version: 0,
        oid: None,
        verifier: Some(secret.verifier.clone()),
    };
    put_role(connection, &row, 0)
}

pub(super) fn put_role(connection: &Connection, row: &RoleRow, from: i64) -> Result<()> {
    let sql = "INSERT INTO role (branch_id, oid, name, login, password, verifier, from_lsn, created_us, updated_us) \
               VALUES (:branch, :oid, :name, :login, :password, :verifier, :from, :created_us, :updated_us)";
    let values = named_params! {
        ":branch": row.branch_id,
        ":oid": row.oid,
        ":name": row.name,
        ":login": row.login,
        ":password": row.password,
        ":verifier": row.verifier,
        ":from": from,
        ":created_us": row.created_us,
        ":updated_us": row.updated_us,
    };
    run(connection, sql, values).map(|_| ())
}

/// Writes a new database that was there from the beginning of the branch.
///
/// # Errors
/// Those of SQLite.
pub fn insert_database(
    connection: &Connection,
    branch: &str,
    name: &str,
    owner: &str,
    now_us: i64,
) -> Result<()> {
    let row = DatabaseRow {
        id: 0,
        branch_id: branch.to_owned(),
        name: name.to_owned(),
        owner_name: owner.to_owned(),
        created_us: now_us,
        updated_us: now_us,
        version: 0,
        oid: None,
    };
    put_database(connection, &row, 0)
}

/// A row whose number is 0 gets a new one.
pub(super) fn put_database(connection: &Connection, row: &DatabaseRow, from: i64) -> Result<()> {
    let sql = "INSERT INTO database (id, branch_id, oid, name, owner_name, from_lsn, created_us, updated_us) \
               VALUES (CASE :id WHEN 0 THEN (SELECT coalesce(max(id), 0) + 1 FROM database) ELSE :id END, \
               :branch, :oid, :name, :owner, :from, :created_us, :updated_us)";
    let values = named_params! {
        ":id": row.id,
        ":branch": row.branch_id,
        ":oid": row.oid,
        ":name": row.name,
        ":owner": row.owner_name,
        ":from": from,
        ":created_us": row.created_us,
        ":updated_us": row.updated_us,
    };
    run(connection, sql, values).map(|_| ())
}

/// Gives `child` the roles and databases that `parent` had at `lsn`, as far as is known.
///
/// # Errors
/// Those of SQLite.
pub fn inherit(connection: &Connection, parent: &str, child: &str, lsn: Lsn) -> Result<()> {
    let then = "WHERE branch_id = ?1 AND from_lsn <= ?3 AND coalesce(until_lsn > ?3, true) ORDER BY version";
    let sql = format!(
        "INSERT INTO role (branch_id, oid, name, login, password, verifier, from_lsn, created_us, updated_us) \
         SELECT ?2, oid, name, login, password, verifier, 0, created_us, updated_us FROM role {then}"
    );
    let values = (parent, child, position(Some(lsn)));
    run(connection, &sql, values)?;
    let sql = format!(
        "INSERT INTO database (id, branch_id, oid, name, owner_name, from_lsn, created_us, updated_us) \
         SELECT (SELECT max(id) FROM database) + row_number() OVER (ORDER BY version), \
         ?2, oid, name, owner_name, 0, created_us, updated_us FROM database {then}"
    );
    run(connection, &sql, values).map(|_| ())
}

/// Gives `branch` the roles and databases that `source` had at `lsn` instead of its own, which it may be itself.
///
/// # Errors
/// Those of SQLite.
pub(super) fn replace(connection: &Connection, source: &str, branch: &str, lsn: Lsn) -> Result<()> {
    let last = |table: &str| {
        let sql = format!("SELECT coalesce(max(version), 0) FROM {table}");
        one(connection, &sql, [], |row| row.get::<_, i64>(0)).map(Option::unwrap_or_default)
    };
    let (last_role, last_database) = (last("role")?, last("database")?);
    inherit(connection, source, branch, lsn)?;
    run(connection, "DELETE FROM role WHERE branch_id = ? AND version <= ?", (branch, last_role))?;
    run(connection, "DELETE FROM database WHERE branch_id = ? AND version <= ?", (branch, last_database))
        .map(|_| ())
}

/// Roles of a branch as they were seen last, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn roles(connection: &Connection, branch: &str) -> Result<Vec<RoleRow>> {
    let sql = format!("SELECT {ROLE} FROM role WHERE branch_id = ? AND until_lsn IS NULL ORDER BY version");
    many(connection, &sql, [branch], read_role)
}

/// Databases of a branch as they were seen last, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn databases(connection: &Connection, branch: &str) -> Result<Vec<DatabaseRow>> {
    let sql =
        format!("SELECT {DATABASE} FROM database WHERE branch_id = ? AND until_lsn IS NULL ORDER BY version");
    many(connection, &sql, [branch], read_database)
}

/// Notes the password that role `name` is about to get.
///
/// # Errors
/// Those of SQLite.
pub fn set_pending(connection: &Connection, branch: &str, name: &str, secret: &Secret) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO role_pending (branch_id, name, password, verifier) VALUES (?, ?, ?, ?)";
    run(connection, sql, [branch, name, &secret.password, &secret.verifier]).map(|_| ())
}

pub(super) fn close(connection: &Connection, table: &str, version: i64, lsn: i64) -> Result<()> {
    let sql = format!("UPDATE {table} SET until_lsn = ?2 WHERE version = ?1");
    run(connection, &sql, (version, lsn)).map(|_| ())
}

/// The role of that name.
///
/// # Errors
/// `NotFound` if there is none.
pub fn named_role(rows: Vec<RoleRow>, name: &str) -> Result<RoleRow> {
    rows.into_iter().find(|row| row.name == name).ok_or_else(|| Error::not_found("role", name))
}

/// The database of that name.
///
/// # Errors
/// `NotFound` if there is none.
pub fn named_database(rows: Vec<DatabaseRow>, name: &str) -> Result<DatabaseRow> {
    rows.into_iter().find(|row| row.name == name).ok_or_else(|| Error::not_found("database", name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::catalog::{take_over, take_over_copied};
    use super::super::{Metadata, branch, project, tests};
    use super::*;

    pub fn lsn(raw: u64) -> Lsn {
        Lsn::from_raw(raw).unwrap()
    }

    pub fn at(raw: u64) -> Moment {
        Moment::At(lsn(raw))
    }

    pub fn secret(text: &str) -> Secret {
        Secret { password: text.to_owned(), verifier: format!("SCRAM-{text}") }
    }

    pub fn metadata(dir: &tempfile::TempDir) -> Metadata {
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        metadata
            .write(|change| {
                project::put(change, &tests::project_row("p", project::READY))?;
                for id in ["br-a-a-a", "br-b-b-b", "br-c-c-c"] {
                    branch::insert(change, &tests::branch_row(id, id))?;
                }
                insert_role(change, "br-a-a-a", "owner", &secret("first"), 1)?;
                insert_database(change, "br-a-a-a", "db", "owner", 1)
            })
            .unwrap();
        metadata
    }

    fn has_pending(connection: &Connection, branch: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM role_pending WHERE branch_id = ?";
        Ok(one(connection, sql, [branch], |_| Ok(()))?.is_some())
    }

    pub fn owner(verifier: &str) -> FoundRole {
        FoundRole {
            oid: 10,
            name: "owner".to_owned(),
            login: true,
            verifier: Some(format!("SCRAM-{verifier}")),
        }
    }

    pub fn db(name: &str, owner: &str) -> FoundDatabase {
        FoundDatabase { oid: 20, name: name.to_owned(), owner: owner.to_owned() }
    }

    #[test]
    fn a_child_begins_with_what_was_there_at_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let (roles, databases) = metadata
            .write(|change| {
                let found = Found { roles: vec![owner("first")], databases: vec![db("db", "owner")] };
                take_over(change, "br-a-a-a", &found, at(100), 2)?;
                set_pending(change, "br-a-a-a", "owner", &secret("second"))?;
                let found = Found { roles: vec![owner("second")], databases: vec![db("renamed", "owner")] };
                take_over(change, "br-a-a-a", &found, at(200), 3)?;
                inherit(change, "br-a-a-a", "br-b-b-b", lsn(199))?;
                inherit(change, "br-a-a-a", "br-c-c-c", lsn(200))?;
                let of = |id: &str| Ok::<_, Error>((roles(change, id)?, databases(change, id)?));
                Ok((vec![of("br-b-b-b")?.0, of("br-c-c-c")?.0], vec![of("br-b-b-b")?.1, of("br-c-c-c")?.1]))
            })
            .unwrap();
        let password = |at: usize| roles[at][0].password.as_deref();
        assert_eq!((password(0), password(1)), (Some("first"), Some("second")));
        assert_eq!((databases[0][0].name.as_str(), databases[1][0].name.as_str()), ("db", "renamed"));
        assert_ne!(databases[0][0].id, databases[1][0].id);
    }

    /// 22 Nov: nothing else had written since the moment asked for, so the new password was taken for that moment's.
    #[test]
    fn what_begins_where_a_password_was_changed_begins_with_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let passwords = metadata
            .write(|change| {
                set_pending(change, "br-a-a-a", "owner", &secret("second"))?;
                let found = Found { roles: vec![owner("second")], databases: vec![db("renamed", "owner")] };
                take_over(change, "br-a-a-a", &found, Moment::After(lsn(100)), 2)?;
                inherit(change, "br-a-a-a", "br-b-b-b", lsn(100))?;
                inherit(change, "br-a-a-a", "br-c-c-c", lsn(101))?;
                assert_eq!(databases(change, "br-b-b-b")?[0].name, "db");
                let of = |id: &str| Ok::<_, Error>(roles(change, id)?.remove(0).password);
                Ok((of("br-b-b-b")?, of("br-c-c-c")?))
            })
            .unwrap();
        assert_eq!(passwords, (Some("first".to_owned()), Some("second".to_owned())));
    }

    #[test]
    fn after_a_crash_the_verifier_says_which_password_postgres_has() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        for (held, then) in [("first", Some("first")), ("second", Some("second")), ("by hand", None)] {
            let password = metadata
                .write(|change| {
                    set_pending(change, "br-a-a-a", "owner", &secret("second"))?;
                    assert!(has_pending(change, "br-a-a-a")?);
                    let found = Found { roles: vec![owner(held)], ..Found::default() };
                    take_over(change, "br-a-a-a", &found, at(100), 2)?;
                    assert!(!has_pending(change, "br-a-a-a")?);
                    Ok(roles(change, "br-a-a-a")?.remove(0).password)
                })
                .unwrap();
            assert_eq!(password.as_deref(), then, "{held}");
        }
    }

    #[test]
    fn a_copied_verifier_is_no_password_outside_of_the_lineage_it_was_made_in() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let told = |branch: &str, source: &str| {
            metadata
                .write(|change| {
                    let thief = FoundRole { oid: 30, name: "x".to_owned(), ..owner("first") };
                    let found = Found { roles: vec![thief], ..Found::default() };
                    take_over_copied(change, (branch, source), &found, at(100), 2)?;
                    let password = roles(change, branch)?.remove(0).password;
                    run(change, "DELETE FROM role WHERE branch_id = ?", [branch])?;
                    Ok(password)
                })
                .unwrap()
        };
        metadata
            .write(|change| {
                project::put(change, &tests::project_row("q", project::READY))?;
                let other =
                    branch::BranchRow { project_id: "q".to_owned(), ..tests::branch_row("br-q-q-q", "main") };
                branch::insert(change, &other)?;
                let sql = "UPDATE branch SET parent_id = 'br-a-a-a' WHERE id = 'br-b-b-b'";
                run(change, sql, []).map(|_| ())
            })
            .unwrap();
        assert_eq!(told("br-q-q-q", "br-q-q-q"), None, "in another project");
        assert_eq!(told("br-c-c-c", "br-c-c-c"), None, "on a branch that did not begin there");
        assert_eq!(told("br-b-b-b", "br-b-b-b").as_deref(), Some("first"), "on a child");
        assert_eq!(told("br-c-c-c", "br-b-b-b").as_deref(), Some("first"), "on a copy of a child");
    }

    #[test]
    fn what_sql_made_renamed_and_dropped_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = metadata(&dir);
        let taken_over = |found: &Found| {
            metadata
                .write(|change| {
                    take_over(change, "br-a-a-a", found, at(100), 2)?;
                    Ok((roles(change, "br-a-a-a")?, databases(change, "br-a-a-a")?))
                })
                .unwrap()
        };
        let before = taken_over(&Found { roles: vec![owner("first")], databases: vec![db("db", "owner")] });
        let by_hand = FoundRole { oid: 11, name: "hand".to_owned(), login: false, verifier: None };
        let renamed = FoundRole { name: "chief".to_owned(), ..owner("first") };
        let after =
            taken_over(&Found { roles: vec![renamed.clone(), by_hand], databases: vec![db("d2", "chief")] });
        let names: Vec<_> =
            after.0.iter().map(|row| (row.name.as_str(), row.password.as_deref(), row.login)).collect();
        assert_eq!(names, [("chief", Some("first"), true), ("hand", None, false)]);
        assert_eq!(after.1[0].id, before.1[0].id, "a renamed database is the same one");
        let last = taken_over(&Found { roles: vec![renamed], databases: Vec::new() });
        assert_eq!((last.0.len(), last.1.len()), (1, 0));
    }
}
