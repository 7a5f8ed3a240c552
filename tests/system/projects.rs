//! Several projects live on one server, are found among many, go, and come back.

use std::process::{Command, Output};
use std::time::Duration;

use scion_tests::process::{self, scion_binary, wait_for};
use scion_tests::server::{mounts_below, processes_in};
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list["projects"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[test]
fn a_deleted_project_is_gone_for_clients_and_comes_back_with_all_it_held() {
    let mut scion = Scion::start();
    let child = scion.branch("child", json!({}));
    child.execute("create table t as select generate_series(1, 1000) as id");
    let other = scion.api().post("/projects", json!({"project": {"name": "other"}})).unwrap();
    let other = other["project"]["id"].as_str().unwrap().to_owned();
    // What was committed last is in it.
    child.execute("insert into t values (0)");
    let gone = scion.api().delete(&scion.path("")).unwrap();
    assert!(gone["project"]["recoverable_until"].is_string(), "{gone}");
    for path in ["", "/branches", "/endpoints", "/operations", &format!("/branches/{}", child.branch)] {
        assert_eq!(scion.api().get(&scion.path(path)).unwrap_err().status, 404, "{path}");
    }
    let started = scion.api().post(&scion.path(&format!("/endpoints/{}/start", child.id)), json!({}));
    assert_eq!(started.unwrap_err().status, 404, "nothing of it can be started");
    assert!(child.try_connect().is_err() && scion.root().try_connect().is_err());
    assert_eq!(names(&scion.api().get("/projects").unwrap()), ["other"]);
    assert_eq!(names(&scion.api().get("/projects?recoverable=true").unwrap()), ["test"]);
    assert_eq!(scion.api().delete(&scion.path("")).unwrap_err().status, 404);

    assert!(processes_in(&child.dir).is_empty());
    assert!(mounts_below(scion.data_dir()).len() == 1, "that of the other project");

    scion.kill_serve();
    scion.relaunch();
    let recovered = scion.cli(&["project", "recover", "test"]);
    assert!(recovered.status.success(), "{}", words(&recovered));
    let again = scion.api().post(&scion.path("/recover"), json!({})).unwrap_err();
    assert_eq!(again.status, 422, "{}", again.message);
    assert_eq!(child.number("select count(*) from t"), 1001, "it runs, under the same connection string");
    assert_eq!(
        scion.branch("later", json!({"parent_id": child.branch})).number("select count(*) from t"),
        1001
    );

    let twin = scion.api().post("/projects", json!({"project": {"name": "other"}})).unwrap();
    let refused = scion.cli(&["project", "delete", "other", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "which of two is not clear: {}", words(&refused));
    let twin = twin["project"]["id"].as_str().unwrap();
    assert!(scion.cli(&["project", "delete", twin, "--hard", "--yes"]).status.success());
    let hard = format!("/projects/{other}?hard_delete=true");
    scion.api().delete(&format!("/projects/{other}")).unwrap();
    let gone = scion.cli(&["project", "delete", "other", "--hard", "--yes"]);
    assert!(gone.status.success(), "a deleted one goes for good too: {}", words(&gone));
    assert!(!scion.data_dir().join("projects").join(&other).exists());
    assert_eq!(scion.api().post(&format!("/projects/{other}/recover"), json!({})).unwrap_err().status, 404);
    assert_eq!(scion.api().delete(&hard).unwrap_err().status, 404);
}

#[test]
fn a_project_has_the_names_and_settings_it_was_given() {
    let scion = Scion::start();
    let create = ["project", "create", "shop", "--branch", "prod", "--role", "seller", "--database", "goods"];
    let made = scion.cli(&[create.as_slice(), &["--output", "json"]].concat());
    assert!(made.status.success(), "{}", words(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let root = scion.endpoint_of(&made);
    assert!(root.uri.starts_with("postgresql://seller:") && root.uri.ends_with("/goods"), "{}", root.uri);
    assert_eq!(root.number("select 1::bigint"), 1);
    assert_eq!(made["branch"]["name"], "prod");
    let id = made["project"]["id"].as_str().unwrap();

    let update = ["project", "update", "shop", "--rename", "store", "--set", "work_mem=7MB"];
    let updated = scion.cli(&update);
    assert!(updated.status.success(), "{}", words(&updated));
    let updated = scion.cli(&["project", "update", "store", "--set", "jit=off"]);
    assert!(updated.status.success(), "{}", words(&updated));
    let nonsense = scion.cli(&["project", "update", "store", "--set", "a b=7MB"]);
    assert!(words(&nonsense).contains("not the name of a setting"), "{}", words(&nonsense));
    let project = scion.api().get(&format!("/projects/{id}")).unwrap()["project"].clone();
    let settings = json!({"work_mem": "7MB", "jit": "off"});
    assert_eq!(project["default_endpoint_settings"]["pg_settings"], settings, "what was set before is kept");
    let body = json!({"branch": {"name": "next"}, "endpoints": [{"type": "read_write"}]});
    let next = scion.endpoint_of(&scion.api().post(&format!("/projects/{id}/branches"), body).unwrap());
    let work_mem = |endpoint: &Endpoint| {
        endpoint.number("select setting::bigint from pg_settings where name = 'work_mem'")
    };
    assert_eq!(work_mem(&next), 7168);
    let snapshot = scion.api().post(&format!("/projects/{id}/branches/{}/snapshot", next.branch), json!({}));
    let snapshot = snapshot.unwrap()["snapshot"]["id"].as_str().unwrap().to_owned();
    let restored =
        scion.api().post(&format!("/projects/{id}/snapshots/{snapshot}/restore"), json!({"name": "old"}));
    assert_eq!(work_mem(&scion.endpoint_of(&restored.unwrap())), 7168, "on a branch of a snapshot");
    scion.api().delete(&format!("/projects/{id}/endpoints/{}", next.id)).unwrap();
    let body = json!({"endpoint": {
        "branch_id": next.branch, "type": "read_write", "settings": {"pg_settings": {"geqo": "off"}}
    }});
    let later = scion.api().post(&format!("/projects/{id}/endpoints"), body).unwrap();
    let settings = json!({"work_mem": "7MB", "jit": "off", "geqo": "off"});
    assert_eq!(later["endpoint"]["settings"]["pg_settings"], settings, "on an endpoint made later");
    assert_eq!(names(&scion.api().get("/projects?search=STORE").unwrap()), ["store"]);

    let offered = |words: &[&str]| {
        let mut command = Command::new(scion_binary());
        command.arg("--").arg("scion").args(words).env("SCION_DATA_DIR", scion.data_dir());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9");
        String::from_utf8(process::output(&mut command).stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offered(&["-p", "store", "branch", "get", "n"]), "next");
    assert!(!offered(&["branch", "get", ""]).contains("next"), "which project is not clear");
    assert_eq!(offered(&["project", "delete", "st"]), "store");
}

/// Waits until nothing runs in an endpoint's directory.
fn wait_stopped(endpoint: &Endpoint) {
    wait_for("the endpoint to end", Duration::from_secs(60), || {
        processes_in(&endpoint.dir).is_empty().then_some(())
    });
}

#[test]
fn a_project_is_deleted_and_recovered_whole_whenever_the_server_is_killed() {
    let mut scion = Scion::start();
    let child = scion.branch("child", json!({}));
    child.execute("create table t(id int)");
    let (project, recover) = (scion.path(""), scion.path("/recover"));
    for (round, after_ms) in (1..).zip([0, 1, 3, 10, 30, 100, 300]) {
        child.reconnect().batch_execute(&format!("insert into t values ({round})")).unwrap();
        scion.killed_during(after_ms, |api| drop(api.delete(&project)));
        if scion.api().get(&project).is_ok() {
            assert_eq!(
                child.reconnect().query("select from t", &[]).unwrap().len(),
                round,
                "nothing happened"
            );
            scion.api().delete(&project).unwrap();
        }
        wait_stopped(&child);
        wait_stopped(scion.root());
        assert_eq!(mounts_below(scion.data_dir()), Vec::<String>::new());
        scion.killed_during(after_ms, |api| drop(api.post(&recover, json!({}))));
        if scion.api().get(&project).is_err() {
            scion.api().post(&recover, json!({})).unwrap();
        }
        assert_eq!(
            child.reconnect().query("select from t", &[]).unwrap().len(),
            round,
            "killed after {after_ms} ms"
        );
        scion.root().reconnect();
    }
}

#[test]
fn nothing_is_left_of_a_project_whose_removal_was_killed() {
    let mut scion = Scion::start();
    for after_ms in [0, 5, 40, 160] {
        let made = scion.api().post("/projects", json!({"project": {"name": "gone"}})).unwrap();
        let id = made["project"]["id"].as_str().unwrap();
        let root = scion.endpoint_of(&made);
        let hard = format!("/projects/{id}?hard_delete=true");
        scion.killed_during(after_ms, |api| drop(api.delete(&hard)));
        if scion.api().get(&format!("/projects/{id}")).is_ok() {
            assert_eq!(root.reconnect().query("select 1", &[]).unwrap().len(), 1, "nothing happened");
            scion.api().delete(&hard).unwrap();
        }
        wait_stopped(&root);
        assert!(!root.dir.exists(), "killed after {after_ms} ms");
        assert!(!scion.data_dir().join("projects").join(id).exists());
        assert_eq!(names(&scion.api().get("/projects?recoverable=true").unwrap()), Vec::<&str>::new());
        assert_eq!(names(&scion.api().get("/projects").unwrap()), ["test"]);
        let mounts = mounts_below(scion.data_dir());
        assert!(mounts.iter().all(|at| at.contains(&scion.root().id)), "{mounts:?}");
    }
}
