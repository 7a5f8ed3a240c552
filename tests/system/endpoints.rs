//! An endpoint is changed and restarted without losing what it holds, and settings it cannot start with are taken back.

use std::time::Duration;

use scion_tests::{Api, Endpoint, Scion, process};
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
fn nobody_loses_a_logical_slot_without_being_asked() {
    let scion = Scion::start();
    let endpoint = scion.root();
    let slots = || {
        let path = scion.path(&format!("/endpoints/{}/replication_slots", endpoint.id));
        scion.api().get(&path).unwrap()["replication_slots"].as_array().unwrap().clone()
    };
    change(&scion, endpoint, json!({"settings": {"pg_settings": {"wal_level": "logical"}}})).unwrap();
    assert!(slots().is_empty(), "scion's own is nobody's business");
    for verb in [vec!["restart", "main"], vec!["stop", "main"], vec!["start", "main"]] {
        let done = scion.cli(&[vec!["endpoint"], verb].concat());
        assert!(done.status.success(), "{done:?}");
    }
    let make = "select pg_create_logical_replication_slot('sub', 'pgoutput');
                select pg_create_physical_replication_slot('standby')";
    endpoint.psql("neondb", make);
    let listed = slots();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let sub = json!({"slot_name": "sub", "slot_type": "logical", "plugin": "pgoutput", "database": "neondb", "active": false});
    assert_eq!(listed[1], sub);

    let refused: [&[&str]; 4] = [
        &["restart", "main"],
        &["stop", "main"],
        &["update", "main", "--set", "work_mem=5MB"],
        &["update", "main", "--disabled", "true"],
    ];
    for verb in refused {
        let asked = scion.cli(&[&["endpoint"], verb].concat());
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert_eq!(asked.status.code(), Some(2), "{verb:?}: {said}");
        assert!(said.contains("replication slots") && said.contains(": sub,"), "{said}");
        assert!(said.contains("--yes"), "{said}");
        assert_eq!(slots(), listed, "{verb:?}");
    }
    let harmless = scion.cli(&["endpoint", "update", "main", "--suspend-timeout", "-1"]);
    assert!(harmless.status.success(), "{harmless:?}");
    assert_eq!(slots(), listed);
    let restarted = scion.cli(&["endpoint", "restart", "main", "--yes"]);
    assert!(restarted.status.success(), "{restarted:?}");
    assert!(slots().is_empty());
    // Who asks the API is not asked.
    endpoint.psql("neondb", make);
    act(&scion, endpoint, "suspend").unwrap();
    assert!(slots().is_empty(), "it does not run, and is not started for this");
    assert_eq!(scion.endpoint_info(endpoint)["current_state"], "idle");
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

/// What a setting of Postgres is on an endpoint.
fn setting(endpoint: &Endpoint, name: &str) -> String {
    let mut session = endpoint.reconnect();
    session.query_one(&format!("select current_setting('{name}')"), &[]).unwrap().get(0)
}

#[test]
fn a_setting_is_refused_with_the_reason_or_it_is_in_force_wherever_it_is_given() {
    let scion = Scion::start();
    let root = scion.root().clone();
    let pg_settings = |settings: Value| json!({"settings": {"pg_settings": settings}});
    let on_new = |settings: Value| {
        let endpoint = json!({"type": "read_write", "disabled": true, "settings": {"pg_settings": settings}});
        let body = json!({"branch": {"name": "new"}, "endpoints": [endpoint]});
        scion.api().post(&scion.path("/branches"), body).map(drop)
    };
    let on_project = |settings: Value| {
        let body = json!({"project": {"default_endpoint_settings": {"pg_settings": settings}}});
        scion.api().patch(&scion.path(""), body).map(drop)
    };
    let idle = scion.branch("idle", json!({}));
    act(&scion, &idle, "suspend").unwrap();
    for (settings, status, words) in [
        (json!({"port": "5432"}), 400, "port cannot be set"),
        (json!({"full_page_writes": "on"}), 400, "full_page_writes cannot be set"),
        (json!({"shared_preload_libraries": "/tmp/x.so"}), 400, "bare name"),
        (json!({"shared_preload_libraries": "no_such_library"}), 400, "no_such_library"),
        (json!({"plperl.on_init": "1"}), 400, "plperl.on_init cannot be set"),
        (json!({"work_mem": "4MB\nport = 1"}), 400, "more than one line"),
        (json!({"jit": "off", "work_mem": "a lot"}), 422, "\"work_mem\": \"a lot\""),
        (json!({"shared_buffers": "7TB"}), 422, "memory"),
    ] {
        let given = [
            change(&scion, &root, pg_settings(settings.clone())).map(drop),
            change(&scion, &idle, pg_settings(settings.clone())).map(drop),
            on_new(settings.clone()),
            on_project(settings.clone()),
        ];
        for (at, given) in given.into_iter().enumerate() {
            let error = given.unwrap_err();
            assert!(error.status == status, "{at}: {settings}: {error:?}");
            assert!(error.message.contains(words), "{at}: {settings}: {error:?}");
            assert!(error.message.contains("nothing was changed"), "{at}: {settings}: {error:?}");
        }
    }
    assert_eq!(setting(&root, "work_mem"), "4MB");
    act(&scion, &idle, "start").unwrap();
    change(&scion, &root, pg_settings(json!({"TimeZone": "Europe/Berlin", "mine.tenant": "5"}))).unwrap();
    assert_eq!(
        (setting(&root, "timezone"), setting(&root, "mine.tenant")),
        ("Europe/Berlin".into(), "5".into())
    );

    // A key for one project may not give what nobody knows.
    let made =
        scion.api().post("/api_keys", json!({"key_name": "ci", "project_id": scion.project()})).unwrap();
    let base = scion.api().base().strip_suffix("/api/v2").unwrap();
    let scoped = scion_tests::Api::new(base, made["key"].as_str().unwrap());
    let path = scion.path(&format!("/endpoints/{}", root.id));
    let patch = |settings: Value| scoped.patch(&path, json!({"endpoint": pg_settings(settings)}));
    assert_eq!(patch(json!({"mine.tenant": "6"})).unwrap_err().status, 422);
    patch(json!({"auto_explain.log_analyze": "on"})).unwrap();
}

#[test]
fn a_branch_begins_with_its_parents_settings_and_what_is_unset_is_as_the_project_says() {
    let scion = Scion::start();
    let root = scion.root().clone();
    let run = |words: &[&str]| {
        let output = scion.cli(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    run(&["project", "update", "test", "--set", "jit=off", "--set", "geqo=off", "--set", "work_mem=7MB"]);
    run(&["project", "update", "test", "--unset", "geqo"]);
    let libraries = "shared_preload_libraries=pg_stat_statements";
    run(&["endpoint", "update", "main", "--set", libraries, "--set", "track_commit_timestamp=on"]);
    run(&["endpoint", "update", "main", "--set", "work_mem=5MB", "--set", "pg_stat_statements.max=200"]);
    root.reconnect().batch_execute("create table t as select 1 as x").unwrap();
    let has = |endpoint: &Endpoint, name: &str, value: &str| {
        assert_eq!(setting(endpoint, name), value, "{name} of {}", endpoint.branch);
    };
    let inherits = |endpoint: &Endpoint| {
        for (name, value) in [
            ("shared_preload_libraries", "pg_stat_statements"),
            ("pg_stat_statements.max", "200"),
            ("track_commit_timestamp", "on"),
            ("work_mem", "5MB"),
            ("jit", "off"),
            ("geqo", "on"),
        ] {
            has(endpoint, name, value);
        }
    };
    let child = scion.branch("child", json!({}));
    inherits(&child);
    let timed = "select count(*) from t where pg_xact_commit_timestamp(xmin) is not null";
    assert_eq!(child.number(timed), 1);
    inherits(&scion.branch("schema", json!({"init_source": "schema-only"})));
    // Through a branch that has no endpoint, and by a snapshot.
    let bare = scion.try_branch("bare", json!({}), false).unwrap();
    inherits(&scion.branch("below", json!({"parent_id": bare["branch"]["id"]})));
    let path = scion.path(&format!("/branches/{}/snapshot?name=snap", root.branch));
    let snapshot = scion.api().post(&path, json!({})).unwrap()["snapshot"]["id"].clone();
    let path = scion.path(&format!("/snapshots/{}/restore", snapshot.as_str().unwrap()));
    let restored = scion.api().post(&path, json!({"name": "restored"})).unwrap()["branch"]["id"].clone();
    let restored = restored.as_str().unwrap();
    inherits(&Endpoint { uri: scion.uri_of(restored), branch: restored.to_owned(), ..child.clone() });

    run(&["endpoint", "update", "main", "--unset", "work_mem", "--unset", "pg_stat_statements.max"]);
    has(&root, "work_mem", "7MB");
    has(&root, "pg_stat_statements.max", "5000");
    // The request comes first; other data brings what it needs and nothing else.
    let own = json!({"shared_preload_libraries": "auto_explain", "track_commit_timestamp": "off", "work_mem": "1MB"});
    let endpoint = json!({"type": "read_write", "settings": {"pg_settings": own}});
    let body = json!({"branch": {"name": "own"}, "endpoints": [endpoint]});
    let own = scion.endpoint_of(&scion.api().post(&scion.path("/branches"), body).unwrap());
    has(&own, "shared_preload_libraries", "auto_explain");
    let body = json!({"source_branch_id": child.branch});
    scion.api().post(&scion.path(&format!("/branches/{}/restore", own.branch)), body).unwrap();
    has(&own, "shared_preload_libraries", "auto_explain,pg_stat_statements");
    has(&own, "pg_stat_statements.max", "200");
    has(&own, "work_mem", "1MB");
}

#[test]
fn what_is_made_in_a_branch_and_what_restarts_it_take_turns() {
    let scion = Scion::start();
    let (root, api) = (scion.root().clone(), scion.api());
    let roles = scion.path(&format!("/branches/{}/roles", root.branch));
    let endpoint = |rest: &str| scion.path(&format!("/endpoints/{}{rest}", root.id));
    let change = || {
        let body = json!({"endpoint": {"settings": {"pg_settings": {"work_mem": "5MB"}}}});
        api.ask("patch", &endpoint(""), &body).0
    };
    let restart = || api.ask("post", &endpoint("/restart"), &json!({})).0;
    let suspend = || api.ask("post", &endpoint("/suspend"), &json!({})).0;
    type Other<'a> = (&'a str, &'a (dyn Fn() -> u16 + Sync));
    let others: [Other<'_>; 3] = [("change", &change), ("restart", &restart), ("suspend", &suspend)];
    for (kind, other) in others {
        let make = |n: u32| {
            let name = format!("{kind}{n}");
            let (status, body) = api.ask("post", &roles, &json!({"role": {"name": name}}));
            (name, status, body)
        };
        let answers = std::thread::scope(|scope| {
            let making: Vec<_> = (0..6).map(|n| scope.spawn(move || make(n))).collect();
            let status = other();
            assert!(status == 200 || status == 423, "{kind}: {status}");
            making.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        let listed = api.get(&roles).unwrap();
        let listed: Vec<&str> =
            listed["roles"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        for (name, status, body) in &answers {
            assert!(*status == 201 || *status == 423, "{name}: {status} {body}");
            assert_eq!(listed.contains(&name.as_str()), *status == 201, "{name}: {status}");
        }
    }
}

#[test]
fn a_start_that_was_answered_is_not_taken_back_by_a_stop_that_was_asked_for_before() {
    let scion = Scion::start();
    let (root, api) = (scion.root().clone(), scion.api());
    let path = |verb: &str| scion.path(&format!("/endpoints/{}/{verb}", root.id));
    for round in 0..4 {
        let (stopped, started) = std::thread::scope(|scope| {
            let stopping = scope.spawn(|| api.ask("post", &path("suspend"), &json!({})).0);
            let started = api.ask("post", &path("start"), &json!({})).0;
            (stopping.join().unwrap(), started)
        });
        assert!([stopped, started].iter().all(|it| [200, 423].contains(it)), "{round}: {stopped} {started}");
        let state = scion.endpoint_info(&root);
        // Whichever came last is how it is, and stays so.
        match state["current_state"].as_str().unwrap() {
            "active" => assert_eq!(root.reconnect().query("select 1", &[]).unwrap().len(), 1),
            other => assert_eq!((other, stopped), ("idle", 200), "{round}: {state}"),
        }
        assert!(state["pending_state"].is_null(), "{round}: {state}");
        act(&scion, &root, "start").unwrap();
        assert_eq!(root.try_connect().unwrap().query("select 1", &[]).unwrap().len(), 1);
    }
}

#[test]
fn an_endpoint_whose_port_is_taken_says_why_it_has_another() {
    let scion = Scion::start();
    let root = scion.root().clone();
    act(&scion, &root, "suspend").unwrap();
    let port: u16 = root.port().parse().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let started = act(&scion, &root, "start").unwrap();
    drop(taken);
    let moved = scion.api().get(&scion.path("/operations")).unwrap();
    let moved = moved["operations"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["detail"]["port"]["old"] == port)
        .cloned();
    let moved = moved.expect("an operation says so");
    let other = moved["detail"]["port"]["new"].as_u64().unwrap();
    assert!(started["endpoint"]["host"].as_str().unwrap().ends_with(&format!(":{other}")), "{started}");
    assert!(moved["detail"]["port"]["reason"].as_str().unwrap().contains(&port.to_string()), "{moved}");
    let here = Endpoint { uri: scion.uri_of(&root.branch), ..root.clone() };
    assert_eq!(here.number("select 1::bigint"), 1);
}

/// A stop takes as long as its process does; whoever looks sees it meanwhile, and nobody after the server was killed.
#[test]
fn what_is_under_way_is_shown_and_does_not_outlive_a_killed_server() {
    const SIGSTOP: i32 = 19;
    const SIGCONT: i32 = 18;
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(x int); insert into t values (1)");
    let pid = scion.endpoint_info(&root)["compute_pid"].as_i64().unwrap();
    let pid = i32::try_from(pid).unwrap();
    let running = |scion: &Scion| {
        let listed = scion.api().get(&scion.path("/operations")).unwrap();
        let mut all = listed["operations"].as_array().unwrap().clone();
        all.retain(|it| it["status"] == "running");
        all
    };
    process::signal(pid, SIGSTOP);
    let url = scion.api().base().trim_end_matches("/api/v2");
    let api = Api::new(url, scion.api().key());
    let path = scion.path(&format!("/endpoints/{}/suspend", root.id));
    let stopping = std::thread::spawn(move || api.post(&path, json!({})));
    let under_way = process::wait_for("the stop to be shown", Duration::from_secs(30), || {
        assert!(!stopping.is_finished(), "nothing is stopped");
        running(&scion).into_iter().find(|it| it["action"] == "suspend_compute")
    });
    assert_eq!(under_way["endpoint_id"], json!(root.id));
    let shown = scion.cli(&["status"]);
    let words = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(words.contains("suspend_compute of ") && words.contains(" is under way since "), "{words}");

    scion.kill_serve();
    assert!(stopping.join().unwrap().is_err());
    scion.relaunch();
    let id = under_way["id"].as_str().unwrap();
    assert_eq!(scion.api().get(&scion.path(&format!("/operations/{id}"))).unwrap_err().status, 404);
    process::signal(pid, SIGCONT);
    process::wait_for("the stop that was asked for", Duration::from_secs(60), || {
        let stopped = scion.endpoint_info(&root)["current_state"] == "idle";
        (stopped && running(&scion).is_empty()).then_some(())
    });
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", root.id)), json!({})).unwrap();
    assert_eq!(root.number("select count(*) from t"), 1);
}
