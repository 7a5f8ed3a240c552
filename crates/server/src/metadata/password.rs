//! Rows of passwords that the data of a branch does not have yet: they are set before its next first client is let in.
//!
//! | branch                              | its data holds                  | its roles get                               |
//! |-------------------------------------|---------------------------------|---------------------------------------------|
//! | restored                            | the source's passwords          | those that the branch had; others stay      |
//! | begun on a protected branch         | that one's passwords: foreign   | new ones                                    |
//! | restored from a protected branch    | foreign ones                    | those that the branch had; others new ones  |
//! | begun where another holds foreign   | foreign ones                    | those of the other                          |
//!
//! What must hold
//! - A foreign password opens nothing but the branch it is of: a role that no row gives a password to loses the one that
//!   the data has. That holds for whatever begins on the branch below the position from which on its log has its own.
//! - Where data is foreign, role rows say what roles are to have, from the beginning of the branch on.
//!
//! Not here: setting them (`compute`), when that was done (`quarantine`).

use std::collections::BTreeMap;

use compute::Passwords;
use rusqlite::{Connection, named_params};
use types::Lsn;

use super::role::{self, FoundRole, Moment, RoleRow, position};
use super::secret::Secrets;
use super::{many, one, run};
use crate::error::Result;

/// The verifier that a role has once nothing is `due` any more.
pub fn instead_of(due: &Passwords, found: &FoundRole) -> Option<String> {
    let held = || found.verifier.clone().filter(|_| !due.no_others);
    due.verifiers.get(&found.name).cloned().or_else(held)
}

