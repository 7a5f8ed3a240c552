//! A branch is a copy of everything at one moment, and nothing crosses between it and its parent afterwards.

use std::time::{Duration, Instant};

use scion_tests::{Scion, process, sql};
use serde_json::json;

#[test]
fn rows_written_on_either_side_are_never_seen_on_the_other() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int primary key, v text); insert into t select g, 'main' from generate_series(1, 1000) g");
    let child = scion.branch("dev", json!({}));
    assert_eq!(child.number("select count(*) from t where v = 'main'"), 1000);

    child.execute(
        "update t set v = 'dev' where id <= 10; delete from t where id > 500; create table only_dev(x int)",
    );
    scion.root().execute("insert into t values (5000, 'late'); create table only_main(x int)");

    assert_eq!(scion.root().number("select count(*) from t"), 1001);
    assert_eq!(scion.root().number("select count(*) from t where v = 'dev'"), 0);
    assert_eq!(child.number("select count(*) from t"), 500);
    assert_eq!(child.number("select count(*) from t where id = 5000"), 0);
    assert!(child.connect().simple_query("select * from only_main").is_err());
    assert!(scion.root().connect().simple_query("select * from only_dev").is_err());
    child.amcheck();
    scion.root().amcheck();
}

#[test]
fn branches_of_branches_hold_what_each_ancestor_held() {
    let scion = Scion::start();
    scion.root().execute("create table t(level int)");
    let mut endpoint = scion.root().clone();
    let mut chain = Vec::new();
    for level in 0..5 {
        endpoint.execute(&format!("insert into t values ({level})"));
        let child = scion.branch(&format!("depth-{level}"), json!({"parent_id": endpoint.branch}));
        endpoint.execute("insert into t values (1000)");
        chain.push(child.clone());
        endpoint = child;
    }
    for (level, branch) in chain.iter().enumerate() {
        // Its own row, and the one it got as a parent.
        let expected = i64::try_from(level + 2).unwrap().min(5);
        assert_eq!(branch.number("select count(*) from t where level < 1000"), expected, "depth {level}");
        let late = i64::from(level < 4);
        assert_eq!(branch.number("select count(*) from t where level = 1000"), late, "depth {level}");
    }
    chain.last().unwrap().amcheck();
}

#[test]
fn twenty_branches_are_written_at_once() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int primary key, v text); insert into t select g, 'main' from generate_series(1, 2000) g");
    let branches: Vec<_> = (0..20).map(|n| scion.branch(&format!("b{n}"), json!({}))).collect();
    std::thread::scope(|scope| {
        for (n, branch) in branches.iter().enumerate() {
            scope.spawn(move || {
                let mut client = branch.connect();
                for round in 0..20 {
                    let sql = format!("update t set v = 'b{n}' where id % 20 = {round}");
                    client.batch_execute(&sql).unwrap();
                }
            });
        }
    });
    for (n, branch) in branches.iter().enumerate() {
        let sql = format!("select count(*) from t where v = 'b{n}'");
        assert_eq!(branch.number(&sql), 2000, "branch {n}");
    }
    assert_eq!(scion.root().number("select count(*) from t where v = 'main'"), 2000);
}

#[test]
fn a_commit_that_returned_is_in_a_branch_created_next() {
    let scion = Scion::start();
    let mut parent = scion.root().connect();
    parent.batch_execute("create table t(id int primary key)").unwrap();
    let mut branches = Vec::new();
    for id in 1..=200 {
        parent.batch_execute(&format!("insert into t values ({id})")).unwrap();
        let made = scion.try_branch(&format!("b{id}"), json!({}), false).unwrap();
        branches.push(made["branch"]["id"].as_str().unwrap().to_owned());
    }
    // Every ninth is enough to be looked at: what is acknowledged late is late for all.
    for (index, branch) in branches.iter().enumerate().step_by(9) {
        let body = json!({"endpoint": {"branch_id": branch, "type": "read_write"}});
        let made = scion.api().post(&scion.path("/endpoints"), body).unwrap();
        let endpoint = scion_tests::Endpoint {
            id: made["endpoint"]["id"].as_str().unwrap().to_owned(),
            branch: branch.clone(),
            uri: scion.uri_of(branch),
            dir: scion.data_dir().join("endpoints").join(made["endpoint"]["id"].as_str().unwrap()),
        };
        let mut client = endpoint.reconnect();
        let rows = sql::number(&mut client, "select count(*) from t");
        assert_eq!(rows, i64::try_from(index).unwrap() + 1, "branch {branch}");
        drop(client);
        scion.api().delete(&scion.path(&format!("/endpoints/{}", endpoint.id))).unwrap();
    }
}

