//! A moment gets a name and keeps its data, whatever becomes of the branch; what is made of it can take a branch's place.

use std::time::Duration;

use scion_tests::clock::in_seconds;
use scion_tests::process::wait_for;
use scion_tests::{ApiError, Endpoint, Scion, sql};
use serde_json::{Value, json};

fn snapshot(scion: &Scion, branch: &str, query: &str) -> Result<Value, ApiError> {
    let made = scion.api().post(&scion.path(&format!("/branches/{branch}/snapshot?{query}")), json!({}))?;
    Ok(made["snapshot"].clone())
}

fn restore(scion: &Scion, snapshot: &Value, body: Value) -> Result<Value, ApiError> {
    let id = snapshot["id"].as_str().unwrap();
    scion.api().post(&scion.path(&format!("/snapshots/{id}/restore")), body)
}

fn remove(scion: &Scion, snapshot: &Value) -> Result<Value, ApiError> {
    scion.api().delete(&scion.path(&format!("/snapshots/{}", snapshot["id"].as_str().unwrap())))
}

fn delete(scion: &Scion, branch: &str, how: &str) {
    scion.api().delete(&scion.path(&format!("/branches/{branch}{how}"))).unwrap();
}

fn snapshots(scion: &Scion) -> Vec<Value> {
    scion.api().get(&scion.path("/snapshots")).unwrap()["snapshots"].as_array().unwrap().clone()
}

fn default_branch(scion: &Scion) -> String {
    let list = scion.api().get(&scion.path("/branches")).unwrap();
    let found = list["branches"].as_array().unwrap().iter().find(|it| it["default"] == true).unwrap();
    text(&found["id"]).to_owned()
}

