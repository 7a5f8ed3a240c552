//! Branches and snapshots are made when they are planned: what was missed once, and never twice.

use std::time::Duration;

use scion_tests::process::wait_for;
use scion_tests::{ApiError, Endpoint, Scion};
use serde_json::{Value, json};

/// Once a year, so that nothing runs by itself while a test does, except on New Year's night.
const YEARLY: &str = "0 3 1 1 *";

fn schedule(scion: &Scion, name: &str, template: Value) -> Result<String, ApiError> {
    let body = json!({"branch_schedule": {"name": name, "cron": YEARLY, "template": template}});
    let made = scion.api().post(&scion.path("/branch_schedules"), body)?;
    Ok(made["branch_schedule"]["id"].as_str().unwrap().to_owned())
}

fn shown(scion: &Scion, id: &str) -> Value {
    scion.api().get(&scion.path(&format!("/branch_schedules/{id}"))).unwrap()["branch_schedule"].clone()
}

fn run(scion: &Scion, id: &str) -> Result<String, ApiError> {
    let made = scion.api().post(&scion.path(&format!("/branch_schedules/{id}/run")), json!({}))?;
    Ok(made["branch"]["id"].as_str().unwrap().to_owned())
}

/// Names of all branches, deleted ones too.
fn names(scion: &Scion, query: &str) -> Vec<String> {
    let list = scion.api().get(&scion.path(&format!("/branches{query}"))).unwrap();
    list["branches"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn snapshots(scion: &Scion) -> Vec<Value> {
    scion.api().get(&scion.path("/snapshots")).unwrap()["snapshots"].as_array().unwrap().clone()
}

/// The endpoint that a run gave to a branch.
fn endpoint_of(scion: &Scion, branch: &str) -> Endpoint {
    let list = scion.api().get(&scion.path(&format!("/branches/{branch}/endpoints"))).unwrap();
    let id = list["endpoints"][0]["id"].as_str().unwrap().to_owned();
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { id, branch: branch.to_owned(), uri: scion.uri_of(branch), dir }
}

/// As if nothing that is planned had run for a year and a day.
fn miss_a_run(scion: &Scion) {
    let file = rusqlite::Connection::open(scion.data_dir().join("scion.sqlite")).unwrap();
    let sql = "UPDATE branch_schedule SET planned_us = 0; UPDATE backup_schedule SET planned_us = 0";
    file.execute_batch(sql).unwrap();
}

#[test]
fn each_run_makes_a_branch_that_sql_was_over_and_disposes_of_the_one_before() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table person(id int primary key, name text); insert into person values (1, 'Ada')");
    let template = json!({
        "sql": "update person set name = 'somebody'; create table made(at timestamptz default now())",
        "ttl_seconds": 3600,
        "endpoints": [{"type": "read_write", "autoscaling_limit_min_cu": 0.5}]
    });
    let id = schedule(&scion, "nightly", template).unwrap();
    assert_eq!(schedule(&scion, "nightly", json!({})).unwrap_err().status, 409);
    assert!(shown(&scion, &id)["next_run_at"].as_str().unwrap().contains("-01-01T03:00:00Z"));

    let first = run(&scion, &id).unwrap();
    let night = endpoint_of(&scion, &first);
    assert_eq!(night.number("select count(*) from person where name = 'somebody'"), 1);
    night.execute("insert into made default values");
    assert!(scion.branch_info(&first)["expires_at"].is_string());
    assert_eq!(scion.endpoint_info(&night)["autoscaling_limit_min_cu"], json!(0.5));
    root.execute("insert into person values (2, 'Grace')");
    assert_eq!(root.number("select count(*) from person where name in ('Ada', 'Grace')"), 2);

    let second = run(&scion, &id).unwrap();
    assert_eq!(endpoint_of(&scion, &second).number("select count(*) from person where name = 'somebody'"), 2);
    assert_eq!(names(&scion, ""), ["main", "nightly"]);
    assert_eq!(scion.branch_info(&second)["name"], "nightly");
    assert_eq!(shown(&scion, &id)["branch_id"], json!(second));
    assert!(names(&scion, "?include_deleted=true").iter().any(|name| name.starts_with("nightly until ")));
    night_is_gone(&night);

    // SQL that fails makes nothing, and what is there stays.
    root.execute("drop table person");
    assert_eq!(run(&scion, &id).unwrap_err().status, 422);
    assert!(shown(&scion, &id)["last_error"].as_str().unwrap().contains("person"));
    assert_eq!(names(&scion, ""), ["main", "nightly"]);
    root.execute("create table person(id int primary key, name text)");
    // What somebody needs stays, under its other name.
    let keep = scion.path(&format!("/branches/{second}"));
    scion.api().patch(&keep, json!({"branch": {"expires_at": null}})).unwrap();
    scion.api().patch(&keep, json!({"branch": {"protected": true}})).unwrap();
    run(&scion, &id).unwrap();
    let third = run(&scion, &id).unwrap();
    assert_eq!(scion.branch_info(&third)["name"], "nightly");
    assert!(scion.branch_info(&second)["name"].as_str().unwrap().starts_with("nightly until "));
    assert_eq!(names(&scion, "").len(), 3);
    // Nor is a name taken from a branch that no run made.
    let other = schedule(&scion, "other", json!({"name": "main"})).unwrap();
    assert_eq!(run(&scion, &other).unwrap_err().status, 409);
    scion.api().delete(&scion.path(&format!("/branch_schedules/{id}"))).unwrap();
    assert_eq!(run(&scion, &id).unwrap_err().status, 404);
    assert_eq!(scion.branch_info(&third)["name"], "nightly");
}

fn night_is_gone(night: &Endpoint) {
    wait_for("the endpoint of the run before to be gone", Duration::from_secs(20), || {
        (!night.dir.exists()).then_some(())
    });
}

#[test]
fn what_is_planned_runs_by_itself() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int); insert into t values (1)");
    let body = json!({"branch_schedule": {"name": "often", "cron": "*/2 * * * * *"}});
    scion.api().post(&scion.path("/branch_schedules"), body).unwrap();
    let made = || {
        let list = scion.api().get(&scion.path("/branches")).unwrap();
        let found = list["branches"].as_array().unwrap().iter().find(|it| it["name"] == "often").cloned();
        found.map(|it| it["id"].as_str().unwrap().to_owned())
    };
    let first = wait_for("the first run", Duration::from_secs(30), made);
    wait_for("the second run", Duration::from_secs(30), || made().filter(|id| *id != first));
}