#[test]
fn a_tablespace_is_the_branchs_own() {
    let scion = Scion::start();
    let root = scion.root();
    // Closed to all but one user, who is not the one that Postgres runs as.
    let place = tempfile::tempdir().unwrap();
    let create = |name: &str| format!("create tablespace {name} location '{}'", place.path().display());
    root.psql("postgres", &create("fast"));
    root.psql("postgres", &create("same_place"));
    root.psql("postgres", "create tablespace nowhere location '/nowhere/to/be/found'");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is kept there");
    root.psql("neondb", "create table t(id int primary key using index tablespace fast) tablespace fast");
    root.psql("neondb", "insert into t select generate_series(1, 1000)");
    // Recovery makes the tablespace once more.
    let postgres = || scion.endpoint_info(root)["postgres_pid"].as_i64();
    let killed = postgres().unwrap();
    process::signal(i32::try_from(killed).unwrap(), libc::SIGKILL);
    process::wait_for("another postgres", Duration::from_secs(30), || {
        postgres().filter(|pid| *pid != killed && *pid > 1)
    });
    drop(root.reconnect());
    root.psql("postgres", "create database beside tablespace fast");

    let child = scion.branch("child", json!({}));
    child.psql("neondb", "delete from t where id > 10");
    root.psql("neondb", "insert into t values (5000)");

    assert_eq!(child.psql("neondb", "select count(*) from t"), "10");
    assert_eq!(child.psql("beside", "select 1"), "1");
    for endpoint in [root, &child] {
        scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", endpoint.id)), json!({})).unwrap();
        scion.api().post(&scion.path(&format!("/endpoints/{}/start", endpoint.id)), json!({})).unwrap();
        drop(endpoint.reconnect());
    }
    assert_eq!(root.psql("neondb", "select count(*) from t"), "1001");
    assert_eq!(child.psql("neondb", "select count(*) from t"), "10");
    child.psql("postgres", "drop database beside");
    child.psql("neondb", "drop table t");
    child.psql("postgres", "drop tablespace fast");
    assert_eq!(root.psql("neondb", "select count(*) from t"), "1001");
    root.amcheck();
}

#[test]
fn a_branch_is_made_as_the_command_line_says_and_made_once() {
    let scion = Scion::start();
    let run = |words: &[&str]| {
        let output = scion.cli(&[&["branch", "create", "ci", "--output", "json"], words].concat());
        let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), made)
    };
    let (code, made) = run(&["--expire-in", "2h"]);
    assert_eq!(code, Some(0));
    let ttl_s = made["branch"]["ttl_interval_seconds"].as_i64().unwrap();
    assert!((7000..=7200).contains(&ttl_s), "{made}");
    let ci = scion.endpoint_of(&made);
    ci.execute("create table t()");
    assert_eq!(run(&[]).0, Some(5));
    let (code, again) = run(&["--if-exists", "return"]);
    assert_eq!((code, &again["branch"]["id"]), (Some(0), &made["branch"]["id"]));
    assert_eq!(ci.number("select count(*) from pg_class where relname = 't'"), 1);
    let again = scion.cli(&["branch", "create", "ci", "--if-exists", "return", "--at", "1 hour ago"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.ends_with("was there already\n"), "of what was not made nothing else is said: {said}");
    assert_eq!(String::from_utf8(again.stdout).unwrap().trim(), made["connection_uris"][0]["connection_uri"]);
    let (code, again) = run(&["--if-exists", "reset"]);
    assert_eq!((code, &again["branch"]["id"]), (Some(0), &made["branch"]["id"]));
    assert_eq!(ci.number("select count(*) from pg_class where relname = 't'"), 0);
    assert_eq!(run(&["--protected", "--expire-in", "2h"]).0, Some(2));
    let kept = scion.cli(&["branch", "create", "kept", "--protected", "--no-compute"]);
    assert!(kept.status.success(), "{kept:?}");
    assert_eq!(scion.cli(&["branch", "delete", "kept", "--yes"]).status.code(), Some(4));
}

#[test]
fn a_branch_begins_at_the_end_of_an_endpoint_that_is_being_deleted() {
    let scion = Scion::start();
    let dev = scion.branch("dev", json!({"parent_id": scion.root_branch()}));
    // Pages to write make its stop long enough to be seen.
    dev.execute("create table t as select g as id, repeat('x', 500) as v from generate_series(1, 100000) g");
    let path = scion.path(&format!("/endpoints/{}", dev.id));
    let made = std::thread::scope(|scope| {
        let deleted = scope.spawn(|| scion.api().delete(&path));
        std::thread::sleep(Duration::from_millis(30));
        let began = Instant::now();
        let made = scion.try_branch("late", json!({"parent_id": dev.branch}), false).unwrap();
        println!("made after {:?}", began.elapsed());
        deleted.join().unwrap().unwrap();
        made
    });
    let body = json!({"endpoint": {"branch_id": made["branch"]["id"], "type": "read_write"}});
    scion.api().post(&scion.path("/endpoints"), body).unwrap();
    let uri = scion.uri_of(made["branch"]["id"].as_str().unwrap());
    let mut client = postgres::Client::connect(&uri, postgres::NoTls).unwrap();
    assert_eq!(sql::number(&mut client, "select count(*) from t"), 100_000);
}
