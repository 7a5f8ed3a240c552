//! A branch answers for what was before its own start from the branch it began on: `main` keeps its past after a restore.

use std::time::Duration;

use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

/// The time by the database's clock, apart from what was done before and what comes after.
fn now(endpoint: &Endpoint) -> String {
    std::thread::sleep(Duration::from_millis(20));
    let now = endpoint.psql(
        "postgres",
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    std::thread::sleep(Duration::from_millis(20));
    now
}

fn flushed(endpoint: &Endpoint) -> String {
    endpoint.psql("postgres", "select pg_current_wal_flush_lsn()")
}

fn get(scion: &Scion, path: &str) -> Value {
    scion.api().get(&scion.path(path)).unwrap()
}

/// Main with one, two and three, restored to two, then with four. Gives the moments after one, and the id of what main
/// held before.
fn restored(scion: &Scion) -> (String, String, Value) {
    let root = scion.root();
    root.execute("create table t(n int); insert into t values (1)");
    let (lsn, time) = (flushed(root), now(root));
    root.execute("insert into t values (2); alter table t add column second int");
    let restore_to = now(root);
    root.execute("insert into t values (3)");
    let main = scion.root_branch();
    let body =
        json!({"source_branch_id": main, "source_timestamp": restore_to, "preserve_under_name": "old"});
    let answer = scion.api().post(&scion.path(&format!("/branches/{main}/restore")), body).unwrap();
    root.execute("insert into t values (4)");
    (lsn, time, answer["backup_branch"]["id"].clone())
}

fn rows(endpoint: &Endpoint) -> String {
    endpoint.psql("neondb", "select string_agg(n::text, ',' order by n) from t")
}

#[test]
fn main_has_its_past_after_a_restore_and_says_whose_it_is() {
    let scion = Scion::start();
    let (lsn, time, old) = restored(&scion);
    let main = json!(scion.root_branch());
    assert_eq!(rows(scion.root()), "1,2,4");
    for (name, at) in [("by-lsn", json!({"parent_lsn": lsn})), ("by-time", json!({"parent_timestamp": time}))]
    {
        let made = scion.try_branch(name, at, true).unwrap();
        assert_eq!(
            (&made["branch"]["parent_id"], &made["branch"]["history_branch_id"]),
            (&main, &old),
            "{name}"
        );
        let branch = scion.endpoint_of(&made);
        assert_eq!(rows(&branch), "1", "{name}");
        branch.execute("insert into t values (9)");
        let again = scion.branch(&format!("{name}-again"), json!({"parent_id": branch.branch}));
        assert_eq!(rows(&again), "1,9");
        let child = scion.try_branch(
            &format!("{name}-child"),
            json!({"parent_id": branch.branch, "parent_lsn": lsn}),
            false,
        );
        assert!(child.is_ok(), "{child:?}");
    }
    let shown = get(&scion, &format!("/branches/{}", scion.root_branch()));
    assert_eq!(shown["branch"]["history_branch_id"], Value::Null);

    let schema = get(&scion, &format!("/branches/{}/schema?db_name=neondb&lsn={lsn}", scion.root_branch()));
    assert_eq!(schema["history_branch_id"], old);
    assert!(!schema["sql"].as_str().unwrap().contains("second"));
    let path = format!(
        "/branches/{0}/compare_schema?db_name=neondb&base_branch_id={0}&base_timestamp={time}",
        scion.root_branch()
    );
    let compared = get(&scion, &path);
    assert_eq!((&compared["base_history_branch_id"], &compared["history_branch_id"]), (&old, &Value::Null));
    assert!(compared["diff"].as_str().unwrap().contains("second integer"), "{compared}");

    let path = format!("/branches/{}/snapshot?name=early&lsn={lsn}", scion.root_branch());
    let made = scion.api().post(&scion.path(&path), json!({})).unwrap();
    let snapshot = &made["snapshot"];
    assert_eq!((&snapshot["source_branch_id"], &snapshot["history_branch_id"]), (&main, &old));
    let path = format!("/snapshots/{}/restore", snapshot["id"].as_str().unwrap());
    let from = scion.api().post(&scion.path(&path), json!({"name": "from-early"})).unwrap();
    assert_eq!(rows(&scion.endpoint_of(&from)), "1");

    // The past is there without a row that names it, and a second restore goes there too.
    let gone =
        scion.api().delete(&scion.path(&format!("/branches/{}?hard_delete=true", old.as_str().unwrap())));
    assert!(gone.is_err(), "main began on it: {gone:?}");
    let body = json!({"source_branch_id": main, "source_lsn": lsn, "preserve_under_name": "older"});
    let path = format!("/branches/{}/restore", scion.root_branch());
    let answer = scion.api().post(&scion.path(&path), body).unwrap();
    assert_eq!(answer["branch"]["history_branch_id"], old);
    assert_eq!(rows(scion.root()), "1");
    assert_eq!(
        scion.root().psql("neondb", "select count(*) from pg_attribute where attname = 'second'"),
        "0"
    );
}

#[test]
fn the_past_of_a_protected_branch_is_opened_by_no_password_of_its_own() {
    let scion = Scion::start();
    let (lsn, _, old) = restored(&scion);
    let uri = scion.root().uri.clone();
    let body = json!({"branch": {"protected": true}});
    scion.api().patch(&scion.path(&format!("/branches/{}", old.as_str().unwrap())), body).unwrap();
    let made = scion.try_branch("early", json!({"parent_lsn": lsn}), true).unwrap();
    let early = scion.endpoint_of(&made);
    let password = |uri: &str| uri.split(['@', ':']).nth(2).unwrap().to_owned();
    assert_eq!(rows(&early), "1");
    assert_ne!(password(&early.uri), password(&uri));
}

#[test]
fn what_was_made_of_a_schema_alone_has_no_past() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(n int); insert into t values (1)");
    let time = now(root);
    let bare = scion.try_branch("bare", json!({"init_source": "schema-only"}), false).unwrap();
    let bare = bare["branch"]["id"].as_str().unwrap();
    let child = scion.try_branch("child", json!({"parent_id": bare}), false).unwrap();
    for parent in [bare, child["branch"]["id"].as_str().unwrap()] {
        let refused =
            scion.try_branch("early", json!({"parent_id": parent, "parent_timestamp": time}), false);
        let refused = refused.unwrap_err();
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.message.contains("before the history of bare"), "{refused:?}");
    }
}
