//! An endpoint is changed and restarted without losing what it holds, and settings it cannot start with are taken back.

use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

fn change(scion: &Scion, endpoint: &Endpoint, wanted: Value) -> Result<Value, scion_tests::ApiError> {
    scion.api().patch(&scion.path(&format!("/endpoints/{}", endpoint.id)), json!({"endpoint": wanted}))
}

fn act(scion: &Scion, endpoint: &Endpoint, what: &str) -> Result<Value, scion_tests::ApiError> {
    scion.api().post(&scion.path(&format!("/endpoints/{}/{what}", endpoint.id)), json!({}))
}

const WORK_MEM_KB: &str = "select setting::bigint from pg_settings where name = 'work_mem'";

#[test]
fn settings_of_a_running_endpoint_are_changed_and_its_data_stays() {
    let scion = Scion::start();
    let endpoint = scion.root();
    endpoint.execute("create table t as select generate_series(1, 1000) as id");
    let changed =
        change(&scion, endpoint, json!({"settings": {"pg_settings": {"work_mem": "6MB"}}, "name": "it"}));
    let changed = changed.unwrap();
    assert_eq!(
        (&changed["endpoint"]["name"], &changed["endpoint"]["current_state"]),
        (&json!("it"), &json!("active"))
    );
    assert_eq!(endpoint.number(WORK_MEM_KB), 6144);
    assert_eq!(endpoint.number("select count(*) from t"), 1000);

    endpoint.execute("insert into t values (0)");
    let bad = json!({"settings": {"pg_settings": {"work_mem": "a lot"}}});
    let error = change(&scion, endpoint, bad).unwrap_err();
    assert_eq!(error.status, 422, "{}", error.message);
    assert!(error.message.contains("old settings"), "{}", error.message);
    assert_eq!(endpoint.number(WORK_MEM_KB), 6144);
    assert_eq!(endpoint.number("select count(*) from t"), 1001);

    let set = scion.cli(&["endpoint", "update", "main", "--set", "jit=off", "--unset", "work_mem"]);
    assert!(set.status.success(), "{set:?}");
    assert_eq!(endpoint.number(WORK_MEM_KB), 4096);
    assert_eq!(endpoint.number("select (current_setting('jit') = 'off')::int::bigint"), 1);
    let kept = scion.endpoint_info(endpoint);
    assert_eq!(kept["settings"]["pg_settings"], json!({"jit": "off"}));
    // What does not concern Postgres ends no session.
    let mut session = endpoint.connect();
    change(&scion, endpoint, json!({"suspend_timeout_seconds": -1})).unwrap();
    assert_eq!(scion_tests::sql::number(&mut session, "select 1::bigint"), 1);
    assert_eq!(change(&scion, endpoint, json!({"suspend_timeout_seconds": -7})).unwrap_err().status, 400);
}

/// Settings are tried by a restart, so there are moments in which they are neither kept nor given up.
#[test]
fn an_endpoint_starts_with_settings_that_work_whenever_the_server_is_killed() {
    let mut scion = Scion::start();
    let endpoint = scion.root().clone();
    endpoint.execute("create table t(id int)");
    for (round, after_ms) in (1..).zip([0, 30, 100, 200, 400, 800]) {
        endpoint.reconnect().batch_execute("insert into t values (1)").unwrap();
        let path = scion.path(&format!("/endpoints/{}", endpoint.id));
        let tried = if round % 2 == 0 { "5MB" } else { "a lot" };
        let body = json!({"endpoint": {"settings": {"pg_settings": {"work_mem": tried}}}});
        scion.killed_during(after_ms, |api| drop(api.patch(&path, body)));
        let kept = scion.endpoint_info(&endpoint)["settings"]["pg_settings"]["work_mem"].clone();
        assert_ne!(kept, json!("a lot"), "killed after {after_ms} ms");
        let has = if kept == json!("5MB") { 5120 } else { 4096 };
        let number = |sql: &str| scion_tests::sql::number(&mut endpoint.reconnect(), sql);
        assert_eq!(number(WORK_MEM_KB), has, "killed after {after_ms} ms");
        assert_eq!(number("select count(*) from t"), round);
    }
}

#[test]
fn a_disabled_endpoint_is_made_and_does_not_run() {
    let scion = Scion::start();
    let body = json!({"branch": {"name": "off"}, "endpoints": [{"type": "read_write", "disabled": true}]});
    let made = scion.api().post(&scion.path("/branches"), body).unwrap();
    assert_eq!(made["endpoints"][0]["current_state"], "idle", "{made}");
    let off = scion.endpoint_of(&made);
    let role = scion.path(&format!("/branches/{}/roles", off.branch));
    let error = scion.api().post(&role, json!({"role": {"name": "alice"}})).unwrap_err();
    assert!(error.status == 422 && error.message.contains("disabled"), "{}", error.message);
    let restore = json!({"source_branch_id": scion.root_branch()});
    scion.api().post(&scion.path(&format!("/branches/{}/restore", off.branch)), restore).unwrap();
    assert!(off.try_connect().is_err(), "nothing starts it");
    change(&scion, &off, json!({"disabled": false})).unwrap();
    act(&scion, &off, "start").unwrap();
    assert_eq!(off.number("select 1::bigint"), 1);
}

