//! Branches go, by request or by themselves, and come back; what they begin on stays for as long as they can.

use std::time::Duration;

use scion_tests::clock::in_seconds;
use scion_tests::process::wait_for;
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

fn delete(scion: &Scion, branch: &str, how: &str) -> Result<Value, scion_tests::ApiError> {
    scion.api().delete(&scion.path(&format!("/branches/{branch}{how}")))
}

fn recover(scion: &Scion, branch: &str, body: Value) -> Result<Value, scion_tests::ApiError> {
    scion.api().post(&scion.path(&format!("/branches/{branch}/recover")), body)
}

fn endpoint_for(scion: &Scion, branch: &str) -> Endpoint {
    let body = json!({"endpoint": {"branch_id": branch, "type": "read_write"}});
    let made = scion.api().post(&scion.path("/endpoints"), body).unwrap();
    let id = made["endpoint"]["id"].as_str().unwrap().to_owned();
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { id, branch: branch.to_owned(), uri: scion.uri_of(branch), dir }
}

fn names(scion: &Scion, query: &str) -> Vec<String> {
    let list = scion.api().get(&scion.path(&format!("/branches{query}"))).unwrap();
    list["branches"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_deleted_branch_comes_back_with_every_row() {
    let mut scion = Scion::start();
    let dev = scion.branch("dev", json!({}));
    dev.execute("create table t(id int primary key); insert into t select generate_series(1, 5000)");
    delete(&scion, &dev.branch, "").unwrap();
    assert!(!dev.dir.exists());
    assert!(scion.api().get(&scion.path(&format!("/branches/{}", dev.branch))).is_err());
    assert_eq!(names(&scion, ""), ["main"]);
    assert_eq!(names(&scion, "?include_deleted=true"), ["main", "dev"]);
    assert_eq!(delete(&scion, &dev.branch, "").unwrap(), Value::Null, "a second time does nothing");
    // Its name is free, and taken when it comes back.
    scion.try_branch("dev", json!({}), false).unwrap();
    scion.kill_serve();
    scion.relaunch();
    assert_eq!(recover(&scion, &dev.branch, json!({})).unwrap_err().status, 409);
    let back = recover(&scion, &dev.branch, json!({"name": "dev-back"})).unwrap();
    assert_eq!(back["branch"]["id"], json!(dev.branch));
    let dev = endpoint_for(&scion, &dev.branch);
    assert_eq!(dev.number("select count(*) from t"), 5000);
    dev.amcheck();
    assert_eq!(recover(&scion, &dev.branch, json!({})).unwrap_err().status, 422, "it is not deleted");
    assert_eq!(recover(&scion, "br-no-such-one", json!({})).unwrap_err().status, 404);
}

#[test]
fn a_whole_tree_goes_and_comes_back_from_its_top() {
    let scion = Scion::start();
    let top = scion.branch("top", json!({}));
    top.execute("create table t(id int); insert into t values (1)");
    let middle = scion.branch("middle", json!({"parent_id": top.branch}));
    middle.execute("insert into t values (2)");
    let leaf = scion.branch("leaf", json!({"parent_id": middle.branch, "protected": true}));
    assert_eq!(delete(&scion, &top.branch, "").unwrap_err().status, 422);
    assert_eq!(delete(&scion, &top.branch, "?recursive=true").unwrap_err().status, 422, "leaf is protected");
    assert_eq!(names(&scion, "").len(), 4, "nothing of it was deleted");
    assert_eq!(middle.number("select count(*) from t"), 2, "and all of it runs");
    assert!(scion.cli(&["branch", "protect", "leaf", "--off"]).status.success());
    assert!(scion.cli(&["branch", "delete", "top", "--recursive", "--yes"]).status.success());
    assert_eq!(names(&scion, ""), ["main"]);
    let refused = recover(&scion, &middle.branch, json!({})).unwrap_err();
    assert!(refused.message.contains("its parent top is deleted"), "{}", refused.message);
    assert!(scion.cli(&["branch", "recover", "top"]).status.success());
    recover(&scion, &middle.branch, json!({})).unwrap();
    recover(&scion, &leaf.branch, json!({})).unwrap();
    let leaf = endpoint_for(&scion, &leaf.branch);
    assert_eq!(leaf.number("select count(*) from t"), 2);
    // For good: the children that are deleted already go along, and all data.
    drop(leaf);
    delete(&scion, &middle.branch, "?recursive=true").unwrap();
    delete(&scion, &top.branch, "?hard_delete=true").unwrap();
    assert_eq!(names(&scion, "?include_deleted=true"), ["main"]);
    assert_eq!(scion.stored(), 1);
}

#[test]
fn what_a_branch_began_on_stays_after_its_parent_was_reset() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int)");
    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t values (1)");
    let kid = scion.branch("kid", json!({"parent_id": dev.branch}));
    delete(&scion, &kid.branch, "").unwrap();
    let body = json!({"source_branch_id": scion.root_branch()});
    scion.api().post(&scion.path(&format!("/branches/{}/restore", dev.branch)), body).unwrap();
    assert_eq!(dev.number("select count(*) from t"), 0);
    recover(&scion, &kid.branch, json!({})).unwrap();
    assert_eq!(endpoint_for(&scion, &kid.branch).number("select count(*) from t"), 1);
    assert_eq!(scion.stored(), 4);
    delete(&scion, &kid.branch, "?hard_delete=true").unwrap();
    assert_eq!(scion.stored(), 2, "main and dev are left");
}

