//! State survives restarts; what is deleted is gone.

use std::time::Duration;

use scion_tests::process::wait_for;
use scion_tests::server::{abandoned_shared_memory, assert_abandoned_no_more_than};
use scion_tests::{Scion, process};
use serde_json::json;

#[test]
fn endpoints_go_on_while_the_server_is_down_and_are_adopted_again() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(id int); create table cold as select generate_series(1, 50000) as id");
    for verb in ["suspend", "start"] {
        scion.api().post(&scion.path(&format!("/endpoints/{}/{verb}", root.id)), json!({})).unwrap();
    }
    let before = scion.endpoint_info(&root);
    let mut client = root.reconnect();

    scion.kill_serve();
    // What needs a page that only the store has waits for it; nothing fails.
    let (done, is_done) = std::sync::mpsc::channel();
    let writing = std::thread::spawn(move || {
        client.batch_execute("insert into t select id from cold where id <= 1000").unwrap();
        let _ = done.send(());
        client
    });
    assert!(
        is_done.recv_timeout(Duration::from_millis(500)).is_err(),
        "pages came from a store that is away"
    );
    scion.relaunch();
    let mut client = writing.join().unwrap();

    assert_eq!(root.number("select count(*) from t"), 1000);
    client.batch_execute("insert into t values (1)").unwrap();
    let after = scion.endpoint_info(&root);
    assert_eq!(before["postgres_pid"], after["postgres_pid"], "the endpoint was restarted");
    let child = scion.branch("child", json!({}));
    assert_eq!(child.number("select count(*) from t"), 1001);
}

#[test]
fn a_suspended_endpoint_starts_again_with_everything() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int primary key); insert into t select generate_series(1, 5000); create unlogged table u(x int); insert into u values (1)");
    for round in 0..3 {
        scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", root.id)), json!({})).unwrap();
        assert!(root.try_connect().is_err());
        scion.api().post(&scion.path(&format!("/endpoints/{}/start", root.id)), json!({})).unwrap();
        let mut client = root.reconnect();
        client.batch_execute(&format!("insert into t values ({})", 10_000 + round)).unwrap();
    }
    assert_eq!(root.number("select count(*) from t"), 5003);
    root.amcheck();
}

#[test]
fn a_branch_of_one_that_is_being_suspended_waits_for_what_it_wrote() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int)");
    for round in 0..6 {
        root.execute("insert into t select generate_series(1, 1000)");
        let (api, path) = (scion.api().clone(), scion.path(&format!("/endpoints/{}", root.id)));
        let suspend = format!("{path}/suspend");
        let request = std::thread::spawn(move || api.post(&suspend, json!({})));
        std::thread::sleep(Duration::from_millis(5 + round * 10));
        let kid = scion.branch(&format!("kid {round}"), json!({}));
        request.join().unwrap().unwrap();
        assert_eq!(kid.number("select count(*) from t"), 1000 * i64::try_from(round + 1).unwrap());
        scion.api().delete(&scion.path(&format!("/branches/{}", kid.branch))).unwrap();
        scion.api().post(&format!("{path}/start"), json!({})).unwrap();
    }
}

/// The next server saw it stopping, and never that it had stopped.
#[test]
fn an_endpoint_whose_server_is_killed_while_it_stops_is_idle_afterwards() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    for round in 0..8 {
        let path = scion.path(&format!("/endpoints/{}", root.id));
        let suspend = format!("{path}/suspend");
        scion.killed_during(10 + round * 10, |api| drop(api.post(&suspend, json!({}))));
        wait_for("the endpoint to be where it should be", Duration::from_secs(20), || {
            let seen = scion.endpoint_info(&root);
            seen["pending_state"].is_null().then_some(())
        });
        scion.api().post(&format!("{path}/start"), json!({})).unwrap();
    }
}