#[test]
fn a_missed_run_is_made_up_once_however_often_the_server_is_killed() {
    let mut scion = Scion::start();
    scion.root().execute("create table t(id int); insert into t values (1)");
    let id = schedule(&scion, "yearly", json!({"sql": "update t set id = id + 1"})).unwrap();
    let backups = scion.path(&format!("/branches/{}/backup_schedule", scion.root_branch()));
    let lines = json!({"schedule": [
        {"frequency": "daily", "hour": 3, "retention_seconds": 7200},
        {"frequency": "weekly", "hour": 3, "day": 7}
    ]});
    assert_eq!(scion.api().put(&backups, lines.clone()).unwrap(), lines);
    assert_eq!(scion.api().get(&backups).unwrap(), lines);
    let wrong = json!({"schedule": [{"frequency": "daily", "hour": 24}]});
    assert_eq!(scion.api().put(&backups, wrong).unwrap_err().status, 400);
    let made = |scion: &Scion| {
        names(scion, "?include_deleted=true").iter().filter(|name| name.starts_with("yearly")).count()
    };
    assert_eq!((made(&scion), snapshots(&scion).len()), (0, 0), "nothing is due yet");
    for round in 1..=6_u64 {
        scion.kill_serve();
        miss_a_run(&scion);
        scion.relaunch();
        std::thread::sleep(Duration::from_millis(50 + round * 260));
        scion.kill_serve();
        scion.relaunch();
        wait_for("the run to be made up", Duration::from_secs(60), || {
            (made(&scion) as u64 >= round && snapshots(&scion).len() as u64 >= 2 * round).then_some(())
        });
        // What was made more than once shows here, or in the rounds that come, as all is counted.
        assert_eq!(
            (made(&scion) as u64, snapshots(&scion).len() as u64),
            (round, 2 * round),
            "round {round}"
        );
        let branch = shown(&scion, &id)["branch_id"].as_str().unwrap().to_owned();
        let endpoint = endpoint_of(&scion, &branch);
        let ids = scion_tests::sql::number(&mut endpoint.reconnect(), "select sum(id) from t");
        assert_eq!(ids, 2, "round {round}: the SQL ran once on the data of the root");
    }
    // Long enough for the server to look once more at what is due.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(made(&scion), 6);
    let all = snapshots(&scion);
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|it| it["manual"] == false));
    assert_eq!(all.iter().filter(|it| it["expires_at"].is_string()).count(), 6);
    assert_eq!(names(&scion, ""), ["main", "yearly"]);
}