#[test]
fn a_branch_expires_by_itself_and_not_if_others_rely_on_it() {
    let mut scion = Scion::start();
    let soon = in_seconds(60);
    let made = scion.try_branch("expiring", json!({"expires_at": soon}), true).unwrap();
    assert!(made["branch"]["ttl_interval_seconds"].as_i64().unwrap() <= 60);
    let ttl = scion.endpoint_of(&made);
    let patch = |branch: &str, change: Value| {
        scion.api().patch(&scion.path(&format!("/branches/{branch}")), json!({"branch": change}))
    };
    let later = in_seconds(3600);
    assert_eq!(patch(scion.root_branch(), json!({"expires_at": later})).unwrap_err().status, 422);
    assert_eq!(patch(&ttl.branch, json!({"protected": true})).unwrap_err().status, 422);
    assert_eq!(patch(&ttl.branch, json!({"expires_at": "2001-01-01T00:00:00Z"})).unwrap_err().status, 422);
    let child = scion.try_branch("child", json!({"parent_id": ttl.branch}), false);
    assert_eq!(child.unwrap_err().status, 422);
    let kept = scion.try_branch("kept", json!({"expires_at": soon}), false).unwrap();
    let kept = kept["branch"]["id"].as_str().unwrap();
    assert!(patch(kept, json!({"expires_at": null})).unwrap()["branch"]["expires_at"].is_null());
    let cli = scion.cli(&["branch", "expire", "kept", "--in", "2h"]);
    assert!(cli.status.success(), "{}", String::from_utf8_lossy(&cli.stderr));
    let ttl_s = scion.branch_info(kept)["ttl_interval_seconds"].as_i64().unwrap();
    assert!((7198..=7200).contains(&ttl_s), "{ttl_s}");
    // It goes while the server is away, too.
    scion.kill_serve();
    let file = rusqlite::Connection::open(scion.data_dir().join("scion.sqlite")).unwrap();
    let over = "UPDATE branch SET expires_us = 1 WHERE name = 'expiring' AND expires_us IS NOT NULL";
    assert_eq!(file.execute(over, []).unwrap(), 1);
    scion.relaunch();
    wait_for("the branch to expire", Duration::from_secs(60), || {
        (names(&scion, "") == ["main", "kept"]).then_some(())
    });
    let list = scion.api().get(&scion.path("/branches?include_deleted=true&search=expiring")).unwrap();
    assert_eq!(list["branches"][0]["recovery"]["deletion_method"], json!("ttl"));
    let back = recover(&scion, &ttl.branch, json!({})).unwrap();
    assert!(back["branch"]["expires_at"].is_null());
}