/// What is due on a branch; `no_others` if its data is foreign.
///
/// # Errors
/// Those of SQLite.
pub fn due(connection: &Connection, branch: &str) -> Result<Passwords> {
    let sql = "SELECT name, verifier FROM role_kept WHERE branch_id = ?";
    let kept: Vec<(String, String)> = many(connection, sql, [branch], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut verifiers: BTreeMap<String, String> = kept.into_iter().collect();
    let sql = "SELECT 1 FROM foreign_password WHERE branch_id = ? AND until_lsn IS NULL";
    let foreign = one(connection, sql, [branch], |_| Ok(()))?.is_some();
    if foreign {
        for row in role::roles(connection, branch)?.into_iter().filter(|row| row.login) {
            // Whoever wrote these rows, for foreign data, wrote a verifier beside each password.
            if let Some(verifier) = row.verifier {
                verifiers.entry(row.name).or_insert(verifier);
            }
        }
    }
    Ok(Passwords { verifiers, no_others: foreign })
}

/// Notes that the log of a branch has from `since` on what was due.
///
/// # Errors
/// Those of SQLite.
pub fn note_set(connection: &Connection, branch: &str, since: Lsn) -> Result<()> {
    run(connection, "DELETE FROM role_kept WHERE branch_id = ?", [branch])?;
    let sql = "UPDATE foreign_password SET until_lsn = ?2 WHERE branch_id = ?1 AND until_lsn IS NULL";
    run(connection, sql, (branch, position(Some(since)))).map(|_| ())
}

/// Gives `child`, a branch or a snapshot, the roles and databases that `parent` had at `lsn`; other passwords if the
/// parent is `protected`.
///
/// # Errors
/// Those of SQLite.
pub fn begin(
    (connection, secrets): (&Connection, &mut Secrets),
    parent: &str,
    child: &str,
    lsn: Lsn,
    protected: bool,
) -> Result<()> {
    role::inherit(connection, parent, child, lsn)?;
    if protected || is_foreign(connection, parent, lsn)? {
        begin_foreign((connection, secrets), child, &[], protected)?;
    }
    Ok(())
}

/// Gives `branch` the roles and databases that `source` had at `lsn` instead of its own, which it may be itself. A role
/// that `branch` had too keeps the password it had there; others get new ones if the source is `protected`.
///
/// # Errors
/// Those of SQLite.
pub fn replace(
    (connection, secrets): (&Connection, &mut Secrets),
    source: &str,
    branch: &str,
    lsn: Lsn,
    protected: bool,
) -> Result<()> {
    let before = role::roles(connection, branch)?;
    let foreign = protected || is_foreign(connection, source, lsn)?;
    role::replace(connection, source, branch, lsn)?;
    run(connection, "DELETE FROM role_kept WHERE branch_id = ?", [branch])?;
    run(connection, "DELETE FROM foreign_password WHERE branch_id = ?", [branch])?;
    if foreign {
        begin_foreign((connection, secrets), branch, &before, protected)
    } else {
        keep((connection, secrets), &before, branch, lsn)
    }
}

/// Lets the roles of `branch` have the passwords of `before` for what comes after `lsn`.
///
/// # Errors
/// Those of SQLite.
pub fn keep(
    (connection, secrets): (&Connection, &mut Secrets),
    before: &[RoleRow],
    branch: &str,
    lsn: Lsn,
) -> Result<()> {
    // What begins exactly there begins with the passwords that the data has.
    let from = Moment::After(lsn).first();
    for row in role::roles(connection, branch)?.iter().filter(|row| row.login) {
        let Some((old, wanted)) = had(before, &row.name, secrets) else { continue };
        if row.verifier.as_ref() == Some(&wanted) {
            continue;
        }
        role::close(connection, "role", row.version, from)?;
        put(connection, branch, &row.name, &wanted)?;
        let kept = RoleRow { password: old.password.clone(), verifier: Some(wanted), ..row.clone() };
        role::put_role(connection, &kept, from)?;
    }
    if due(connection, branch)?.no_others {
        keep_unknown((connection, secrets), before, branch)?;
    }
    Ok(())
}

/// Lets the roles in `changed` keep what the data of `branch` has for them, although it is foreign: SQL that ran on the
/// branch set that.
///
/// # Errors
/// Those of SQLite.
pub fn allow(connection: &Connection, branch: &str, changed: &[FoundRole]) -> Result<()> {
    if !due(connection, branch)?.no_others {
        return Ok(());
    }
    for it in changed {
        if let Some(verifier) = &it.verifier {
            put(connection, branch, &it.name, verifier)?;
        }
    }
    Ok(())
}

/// Gives the roles of `branch`, whose data was copied from a protected branch, new passwords.
///
/// # Errors
/// Those of SQLite.
pub fn renew(change: (&Connection, &mut Secrets), branch: &str) -> Result<()> {
    begin_foreign(change, branch, &[], true)
}

/// Whether what begins on a branch or snapshot at `lsn` begins with foreign passwords.
///
/// # Errors
/// Those of SQLite.
pub fn is_foreign(connection: &Connection, id: &str, lsn: Lsn) -> Result<bool> {
    let sql = "SELECT 1 FROM foreign_password WHERE branch_id = ? AND coalesce(until_lsn > ?, true)";
    Ok(one(connection, sql, (id, position(Some(lsn))), |_| Ok(()))?.is_some())
}

/// Gives `to` what is known of the passwords of `from`, whose data it has now.
///
/// # Errors
/// Those of SQLite.
pub fn hand_over(connection: &Connection, from: &str, to: &str) -> Result<()> {
    run(connection, "UPDATE role_kept SET branch_id = ?2 WHERE branch_id = ?1", [from, to])?;
    let sql = "INSERT INTO foreign_password (branch_id, until_lsn) \
               SELECT ?2, until_lsn FROM foreign_password WHERE branch_id = ?1";
    run(connection, sql, [from, to]).map(|_| ())
}

/// Says what the roles of a branch with foreign data are to have from its beginning on: what they had `before`, or new
/// passwords with `renew`, or what their rows say.
fn begin_foreign(
    (connection, secrets): (&Connection, &mut Secrets),
    branch: &str,
    before: &[RoleRow],
    renew: bool,
) -> Result<()> {
    for row in role::roles(connection, branch)? {
        let (password, verifier) = match (had(before, &row.name, secrets), verifier(&row, secrets)) {
            _ if !row.login => (None, None),
            (Some((old, verifier)), _) => (old.password.clone(), Some(verifier)),
            (None, Some(_)) if renew => {
                let secret = secrets.fresh();
                (Some(secret.password), Some(secret.verifier))
            }
            (None, verifier) => (row.password.clone(), verifier),
        };
        let sql = "UPDATE role SET password = :password, verifier = :verifier WHERE version = :version";
        let values = named_params! { ":password": password, ":verifier": verifier, ":version": row.version };
        run(connection, sql, values)?;
    }
    keep_unknown((connection, secrets), before, branch)?;
    let sql = "INSERT OR REPLACE INTO foreign_password (branch_id, until_lsn) VALUES (?, NULL)";
    run(connection, sql, [branch]).map(|_| ())
}

/// Roles of `before` may be in the data though no row of `branch` says so.
fn keep_unknown(
    (connection, secrets): (&Connection, &mut Secrets),
    before: &[RoleRow],
    branch: &str,
) -> Result<()> {
    let known = role::roles(connection, branch)?;
    for old in before.iter().filter(|old| old.login && !known.iter().any(|row| row.name == old.name)) {
        if let Some(verifier) = verifier(old, secrets) {
            put(connection, branch, &old.name, &verifier)?;
        }
    }
    Ok(())
}

fn put(connection: &Connection, branch: &str, name: &str, verifier: &str) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO role_kept (branch_id, name, verifier) VALUES (?, ?, ?)";
    run(connection, sql, [branch, name, verifier]).map(|_| ())
}