/// Else what was applied from elsewhere would be applied again.
#[test]
fn progress_of_replication_origins_survives_and_belongs_to_the_position() {
    const PROGRESS: &str = "select string_agg(external_id || ' ' || remote_lsn, ', ' order by external_id)
        from pg_replication_origin_status";
    let scion = Scion::start();
    let root = scion.root().clone();
    let applied = |origin: &str, upto: &str| {
        root.psql(
            "neondb",
            &format!(
                "select pg_replication_origin_session_setup('{origin}');
                 begin; select pg_replication_origin_xact_setup('{upto}', now());
                 insert into t values (1); commit"
            ),
        )
    };
    root.psql("neondb", "create table t(id int)");
    for origin in ["gone", "moved", "near"] {
        root.psql("neondb", &format!("select pg_replication_origin_create('{origin}')"));
        applied(origin, "0/AABB");
    }
    let lsn = root.psql("neondb", "select pg_current_wal_flush_lsn()");
    let past = root.psql("neondb", PROGRESS);
    assert_eq!(past, "gone 0/AABB, moved 0/AABB, near 0/AABB");
    applied("near", "1/CCDD");
    root.psql("neondb", "select pg_replication_origin_advance('moved', '0/77')");
    root.psql("neondb", "select pg_replication_origin_drop('gone')");
    let now = "moved 0/77, near 1/CCDD";
    assert_eq!(root.psql("neondb", PROGRESS), now);

    let before = scion.branch("before", json!({"parent_lsn": lsn}));
    assert_eq!(before.psql("neondb", PROGRESS), past);
    for verb in ["suspend", "start"] {
        let path = format!("/endpoints/{}/{verb}", root.id);
        scion.api().post(&scion.path(&path), json!({})).unwrap();
    }
    assert_eq!(root.psql("neondb", PROGRESS), now);
    let after = scion.branch("after", json!({}));
    assert_eq!(after.psql("neondb", PROGRESS), now);
}

/// Rule 5 of the README of `compute`.
#[test]
fn a_deleted_branch_leaves_no_process_mount_file_or_shared_memory() {
    let scion = Scion::start();
    let abandoned = abandoned_shared_memory();
    let branch = scion.branch("gone", json!({}));
    branch.execute("create table t as select generate_series(1, 100000)");
    let info = scion.endpoint_info(&branch);
    let pid = i32::try_from(info["postgres_pid"].as_i64().unwrap()).unwrap();

    scion.api().delete(&scion.path(&format!("/branches/{}?hard_delete=true", branch.branch))).unwrap();

    assert!(!process::alive(pid));
    assert!(!branch.dir.exists(), "{} is still there", branch.dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(branch.dir.to_str().unwrap()));
    let wal = scion.data_dir().join("projects").join(scion.project()).join("wal").join(&branch.branch);
    assert!(!wal.exists(), "{} is still there", wal.display());
    assert!(scion.api().get(&scion.path(&format!("/branches/{}", branch.branch))).is_err());
    assert_abandoned_no_more_than(&abandoned);
}

#[test]
fn the_command_line_makes_lists_and_removes_a_branch() {
    let scion = Scion::start();
    scion.root().execute("create table t(x int); insert into t values (7)");

    let made = scion.cli(&["branch", "create", "feature"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let listed = scion.cli(&["branch", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.to_string().contains("\"feature\""), "{listed}");
    let rows = scion.cli(&["psql", "feature", "--", "-Atc", "select x from t"]);
    assert_eq!(
        String::from_utf8_lossy(&rows.stdout).trim(),
        "7",
        "{}",
        String::from_utf8_lossy(&rows.stderr)
    );
    let superuser = scion.cli(&[
        "psql",
        "feature",
        "--superuser",
        "--",
        "-Atc",
        "select usesuper from pg_user where usename = current_user",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&superuser.stdout).trim(),
        "t",
        "{}",
        String::from_utf8_lossy(&superuser.stderr)
    );
    let refused = scion.cli(&["branch", "delete", "feature"]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal, --yes is needed");
    assert!(scion.cli(&["branch", "delete", "feature", "--yes"]).status.success());
    assert_eq!(scion.cli(&["branch", "get", "feature"]).status.code(), Some(3));
}