fn branches(scion: &Scion) -> Vec<String> {
    let list = scion.api().get(&scion.path("/branches")).unwrap();
    list["branches"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn lsn(endpoint: &Endpoint) -> String {
    endpoint.connect().query_one("select pg_current_wal_flush_lsn()::text", &[]).unwrap().get(0)
}

#[test]
fn the_data_of_a_snapshot_outlives_its_branch_however_that_goes_and_a_killed_server() {
    let mut scion = Scion::start();
    let mut kept = Vec::new();
    for (how, rows) in [("", 1000), ("?hard_delete=true", 2000), ("?recursive=true&hard_delete=true", 3000)] {
        let dev = scion.branch("dev", json!({}));
        dev.execute(&format!(
            "create table t(id int primary key); insert into t select generate_series(1, {rows})"
        ));
        let made = snapshot(&scion, &dev.branch, &format!("name=with-{rows}")).unwrap();
        assert_eq!(made["source_branch_id"], json!(dev.branch));
        dev.execute("delete from t");
        if how.contains("recursive") {
            drop(scion.branch("kid", json!({"parent_id": dev.branch})));
        }
        delete(&scion, &dev.branch, how);
        kept.push((made, rows));
    }
    scion.kill_serve();
    scion.relaunch();
    assert_eq!(snapshots(&scion).len(), 3);
    for (made, rows) in &kept {
        let back = restore(&scion, made, json!({"name": format!("back-{rows}")})).unwrap();
        let back = scion.endpoint_of(&back);
        assert_eq!(back.number("select count(*) from t"), *rows, "its source was deleted");
        back.execute("insert into t values (0)");
        back.amcheck();
    }
    // What is made of one leaves it as it was, and goes on without it.
    let (made, rows) = &kept[1];
    let again = scion.endpoint_of(&restore(&scion, made, json!({})).unwrap());
    assert_eq!(again.number("select count(*) from t"), *rows);
    remove(&scion, made).unwrap();
    assert_eq!(remove(&scion, made).unwrap_err().status, 404);
    scion.kill_serve();
    scion.relaunch();
    assert_eq!(sql::number(&mut again.reconnect(), "select count(*) from t"), *rows);
    for name in ["back-1000", "back-2000", "back-3000"] {
        let list = scion.api().get(&scion.path("/branches")).unwrap();
        let it = list["branches"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
        delete(&scion, text(&it["id"]), "?hard_delete=true");
    }
    delete(&scion, &again.branch, "?hard_delete=true");
    remove(&scion, &kept[0].0).unwrap();
    remove(&scion, &kept[2].0).unwrap();
    // The root, and the branch that was deleted softly.
    wait_for("what nothing names to be gone", Duration::from_secs(20), || {
        (scion.stored() <= 2).then_some(())
    });
}

#[test]
fn a_snapshot_is_of_the_head_a_position_or_a_time_and_is_renamed_and_expires() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int); insert into t values (1)");
    let first = lsn(root);
    std::thread::sleep(Duration::from_millis(20));
    let time: String = root
        .connect()
        .query_one(
            "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            &[],
        )
        .unwrap()
        .get(0);
    std::thread::sleep(Duration::from_millis(20));
    root.execute("insert into t values (2)");
    let of = |query: String, rows: i64| {
        let made = snapshot(&scion, &root.branch, &query).unwrap();
        let back = scion.endpoint_of(&restore(&scion, &made, json!({})).unwrap());
        assert_eq!(back.number("select count(*) from t"), rows, "{query}");
        made
    };
    let head = of(String::new(), 2);
    of(format!("lsn={first}&slug=s-one"), 1);
    of(format!("timestamp={time}&name=s2&expires_at=2035-01-01T00:00:00Z"), 1);
    let refused = |query: String| snapshot(&scion, &root.branch, &query).unwrap_err().status;
    assert_eq!(refused("name=s2".to_owned()), 409);
    assert_eq!(refused("slug=s-one".to_owned()), 409);
    assert_eq!(refused(format!("lsn={first}&timestamp={time}")), 400);
    assert_eq!(refused("lsn=FFFF/0".to_owned()), 422);
    assert_eq!(refused("expires_at=2020-01-01T00:00:00Z".to_owned()), 422);
    assert_eq!(snapshot(&scion, "br-no-such-one", "").unwrap_err().status, 404);

    let path = scion.path(&format!("/snapshots/{}", text(&head["id"])));
    let change = |change: Value| scion.api().patch(&path, json!({"snapshot": change}));
    assert_eq!(change(json!({"name": "s2"})).unwrap_err().status, 409);
    assert_eq!(change(json!({"name": "s3"})).unwrap()["snapshot"]["name"], "s3");
    assert!(change(json!({"expires_at": in_seconds(3)})).unwrap()["snapshot"]["expires_at"].is_string());
    wait_for("the snapshot to expire", Duration::from_secs(20), || {
        (scion.api().get(&path).is_err_and(|error| error.status == 404)).then_some(())
    });
    assert_eq!(snapshots(&scion).len(), 2);
}

#[test]
fn what_is_made_of_a_snapshot_takes_the_place_of_its_branch_with_its_connection_string() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(v text); insert into t values ('good')");
    let made = snapshot(&scion, &root.branch, "name=good").unwrap();
    root.execute("update t set v = 'bad'; insert into t values ('late')");
    let kid = scion.branch("kid", json!({}));
    // Newer than the snapshot: it is to work afterwards.
    let reset = scion.path(&format!("/branches/{}/roles/neondb_owner/reset_password", root.branch));
    scion.api().post(&reset, json!({})).unwrap();
    let uri = scion.uri_of(&root.branch);
    let root = Endpoint { uri: uri.clone(), ..root };
    let connects = |uri: &str| postgres::Client::connect(uri, postgres::NoTls).is_ok();
    assert!(connects(&uri));

    let look = restore(&scion, &made, json!({"name": "look"})).unwrap();
    assert_eq!(
        (&look["branch"]["restore_status"], &look["branch"]["restored_as"]),
        (&json!("restored"), &json!(root.branch))
    );
    assert_eq!(look["branch"]["restored_from"], made["id"]);
    let look = scion.endpoint_of(&look);
    assert_eq!(look.number("select count(*) from t where v = 'good'"), 1);
    look.execute("insert into t values ('looked')");
    assert_eq!(root.number("select count(*) from t"), 2, "nothing has changed yet");
    let finalize = |scion: &Scion, branch: &str| {
        scion.api().post(&scion.path(&format!("/branches/{branch}/finalize_restore")), json!({}))
    };
    assert_eq!(finalize(&scion, &kid.branch).unwrap_err().status, 422);
    finalize(&scion, &look.branch).unwrap();

    assert!(connects(&uri), "the connection string changed");
    assert_eq!(root.number("select count(*) from t where v in ('good', 'looked')"), 2);
    let now = scion.branch_info(&look.branch);
    assert_eq!(
        (&now["name"], &now["default"], &now["restore_status"]),
        (&json!("main"), &json!(true), &json!("finalized"))
    );
    let old = scion.branch_info(&root.branch);
    assert_eq!((&old["name"], &old["default"]), (&json!("main (old)"), &json!(false)));
    let look = Endpoint { uri: scion.uri_of(&root.branch), ..look };
    assert_eq!(look.number("select count(*) from t where v in ('bad', 'late')"), 2, "they swapped endpoints");
    assert_eq!(scion.branch_info(&kid.branch)["parent_id"], json!(root.branch));
    assert_eq!(finalize(&scion, &look.branch).unwrap_err().status, 422);
    // All of it is there after a crash, and is written and branched from.
    scion.kill_serve();
    scion.relaunch();
    root.execute("insert into t values ('after')");
    assert_eq!(scion.branch("child", json!({})).number("select count(*) from t"), 3);
    let body = json!({"parent_id": old["id"]});
    assert_eq!(scion.branch("of old", body).number("select count(*) from t where v = 'bad'"), 1);
    // The second time it takes the place of what took the place.
    let done = restore(&scion, &made, json!({"finalize_restore": true})).unwrap();
    assert_eq!(done["replaced_branch"]["id"], now["id"]);
    assert_eq!(root.number("select count(*) from t"), 1);
    assert!(connects(&uri));
    assert_eq!(branches(&scion).iter().filter(|name| name.starts_with("main")).count(), 3);
    root.amcheck();
    look.amcheck();
}