/// A random history showed it: the planned time of a deleted branch went by, and the branch got a backup as it came back.
#[test]
fn nothing_is_made_up_for_the_time_in_which_a_branch_was_deleted() {
    let scion = Scion::start();
    let made = scion.try_branch("away", json!({}), false).unwrap();
    let path = scion.path(&format!("/branches/{}", made["branch"]["id"].as_str().unwrap()));
    let lines = json!({"schedule": [{"frequency": "daily", "hour": 3}]});
    scion.api().put(&format!("{path}/backup_schedule"), lines.clone()).unwrap();
    scion.api().delete(&path).unwrap();
    miss_a_run(&scion);
    scion.api().post(&format!("{path}/recover"), json!({})).unwrap();
    assert_eq!(scion.api().get(&format!("{path}/backup_schedule")).unwrap(), lines);
    let file = rusqlite::Connection::open(scion.data_dir().join("scion.sqlite")).unwrap();
    let over = "SELECT count(*) FROM backup_schedule WHERE planned_us > 0";
    assert_eq!(file.query_row(over, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    assert!(snapshots(&scion).is_empty(), "{:?}", snapshots(&scion));
}

#[test]
fn the_command_line_makes_lists_runs_and_deletes() {
    let scion = Scion::start();
    let ok = |arguments: &[&str]| {
        let output = scion.cli(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &text
    };
    let made = ok(&[
        "schedule",
        "create",
        "nightly",
        "--cron",
        YEARLY,
        "--parent",
        "main",
        "--ttl",
        "3 days",
        "--no-compute",
        "--sql",
        "create table t(id int)",
    ]);
    assert!(made.contains("runs first at"), "{made}");
    assert_eq!(scion.cli(&["schedule", "create", "x", "--cron", "nightly"]).status.code(), Some(2));
    assert!(ok(&["schedule", "list"]).contains(YEARLY));
    assert!(ok(&["schedule", "run", "nightly"]).contains("made branch nightly"));
    assert_eq!(names(&scion, ""), ["main", "nightly"]);
    assert_eq!(scion.cli(&["schedule", "delete", "nightly"]).status.code(), Some(2), "--yes is needed");
    ok(&["schedule", "delete", "nightly", "--yes"]);
    assert_eq!(scion.cli(&["schedule", "run", "nightly"]).status.code(), Some(3));
    assert_eq!(names(&scion, ""), ["main", "nightly"]);
}

#[test]
fn backups_are_planned_on_the_command_line() {
    let mut scion = Scion::start();
    scion.branch("dev", json!({}));
    let run = |scion: &Scion, words: &[&str]| {
        let output = scion.cli(&[&["snapshot", "schedule"], words].concat());
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(&scion, &["show"]);
    assert!(code == 0 && said.contains("branch main gets no snapshots by itself"), "{said}");
    let lines = ["weekly on sunday at 3 keep 60 days", "yearly in march on last"];
    let (code, said) = run(&scion, &[&["set", "--branch", "dev"], lines.as_slice()].concat());
    assert!(code == 0 && said.contains("weekly on sunday at 03:00") && said.contains("60 days"), "{said}");
    let (_, shown) = run(&scion, &["show", "--branch", "dev", "--output", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let weekly = json!({"frequency": "weekly", "day": 7, "hour": 3, "retention_seconds": 60 * 86_400});
    assert_eq!(shown["schedule"], json!([weekly, {"frequency": "yearly", "month": 3, "day": 31}]));
    for (wrong, code) in [("daily on monday", 2), ("monthly on 32", 2), ("hourly keep 1 minute", 2)] {
        assert_eq!(run(&scion, &["set", "--branch", "dev", wrong]).0, code, "{wrong}");
    }
    assert_eq!(run(&scion, &["set", "--branch", "no", "daily"]).0, 3);

    scion.stop_serve();
    miss_a_run(&scion);
    scion.relaunch();
    let made = wait_for("the missed backups", Duration::from_secs(30), || {
        let made = snapshots(&scion);
        (made.len() == 2).then_some(made)
    });
    assert!(made.iter().all(|it| it["manual"] == json!(false)), "{made:?}");
    assert_eq!(run(&scion, &["off", "--branch", "dev"]).0, 0);
    assert!(run(&scion, &["show", "--branch", "dev"]).1.contains("no snapshots by itself"));
}
