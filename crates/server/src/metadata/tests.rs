//! Rows are kept over a restart, names are unique, pages end, and what is removed takes its own along.

use super::branch::BranchRow;
use super::endpoint::{Desired, EndpointRow};
use super::operation::{Action, OperationRow};
use super::project::ProjectRow;
use super::*;
use crate::error::Kind;

/// A branch row with nothing special in it.
pub fn branch_row(id: &str, name: &str) -> BranchRow {
    BranchRow::new(id, "p", name, 1)
}

/// A project row with nothing special in it.
pub fn project_row(id: &str, state: &str) -> ProjectRow {
    ProjectRow {
        id: id.to_owned(),
        name: format!("Project {id}"),
        state: state.to_owned(),
        pg_version: 15,
        history_retention_s: 1,
        settings: "{}".to_owned(),
        default_endpoint_settings: "{}".to_owned(),
        created_us: 1,
        updated_us: 1,
        deleted_us: None,
    }
}

const fn listed(search: &str) -> project::Listed<'_> {
    project::Listed { state: project::READY, search, only: None }
}

/// A row of an endpoint that is to run, with nothing special in it.
pub fn endpoint_row(id: &str, branch: &str, port: u16) -> EndpointRow {
    EndpointRow {
        id: id.to_owned(),
        project_id: "p".to_owned(),
        branch_id: branch.to_owned(),
        port,
        read_only: false,
        desired: Desired::Active,
        options: "{}".to_owned(),
        tried: None,
        started_us: None,
        suspended_us: None,
        created_us: 1,
        updated_us: 1,
    }
}