/// The role of that name that could log in, and the verifier of its password.
fn had<'a>(before: &'a [RoleRow], name: &str, secrets: &mut Secrets) -> Option<(&'a RoleRow, String)> {
    let old = before.iter().find(|old| old.name == name && old.login)?;
    Some((old, verifier(old, secrets)?))
}

/// What Postgres keeps of a role's password. A row of an older version of scion does not say.
fn verifier(row: &RoleRow, secrets: &mut Secrets) -> Option<String> {
    let made = || row.password.as_ref().map(|text| secrets.verifier(text));
    row.verifier.clone().or_else(made)
}

#[cfg(test)]
mod tests {
    use super::super::Metadata;
    use super::super::catalog::{hand_over, take_over};
    use super::super::role::tests::{at, db, lsn, metadata, owner, secret};
    use super::super::role::{Found, databases, roles, set_pending};
    use super::*;

    const PARENT: &str = "br-a-a-a";
    const CHILD: &str = "br-b-b-b";
    const GRANDCHILD: &str = "br-c-c-c";

    fn password(connection: &Connection, branch: &str) -> String {
        roles(connection, branch).unwrap().first().unwrap().password.clone().unwrap()
    }

    fn due_names(connection: &Connection, branch: &str) -> (Vec<String>, bool) {
        let due = due(connection, branch).unwrap();
        (due.verifiers.into_keys().collect(), due.no_others)
    }

    fn found(verifier: &str) -> Found {
        Found { roles: vec![owner(verifier)], databases: vec![db("db", "owner")] }
    }