/// Then the branch is above its snapshot, and below what was made of it.
#[test]
fn a_snapshot_that_took_the_place_of_its_branch_more_than_once_is_looked_at_again() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t as select 1 as id");
    let settings = json!({"endpoint": {"settings": {"pg_settings": {"work_mem": "5MB"}}}});
    scion.api().patch(&scion.path(&format!("/endpoints/{}", root.id)), settings).unwrap();
    let made = snapshot(&scion, &root.branch, "name=good").unwrap();
    for _ in 0..2 {
        restore(&scion, &made, json!({"finalize_restore": true})).unwrap();
    }
    let look = scion.endpoint_of(&restore(&scion, &made, json!({"name": "look"})).unwrap());
    assert_eq!(look.number("select count(*) from t"), 1);
    assert_eq!(look.psql("neondb", "show work_mem"), "5MB");
}

/// What expires has no children, and each branch has its own backup schedule.
#[test]
fn the_place_of_a_branch_that_expires_is_not_for_one_with_children() {
    let scion = Scion::start();
    let id = |made: &Value| text(&made["branch"]["id"]).to_owned();
    let dev = id(&scion.try_branch("dev", json!({"expires_at": in_seconds(7200)}), false).unwrap());
    let made = snapshot(&scion, &dev, "name=s").unwrap();
    let look = id(&restore(&scion, &made, json!({"endpoints": [], "name": "look"})).unwrap());
    for (branch, hour) in [(&dev, 3), (&look, 4)] {
        let body = json!({"schedule": [{"frequency": "yearly", "hour": hour}]});
        scion.api().put(&scion.path(&format!("/branches/{branch}/backup_schedule")), body).unwrap();
    }
    let kid = id(&scion.try_branch("kid", json!({"parent_id": look}), false).unwrap());
    let finalize = || scion.api().post(&scion.path(&format!("/branches/{look}/finalize_restore")), json!({}));
    let refused = finalize().unwrap_err();
    assert_eq!(refused.status, 422);
    assert!(refused.message.contains("has children and cannot expire: kid"), "{}", refused.message);
    delete(&scion, &kid, "");
    finalize().unwrap();
    assert!(scion.branch_info(&look)["expires_at"].is_string());
    let hour = |branch: &str| {
        let path = scion.path(&format!("/branches/{branch}/backup_schedule"));
        scion.api().get(&path).unwrap()["schedule"][0]["hour"].clone()
    };
    assert_eq!((hour(&look), hour(&dev)), (json!(3), json!(4)));
}