#[test]
fn an_endpoint_is_restarted_and_a_disabled_one_is_not_started() {
    let scion = Scion::start();
    let endpoint = scion.root();
    let mut session = endpoint.connect();
    let started = "select extract(epoch from pg_postmaster_start_time())::bigint * 1000000 \
                   + extract(microseconds from pg_postmaster_start_time())::bigint";
    let first = scion_tests::sql::number(&mut session, started);
    let restarted = scion.cli(&["endpoint", "restart", "main"]);
    assert!(restarted.status.success(), "{restarted:?}");
    assert!(session.simple_query("select 1").is_err(), "the session ended");
    assert_ne!(endpoint.number(started), first);

    assert_eq!(
        change(&scion, endpoint, json!({"disabled": true})).unwrap()["endpoint"]["current_state"],
        "idle"
    );
    for what in ["start", "restart"] {
        let error = act(&scion, endpoint, what).unwrap_err();
        assert_eq!(error.status, 422, "{what}: {}", error.message);
    }
    assert!(endpoint.try_connect().is_err());
    change(&scion, endpoint, json!({"disabled": false})).unwrap();
    act(&scion, endpoint, "restart").unwrap();
    assert_eq!(endpoint.number("select 1::bigint"), 1);

    scion.branch("child", json!({}));
    let page = |query: &str| scion.api().get(&scion.path(&format!("/endpoints{query}"))).unwrap();
    assert_eq!(page("")["endpoints"].as_array().unwrap().len(), 2);
    let first = page("?limit=1");
    let cursor = first["pagination"]["cursor"].as_str().unwrap();
    let second = page(&format!("?limit=1&cursor={cursor}"));
    assert_ne!(first["endpoints"][0]["id"], second["endpoints"][0]["id"]);
    assert!(second["pagination"].is_null(), "the list ends");
}

#[test]
fn a_deleted_endpoint_leaves_its_data_and_the_next_one_has_it() {
    let scion = Scion::start();
    let dev = scion.branch("dev", json!({}));
    dev.execute("create table t as select generate_series(1, 1000) as id");
    let deleted = scion.cli(&["endpoint", "delete", "dev", "--yes"]);
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(!dev.dir.exists() && dev.try_connect().is_err());
    let list =
        |path: &str| scion.api().get(&scion.path(path)).unwrap()["endpoints"].as_array().unwrap().len();
    assert_eq!((list("/endpoints"), list(&format!("/branches/{}/endpoints", dev.branch))), (1, 0));
    assert_eq!(scion.cli(&["endpoint", "delete", "dev", "--yes"]).status.code(), Some(3));
    assert!(scion.cli(&["endpoint", "start", "dev"]).status.success());
    let again = Endpoint { uri: scion.uri_of(&dev.branch), ..dev.clone() };
    assert_eq!(again.number("select count(*) from t"), 1000);
}

#[test]
fn every_change_is_an_operation_that_can_be_listed() {
    let scion = Scion::start();
    let dev = scion.branch("dev", json!({}));
    let run = |words: &[&str]| {
        let output = scion.cli(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["project", "update", "test", "--set", "jit=off"]);
    run(&["endpoint", "update", "dev", "--suspend-timeout", "600"]);
    run(&["endpoint", "update", "dev", "--set", "work_mem=5MB"]);
    run(&["snapshot", "create", "one", "--branch", "dev"]);
    run(&["snapshot", "update", "one", "--rename", "first", "--expire-in", "30 days"]);
    assert!(run(&["snapshot", "list"]).contains("first"));
    run(&["snapshot", "update", "first", "--never-expire"]);
    run(&["snapshot", "schedule", "set", "--branch", "dev", "daily at 3"]);
    run(&["schedule", "create", "nightly", "--cron", "0 3 1 1 *"]);
    run(&["schedule", "delete", "nightly", "--yes"]);
    run(&["project", "delete", "test", "--yes"]);
    run(&["project", "recover", "test"]);

    let done: Value = serde_json::from_str(&run(&["operation", "list", "--output", "json"])).unwrap();
    let done: Vec<&Value> = done.as_array().unwrap().iter().rev().collect();
    let word = |it: &Value| it["scion_action"].as_str().or(it["action"].as_str()).unwrap().to_owned();
    let changes: Vec<String> =
        done.iter().map(|it| word(it)).filter(|it| !it.ends_with("_compute")).collect();
    let expected = [
        "create_timeline",
        "create_branch",
        "update_project",
        "update_endpoint",
        "update_endpoint",
        "create_snapshot",
        "update_snapshot",
        "update_snapshot",
        "update_backup_schedule",
        "create_schedule",
        "delete_schedule",
        "delete_project",
        "recover_project",
    ];
    assert_eq!(changes, expected);
    assert!(done.iter().all(|it| it["status"] == "finished" && it["total_duration_ms"].is_number()));
    let of_dev = run(&["operation", "list", "--branch", "dev", "--limit", "3"]);
    assert!(of_dev.contains("dev") && !of_dev.contains("main"), "{of_dev}");
    assert_eq!(dev.reconnect().query("select 1", &[]).unwrap().len(), 1);
}