fn with_project(dir: &tempfile::TempDir) -> Metadata {
    let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
    metadata
        .write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            let root = BranchRow { is_default: true, ..branch_row("br-a-a-a", "main") };
            branch::insert(change, &root)?;
            let secret = secret::Secret { password: "npg_x".to_owned(), verifier: "SCRAM-x".to_owned() };
            role::insert_role(change, &root.id, "owner", &secret, 1)?;
            role::insert_database(change, &root.id, "db", "owner", 1)
        })
        .unwrap();
    metadata
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn rows_are_there_after_a_restart_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = temp();
    drop(with_project(&dir));
    let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
    let row = metadata.read(|connection| branch::default(connection, "p")).unwrap();
    assert_eq!(row.name, "main");
    let mode = std::fs::metadata(dir.path().join("m.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let dir = temp();
    let metadata = with_project(&dir);
    metadata.write(|change| Ok(change.pragma_update(None, "user_version", 99)?)).unwrap();
    drop(metadata);
    assert!(Metadata::open(&dir.path().join("m.sqlite")).is_err());
}

#[test]
fn a_file_of_the_first_version_keeps_all_its_rows() {
    let dir = temp();
    let path = dir.path().join("m.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.execute_batch(
        "INSERT INTO project VALUES ('p', 'P', 'ready', 15, 1, '{}', '{}', 1, 1);
         INSERT INTO branch VALUES ('br-a-a-a', 'p', 'main', NULL, NULL, NULL, NULL, 1, 0, 0, NULL, 1, 1);
         INSERT INTO branch VALUES ('br-b-b-b', 'p', 'dev', 'br-a-a-a', '0/1', 5, NULL, 0, 1, 0, '{}', 2, 3);
         INSERT INTO branch VALUES ('br-c-c-c', 'p', 'gone', 'br-a-a-a', '0/1', 5, NULL, 0, 0, 1, NULL, 2, 3);
         INSERT INTO role VALUES ('br-b-b-b', 'owner', 'npg_x', 1, 1);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let metadata = Metadata::open(&path).unwrap();
    let rows = metadata.read(|connection| branch::all(connection, "p")).unwrap();
    assert_eq!(rows.len(), 3);
    let dev = rows.get(1).unwrap();
    assert_eq!((dev.store_id.as_str(), dev.protected, dev.deleted_us), ("br-b-b-b", true, None));
    assert!(rows.get(2).unwrap().purging && rows.get(2).unwrap().deleted_us.is_some());
    assert_eq!(metadata.read(|connection| role::roles(connection, "br-b-b-b")).unwrap().len(), 1);
    let noted = |id: &str| metadata.read(|connection| branch::annotation(connection, id)).unwrap();
    assert_eq!((noted("br-b-b-b").as_deref(), noted("br-a-a-a")), (Some("{}"), None));
    // References hold again, and lead to the new table.
    assert!(metadata.write(|change| branch::remove(change, "br-a-a-a")).is_err());
    metadata.write(|change| branch::remove(change, "br-b-b-b")).unwrap();
    assert!(metadata.read(|connection| role::roles(connection, "br-b-b-b")).unwrap().is_empty());
}

#[test]
fn a_branch_name_is_taken_once_per_project() {
    let metadata = with_project(&temp());
    let second = metadata.write(|change| branch::insert(change, &branch_row("br-b-b-b", "main")));
    let error = second.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(error.message, "branch with the provided name \"main\" already exists");
}

#[test]
fn a_failed_write_leaves_nothing() {
    let metadata = with_project(&temp());
    let result = metadata.write(|change| {
        branch::insert(change, &branch_row("br-b-b-b", "dev"))?;
        branch::insert(change, &branch_row("br-c-c-c", "main"))
    });
    assert!(result.is_err());
    assert_eq!(metadata.read(|connection| branch::all(connection, "p")).unwrap().len(), 1);
}

#[test]
fn a_child_inherits_roles_with_their_passwords_and_databases() {
    let metadata = with_project(&temp());
    metadata
        .write(|change| {
            let child = BranchRow { parent_id: Some("br-a-a-a".to_owned()), ..branch_row("br-b-b-b", "dev") };
            branch::insert(change, &child)?;
            role::inherit(change, "br-a-a-a", "br-b-b-b", types::Lsn::from_raw(1).unwrap())
        })
        .unwrap();
    let roles = metadata.read(|connection| role::roles(connection, "br-b-b-b")).unwrap();
    assert_eq!(roles.first().unwrap().password.as_deref(), Some("npg_x"));
    let databases = metadata.read(|connection| role::databases(connection, "br-b-b-b")).unwrap();
    assert_eq!(databases.first().unwrap().owner_name, "owner");
    let children = metadata.read(|connection| branch::children(connection, "br-a-a-a")).unwrap();
    assert_eq!(children.first().unwrap().name, "dev");
}

#[test]
fn what_is_being_made_or_deleted_is_not_found() {
    let metadata = with_project(&temp());
    metadata
        .write(|change| {
            project::put(change, &project_row("q", project::CREATING))?;
            endpoint::insert(change, &endpoint_row("ep-1", "br-a-a-a", 20_000))?;
            endpoint::set_desired(change, "ep-1", Desired::Gone, 2)?;
            let deleted = BranchRow { deleted_us: Some(2), ..branch_row("br-b-b-b", "dev") };
            branch::insert(change, &deleted)?;
            // Its name is free again.
            branch::insert(change, &branch_row("br-c-c-c", "dev"))
        })
        .unwrap();
    metadata
        .read(|connection| {
            assert_eq!(project::get(connection, "q").unwrap_err().kind, Kind::NotFound);
            assert_eq!(endpoint::get(connection, "p", "ep-1").unwrap_err().kind, Kind::NotFound);
            assert_eq!(branch::get(connection, "p", "br-b-b-b").unwrap_err().kind, Kind::NotFound);
            assert_eq!(endpoint::all(connection).unwrap().len(), 1);
            Ok(())
        })
        .unwrap();
    // A wish that comes too late does not bring it back.
    metadata.write(|change| endpoint::set_desired(change, "ep-1", Desired::Active, 3)).unwrap();
    let row = metadata.read(|connection| endpoint::find(connection, "ep-1")).unwrap().unwrap();
    assert_eq!(row.desired, Desired::Gone);
}

#[test]
fn removing_a_project_removes_all_that_is_in_it() {
    let metadata = with_project(&temp());
    metadata
        .write(|change| {
            let child = BranchRow { parent_id: Some("br-a-a-a".to_owned()), ..branch_row("br-b-b-b", "dev") };
            branch::insert(change, &child)?;
            endpoint::insert(change, &endpoint_row("ep-1", "br-b-b-b", 20_000))?;
            operation::put(change, &OperationRow::begun(Action::CreateBranch, "p", "br-b-b-b", 1)?)?;
            project::remove(change, "p")
        })
        .unwrap();
    let left: i64 = metadata
        .read(|connection| {
            let sql = "SELECT (SELECT count(*) FROM branch) + (SELECT count(*) FROM endpoint) + \
                       (SELECT count(*) FROM role) + (SELECT count(*) FROM operation)";
            Ok(connection.query_row(sql, [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn pages_of_projects_end() {
    let metadata = with_project(&temp());
    metadata
        .write(|change| {
            (0..25).try_for_each(|i| project::put(change, &project_row(&format!("p{i}"), project::READY)))
        })
        .unwrap();
    let (mut after, mut seen) = (None, 0);
    loop {
        let read = |connection: &_| project::page(connection, after.as_ref(), 10, listed(""));
        let page = metadata.read(read).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        seen += page.len();
        // Whoever was last on a page may be gone when the next one is asked for.
        metadata.write(|change| project::remove(change, &last.id)).unwrap();
    }
    assert_eq!(seen, 26);
    let found =
        metadata.read(|connection| project::page(connection, None, 10, listed("project P7"))).unwrap();
    assert_eq!(found.len(), 1);
}

#[test]
fn operations_say_how_they_ended() {
    let metadata = with_project(&temp());
    let begun = OperationRow::begun(Action::StartCompute, "p", "br-a-a-a", 1).unwrap();
    let failed = begun.clone().about_endpoint("ep-1").ended(Some(&Error::unavailable("no luck")));
    metadata
        .write(|change| operation::put(change, &begun).and_then(|()| operation::put(change, &failed)))
        .unwrap();
    let row = metadata.read(|connection| operation::get(connection, "p", &begun.id)).unwrap();
    assert_eq!((row.status.as_str(), row.error.as_deref()), (operation::FAILED, Some("no luck")));
    let page = metadata.read(|connection| operation::page(connection, "p", "", 10)).unwrap();
    assert_eq!(page.len(), 1);
}

#[test]
fn old_operations_and_the_oldest_of_many_are_forgotten() {
    let metadata = with_project(&temp());
    let ended = |at_us: i64| {
        let begun = OperationRow::begun(Action::StartCompute, "p", "br-a-a-a", at_us).unwrap();
        OperationRow { updated_us: at_us, ..begun.ended(None) }
    };
    let rows: Vec<OperationRow> = (1..=6).map(ended).collect();
    let left = metadata.write(|change| {
        rows.iter().try_for_each(|row| operation::put(change, row))?;
        assert_eq!(operation::prune(change, 3, 3)?, 3);
        operation::page(change, "p", "", 10)
    });
    let left: Vec<i64> = left.unwrap().iter().map(|row| row.updated_us).collect();
    assert_eq!(left, [6, 5, 4]);
    let unknown = metadata.read(|connection| operation::page(connection, "p", &rows[0].id, 10));
    assert_eq!(unknown.unwrap_err().kind, Kind::Malformed, "the cursor of a page that is forgotten");
}

#[test]
fn nothing_begins_on_data_that_no_branch_has_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = with_project(&dir);
    metadata
        .write(|change| {
            let source = branch::get(change, "p", "br-a-a-a")?;
            assert_eq!(branch::holder(change, &source)?, source.id);
            branch::update(change, &BranchRow { store_id: "br-n-n-n".to_owned(), ..source.clone() })?;
            assert_eq!(branch::holder(change, &source).unwrap_err().kind, Kind::Busy);
            let kept = BranchRow { store_id: source.store_id.clone(), ..branch_row("br-k-k-k", "kept") };
            branch::insert(change, &kept)?;
            assert_eq!(branch::holder(change, &source)?, kept.id);
            Ok(())
        })
        .unwrap();
}

/// A project whose branches are a chain of `deep` that is purged and `live` ones, some below the last of the chain.
fn with_branches(dir: &tempfile::TempDir, deep: usize, live: usize) -> Metadata {
    let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
    let write = metadata.write(|change| {
        project::put(change, &project_row("p", project::READY))?;
        branch::insert(change, &BranchRow { is_default: true, ..branch_row("br-a-a-a", "main") })?;
        let mut parent = "br-a-a-a".to_owned();
        for number in 0..deep {
            let id = format!("br-chain-{number}");
            let parent_id = Some(std::mem::replace(&mut parent, id.clone()));
            let row = BranchRow { parent_id, purging: true, deleted_us: Some(1), ..branch_row(&id, &id) };
            branch::insert(change, &row)?;
        }
        for number in 0..live {
            let id = format!("br-live-{number}");
            branch::insert(change, &branch_row(&id, &id))?;
        }
        Ok(())
    });
    write.unwrap();
    metadata
}

#[test]
fn what_is_purged_goes_children_first_and_stays_below_what_is_needed() {
    let dir = temp();
    let metadata = with_branches(&dir, 5, 1);
    let left = |connection: &Connection| -> Result<Vec<String>> {
        Ok(branch::all(connection, "p")?.into_iter().map(|row| row.id).collect())
    };
    metadata
        .write(|change| {
            // The third has an endpoint whose files are there, and what it begins on is needed by it.
            endpoint::insert(change, &endpoint_row("ep-1", "br-chain-2", 20_000))?;
            assert_eq!(branch::purge(change, "p")?, 2);
            assert_eq!(left(change)?, ["br-a-a-a", "br-chain-0", "br-chain-1", "br-chain-2", "br-live-0"]);
            endpoint::remove(change, "ep-1")?;
            let child = BranchRow { parent_id: Some("br-chain-0".to_owned()), ..branch_row("br-kid", "kid") };
            branch::insert(change, &child)?;
            assert_eq!(branch::purge(change, "p")?, 2);
            assert_eq!(left(change)?, ["br-a-a-a", "br-chain-0", "br-live-0", "br-kid"]);
            assert_eq!(branch::purge(change, "p")?, 0);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_below_a_branch_is_all_that_would_go_with_it() {
    let dir = temp();
    let metadata = with_branches(&dir, 0, 0);
    let child =
        |id: &str, parent: &str| BranchRow { parent_id: Some(parent.to_owned()), ..branch_row(id, id) };
    let gone = |row: BranchRow, purging: bool| BranchRow { deleted_us: Some(1), purging, ..row };
    metadata
        .write(|change| {
            branch::insert(change, &child("top", "br-a-a-a"))?;
            branch::insert(change, &child("kid", "top"))?;
            branch::insert(change, &gone(child("gone", "top"), false))?;
            branch::insert(change, &gone(child("gone-kid", "gone"), false))?;
            branch::insert(change, &gone(child("purged", "kid"), true))?;
            branch::insert(change, &child("grandkid", "kid"))?;
            let below = |id: &str, deleted: bool| -> Result<Vec<String>> {
                Ok(branch::below(change, id, deleted)?.into_iter().map(|row| row.id).collect())
            };
            assert_eq!(below("top", false)?, ["kid", "grandkid"]);
            assert_eq!(below("top", true)?, ["kid", "gone", "gone-kid", "grandkid"]);
            assert_eq!(below("grandkid", true)?, [""; 0]);
            Ok(())
        })
        .unwrap();
}

/// Steps of SQLite, which are the same each time.
#[test]
fn what_is_looked_for_costs_no_more_for_branches_that_it_is_not_about() {
    type Work = (&'static str, fn(&Connection) -> Result<()>);
    let each: [Work; 7] = [
        ("what is due", |connection| branch::due(connection, 0, 0).map(drop)),
        ("what is purged", |connection| branch::purge(connection, "p").map(drop)),
        ("what is below one", |connection| branch::below(connection, "br-live-0", true).map(drop)),
        ("what is protected", |connection| branch::any_protected(connection, "p").map(drop)),
        ("what replaced one", |connection| branch::who_took_the_place_of(connection, "br-live-0").map(drop)),
        ("the default", |connection| branch::default(connection, "p").map(drop)),
        ("another project", |connection| branch::data_of_all(connection, "q").map(drop)),
    ];
    let costs = |live: usize| {
        let dir = temp();
        let metadata = with_branches(&dir, 0, live);
        each.map(|(_, cost)| work::steps(|| metadata.write(|change| cost(change)).unwrap()).0)
    };
    let (few, many) = (costs(20), costs(2000));
    for (((what, _), few), many) in each.iter().zip(few).zip(many) {
        assert!(many <= few + 20, "{what}: {few} steps beside 20 branches, {many} beside 2000");
    }
}

#[test]
fn a_purge_costs_as_much_for_each_branch_however_many_there_are() {
    let cost = |deep: usize| {
        let dir = temp();
        let metadata = with_branches(&dir, deep, 0);
        let (steps, removed) = work::steps(|| metadata.write(|change| branch::purge(change, "p")).unwrap());
        assert_eq!(removed, deep);
        steps
    };
    let (few, many) = (cost(200), cost(2000));
    assert!(many < few * 12, "{few} steps for 200 branches, {many} for 2000");
}