#[test]
fn a_server_killed_while_a_restore_is_finalized_has_swapped_both_or_none() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(round int)");
    let (mut before, mut after) = (0, 0);
    for round in 0..8_u64 {
        let holder = default_branch(&scion);
        let made = snapshot(&scion, &holder, "").unwrap();
        root.execute(&format!("insert into t values ({round})"));
        let look = scion.endpoint_of(&restore(&scion, &made, json!({})).unwrap());
        look.execute("insert into t values (1000)");
        let path = scion.path(&format!("/branches/{}/finalize_restore", look.branch));
        scion.killed_during(10 + round * 45, |api| drop(api.post(&path, json!({}))));
        let counts = |client: &mut postgres::Client| {
            let count = |value: u64| format!("select count(*) from t where round = {value}");
            let client = &mut *client;
            (sql::number(client, &count(1000)), sql::number(client, &count(round)))
        };
        let (at_root, at_look) = (counts(&mut root.reconnect()), counts(&mut look.reconnect()));
        if scion.branch_info(&look.branch)["restore_status"] == "finalized" {
            after += 1;
            assert_eq!((at_root, at_look), ((1, 0), (0, 1)), "round {round}: swapped");
            assert_eq!(default_branch(&scion), look.branch, "round {round}");
            root.execute("delete from t where round = 1000");
        } else {
            before += 1;
            assert_eq!((at_root, at_look), ((0, 1), (1, 0)), "round {round}: as before");
            assert_eq!(default_branch(&scion), holder, "round {round}");
        }
        assert_eq!(scion.branch_info(&default_branch(&scion))["name"], "main", "round {round}");
    }
    eprintln!("killed {before} times before and {after} times after the swap");
    root.amcheck();
}

#[test]
fn the_command_line_makes_lists_restores_finalizes_and_deletes() {
    let scion = Scion::start();
    let run = |arguments: &[&str]| {
        let output = scion.cli(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &text
    };
    scion.root().execute("create table t(id int); insert into t values (1)");
    assert!(run(&["snapshot", "create", "before", "--expire-in", "1 year"]).contains("snap-"));
    scion.root().execute("insert into t values (2)");
    let listed = run(&["snapshot", "list"]);
    assert!(listed.contains("before") && listed.contains("main"), "{listed}");
    assert!(run(&["snapshot", "restore", "before", "--as", "look"]).contains("postgresql://"));
    assert_eq!(scion.cli(&["snapshot", "finalize", "look"]).status.code(), Some(2), "--yes is needed");
    let said = run(&["snapshot", "finalize", "look", "--old-as", "aside", "--yes"]);
    assert!(said.contains("the previous branch is now called aside"), "{said}");
    assert_eq!(scion.root().number("select count(*) from t"), 1);
    assert_eq!(scion.cli(&["snapshot", "restore", "nothing"]).status.code(), Some(3));
    run(&["snapshot", "delete", "before", "--yes"]);
    assert_eq!(snapshots(&scion).len(), 0);
}

#[test]
fn a_snapshot_says_how_large_it_is_and_how_far_from_the_one_before() {
    let scion = Scion::start();
    let dev = scion.branch("dev", json!({}));
    let empty = snapshot(&scion, &dev.branch, "name=empty").unwrap();
    assert!(empty["diff_size"].is_null(), "there is none before it: {empty}");
    dev.execute(
        "create table t as select g as id, repeat('x', 100) as filler from generate_series(1, 50000) g",
    );
    let table = dev.number("select pg_relation_size('t')");
    let filled = snapshot(&scion, &dev.branch, "name=filled").unwrap();
    let size = |snapshot: &Value, which: &str| snapshot[which].as_i64().unwrap();
    let grown = size(&filled, "full_size") - size(&empty, "full_size");
    assert!((table..table + (1 << 20)).contains(&grown), "{grown} for a table of {table} bytes");
    let logged =
        format!("select pg_wal_lsn_diff('{}', '{}')::bigint", text(&filled["lsn"]), text(&empty["lsn"]));
    assert_eq!(size(&filled, "diff_size"), dev.number(&logged));
    assert!(size(&filled, "diff_size") > table);
    dev.execute("drop table t");
    let past = snapshot(&scion, &dev.branch, &format!("lsn={}", text(&filled["lsn"]))).unwrap();
    assert_eq!((size(&past, "full_size"), size(&past, "diff_size")), (size(&filled, "full_size"), 0));
    let dropped = snapshot(&scion, &dev.branch, "name=dropped").unwrap();
    assert!(size(&dropped, "full_size") < size(&filled, "full_size") - table + (1 << 20));

    let body = json!({"source_branch_id": scion.root_branch()});
    scion.api().post(&scion.path(&format!("/branches/{}/restore", dev.branch)), body).unwrap();
    let reset = snapshot(&scion, &dev.branch, "name=reset").unwrap();
    assert!(reset["diff_size"].is_null(), "what was before is no part of its history: {reset}");
    assert_eq!(snapshots(&scion)[1], filled, "they are what they were");
}