/// What expires has no children: it could not be deleted when its time has come.
#[test]
fn nothing_comes_back_below_a_branch_that_expires() {
    let scion = Scion::start();
    let id = |made: Value| made["branch"]["id"].as_str().unwrap().to_owned();
    let dev = id(scion.try_branch("dev", json!({}), false).unwrap());
    let kid = id(scion.try_branch("kid", json!({"parent_id": dev}), false).unwrap());
    delete(&scion, &kid, "").unwrap();
    let expire = |at: Value| {
        let path = scion.path(&format!("/branches/{dev}"));
        scion.api().patch(&path, json!({"branch": {"expires_at": at}})).unwrap()
    };
    expire(json!(in_seconds(3600)));
    let refused = recover(&scion, &kid, json!({})).unwrap_err();
    assert_eq!(refused.status, 422);
    assert!(refused.message.contains("branch dev expires"), "{}", refused.message);
    expire(Value::Null);
    recover(&scion, &kid, json!({})).unwrap();
}

#[test]
fn a_request_sent_twice_makes_one_branch() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int)");
    let body = json!({"branch": {"name": "ci"}, "endpoints": [{"type": "read_write"}]});
    let send = |key: &str, body: &Value| {
        scion.api().post_with(&scion.path("/branches"), ("Idempotency-Key", key), body.clone())
    };
    let first = send("run-1", &body).unwrap();
    let again = send("run-1", &body).unwrap();
    assert_eq!(first["branch"]["id"], again["branch"]["id"]);
    assert_eq!(first["connection_uris"], again["connection_uris"]);
    assert_eq!(send("run-1", &json!({"branch": {"name": "other"}})).unwrap_err().status, 422);
    assert_eq!(send("run-2", &body).unwrap_err().status, 409);
    let create = |on_conflict: &str| {
        scion.api().post(&scion.path(&format!("/branches?on_conflict={on_conflict}")), body.clone())
    };
    let ci = scion.endpoint_of(&first);
    ci.execute("insert into t values (1)");
    assert_eq!(create("return").unwrap()["branch"]["id"], first["branch"]["id"]);
    assert_eq!(ci.number("select count(*) from t"), 1);
    scion.root().execute("insert into t values (7), (8)");
    assert_eq!(create("reset").unwrap()["connection_uris"], first["connection_uris"]);
    assert_eq!(ci.number("select count(*) from t"), 2);
    assert_eq!(create("explode").unwrap_err().status, 400);
    assert_eq!(names(&scion, "").len(), 2);
}

#[test]
fn a_server_killed_while_it_deletes_has_deleted_all_or_nothing() {
    let mut scion = Scion::start();
    for round in 0..6_u64 {
        let top = scion.branch(&format!("top of {round}"), json!({}));
        top.execute("create table t(id int); insert into t values (1)");
        let kid = scion.branch(&format!("kid of {round}"), json!({"parent_id": top.branch}));
        kid.execute("insert into t values (2)");
        let how = if round % 2 == 0 { "?recursive=true" } else { "?recursive=true&hard_delete=true" };
        let path = scion.path(&format!("/branches/{}{how}", top.branch));
        scion.killed_during(5 + round * 40, |api| drop(api.delete(&path)));
        // No id has a blank in it.
        let left = names(&scion, &format!("?search=%20of%20{round}"));
        assert!(left.is_empty() || left.len() == 2, "round {round}: {left:?}");
        if left.len() == 2 {
            assert_eq!(scion_tests::sql::number(&mut kid.reconnect(), "select count(*) from t"), 2);
            delete(&scion, &top.branch, "?recursive=true&hard_delete=true").unwrap();
        } else if round % 2 == 0 {
            recover(&scion, &top.branch, json!({})).unwrap();
            recover(&scion, &kid.branch, json!({})).unwrap();
            assert_eq!(endpoint_for(&scion, &kid.branch).number("select count(*) from t"), 2);
            delete(&scion, &top.branch, "?recursive=true&hard_delete=true").unwrap();
        }
    }
    wait_for("all data of deleted branches to be gone", Duration::from_secs(20), || {
        (scion.stored() == 1).then_some(())
    });
}