    #[test]
    fn a_restored_branch_keeps_the_passwords_it_had_until_its_data_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, mut secrets) = (metadata(&dir), Secrets::made(8));
        metadata
            .write(|change| {
                take_over(change, PARENT, &found("first"), at(100), 2)?;
                set_pending(change, PARENT, "owner", &secret("second"))?;
                let second = Found { roles: vec![owner("second")], databases: Vec::new() };
                take_over(change, PARENT, &second, at(200), 3)?;
                // To its own past, with what it held kept.
                hand_over(change, PARENT, CHILD)?;
                replace((change, &mut secrets), CHILD, PARENT, lsn(150), false)?;
                assert_eq!(password(change, CHILD), "second");
                assert_eq!(password(change, PARENT), "second");
                assert_eq!(databases(change, PARENT)?.len(), 1);
                let kept = due(change, PARENT)?;
                assert_eq!(kept.verifiers, [("owner".to_owned(), "SCRAM-second".to_owned())].into());
                assert!(!kept.no_others);
                // What begins where it was restored to, or in the past of what was kept, has other ones.
                begin((change, &mut secrets), PARENT, GRANDCHILD, lsn(150), false)?;
                assert_eq!(password(change, GRANDCHILD), "first");
                for table in ["role", "database"] {
                    run(change, &format!("DELETE FROM {table} WHERE branch_id = ?"), [GRANDCHILD])?;
                }
                begin((change, &mut secrets), CHILD, GRANDCHILD, lsn(150), false)?;
                assert_eq!(password(change, GRANDCHILD), "first");
                assert_eq!(databases(change, GRANDCHILD)?.len(), 1);
                // A look before its start sees the password of that time, and a restore of it hands over what is due.
                take_over(change, PARENT, &found("first"), at(150), 4)?;
                assert_eq!(password(change, PARENT), "second");
                hand_over(change, PARENT, GRANDCHILD)?;
                assert_eq!(due(change, PARENT)?.verifiers.len(), 0);
                assert_eq!(due(change, GRANDCHILD)?.verifiers.len(), 1);
                Ok(())
            })
            .unwrap();
    }

    /// A protected parent with one role, and a child of it at 100 whose endpoint never ran.
    fn family(dir: &tempfile::TempDir) -> (Metadata, String) {
        let (metadata, mut secrets) = (metadata(dir), Secrets::made(8));
        let fresh = metadata
            .write(|change| {
                take_over(change, PARENT, &found("first"), at(50), 2)?;
                begin((change, &mut secrets), PARENT, CHILD, lsn(100), true)?;
                Ok(password(change, CHILD))
            })
            .unwrap();
        (metadata, fresh)
    }

    #[test]
    fn a_child_of_a_protected_branch_never_has_a_password_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, fresh) = family(&dir);
        assert_ne!(fresh, "first");
        metadata
            .write(|change| {
                assert_eq!(password(change, PARENT), "first");
                assert_eq!(due_names(change, CHILD), (vec!["owner".to_owned()], true));
                // A look at its data, which has the parent's and a role that nobody knew of.
                let stranger = FoundRole { oid: 11, name: "stranger".to_owned(), ..owner("first") };
                let seen = Found { roles: vec![owner("first"), stranger], databases: Vec::new() };
                take_over(change, CHILD, &seen, at(100), 3)?;
                let rows = roles(change, CHILD)?;
                assert_eq!(rows[0].password.as_deref(), Some(fresh.as_str()));
                assert_eq!((rows[1].password.as_deref(), rows[1].verifier.as_deref()), (None, None));
                note_set(change, CHILD, lsn(120))?;
                assert_eq!(due_names(change, CHILD), (Vec::new(), false));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_begins_below_the_position_where_a_child_got_its_passwords_gets_them_too() {
        for (set, at, foreign) in [(false, 100, true), (true, 119, true), (true, 120, false)] {
            let dir = tempfile::tempdir().unwrap();
            let (metadata, fresh) = family(&dir);
            let mut secrets = Secrets::made(8);
            metadata
                .write(|change| {
                    if set {
                        note_set(change, CHILD, lsn(120))?;
                    }
                    begin((change, &mut secrets), CHILD, GRANDCHILD, lsn(at), false)?;
                    assert_eq!(password(change, GRANDCHILD), fresh);
                    let due = due_names(change, GRANDCHILD);
                    assert_eq!(due, (if foreign { vec!["owner".to_owned()] } else { Vec::new() }, foreign));
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn a_reset_to_a_protected_branch_keeps_passwords_and_makes_new_ones_for_roles_that_are_new() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, fresh) = family(&dir);
        let mut secrets = Secrets::made(8);
        metadata
            .write(|change| {
                note_set(change, CHILD, lsn(120))?;
                let new = FoundRole { oid: 11, name: "new".to_owned(), ..owner("new") };
                let own = FoundRole { oid: 12, name: "own".to_owned(), ..owner("own") };
                let seen = Found { roles: vec![owner("first"), new], databases: Vec::new() };
                take_over(change, PARENT, &seen, at(150), 3)?;
                let row = roles(change, CHILD)?.remove(0);
                let mine = FoundRole { verifier: row.verifier, ..owner("") };
                let seen = Found { roles: vec![mine, own], databases: Vec::new() };
                take_over(change, CHILD, &seen, at(150), 3)?;
                replace((change, &mut secrets), PARENT, CHILD, lsn(200), true)?;
                let rows = roles(change, CHILD)?;
                assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["owner", "new"]);
                assert_eq!(rows[0].password.as_deref(), Some(fresh.as_str()));
                assert!(rows[1].password.is_some() && rows[1].verifier.as_deref() != Some("SCRAM-new"));
                // The one it made itself may be in the parent too, unseen; then it has the password it had here.
                let (names, foreign) = due_names(change, CHILD);
                assert_eq!((names, foreign), (["new", "own", "owner"].map(str::to_owned).to_vec(), true));
                // Restored to a branch that is not protected, nothing is foreign any more.
                run(change, "DELETE FROM foreign_password WHERE branch_id = ?", [GRANDCHILD])?;
                replace((change, &mut secrets), GRANDCHILD, CHILD, lsn(200), false)?;
                assert_eq!(due_names(change, CHILD), (Vec::new(), false));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_sql_made_on_foreign_data_keeps_the_password_it_made() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, fresh) = family(&dir);
        let mut secrets = Secrets::made(8);
        metadata
            .write(|change| {
                let made = FoundRole { oid: 11, name: "made".to_owned(), ..owner("made") };
                allow(change, CHILD, std::slice::from_ref(&made))?;
                let seen = Found { roles: vec![owner("first"), made], databases: Vec::new() };
                take_over(change, CHILD, &seen, at(110), 3)?;
                begin((change, &mut secrets), CHILD, GRANDCHILD, lsn(110), false)?;
                for branch in [CHILD, GRANDCHILD] {
                    let due = due(change, branch)?.verifiers;
                    assert_eq!(due.get("made").map(String::as_str), Some("SCRAM-made"), "{branch}");
                    assert_eq!((due.len(), password(change, branch)), (2, fresh.clone()));
                }
                allow(change, PARENT, &[owner("x")])?;
                assert_eq!(due_names(change, PARENT), (Vec::new(), false), "nothing is due on a parent");
                Ok(())
            })
            .unwrap();
    }
}
