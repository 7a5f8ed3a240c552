//! Endpoints that only read.

use std::time::Duration;

use postgres::{Client, NoTls};
use scion_tests::process::{self, wait_for};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

const READ_ONLY_SQL_TRANSACTION: &str = "25006";

fn refusal(client: &mut Client, sql: &str) -> String {
    let error = client.batch_execute(sql).expect_err(sql);
    error.code().unwrap_or_else(|| panic!("{error}")).code().to_owned()
}

fn rows(endpoint: &Endpoint) -> i64 {
    endpoint.number("select count(*) from t")
}

#[test]
fn nobody_can_write_on_it_and_all_else_works() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t as select generate_series(1, 1000) as id; create index on t (id)");
    root.psql("neondb", "create extension amcheck");
    let reader = scion.reader("reader", json!({}));
    let info = scion.endpoint_info(&reader);
    assert_eq!((&info["type"], &info["current_state"]), (&json!("read_only"), &json!("active")));
    assert_eq!(rows(&reader), 1000);
    let mut client = reader.connect();
    for sql in [
        "insert into t values (1)",
        "set default_transaction_read_only = off; insert into t values (1)",
        "create table u()",
        "create temp table u()",
        "vacuum t",
    ] {
        assert_eq!(refusal(&mut client, sql), READ_ONLY_SQL_TRANSACTION, "{sql}");
    }
    let mut superuser = reader.superuser_client("neondb");
    assert_eq!(refusal(&mut superuser, "insert into t values (1)"), READ_ONLY_SQL_TRANSACTION);
    let promoted = superuser.batch_execute("select pg_promote(wait_seconds => 3)");
    assert!(promoted.is_err(), "{promoted:?}");
    assert_eq!(refusal(&mut superuser, "insert into t values (1)"), READ_ONLY_SQL_TRANSACTION);

    superuser.batch_execute("select bt_index_check('t_id_idx', true)").unwrap();

    // Roles are asked of the data, and not changed.
    let roles = scion.path(&format!("/branches/{}/roles", reader.branch));
    let listed = scion.api().get(&roles).unwrap();
    assert_eq!(listed["roles"][0]["name"], "neondb_owner");
    let refused = scion.api().post(&roles, json!({"role": {"name": "alice"}})).unwrap_err();
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.message.contains(&reader.id) && refused.message.contains("only reads"), "{refused:?}");
    let body = json!({"endpoint": {"branch_id": reader.branch, "type": "read_write"}});
    let refused = scion.api().post(&scion.path("/endpoints"), body).unwrap_err();
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.message.contains("already has a read_only endpoint"), "{refused:?}");

    // A branch of it writes, and it moves with a reset of its own.
    root.execute("insert into t select generate_series(1, 500)");
    let child = scion.branch("child", json!({"parent_id": reader.branch}));
    child.execute("delete from t where id <= 10");
    assert_eq!((rows(&child), rows(&reader)), (990, 1000));
    let reset = scion.path(&format!("/branches/{}/restore", reader.branch));
    let body = json!({"source_branch_id": scion.root_branch(), "preserve_under_name": "old reader"});
    scion.api().post(&reset, body).unwrap();
    drop(reader.reconnect());
    assert_eq!(rows(&reader), 1500);
    assert_eq!(refusal(&mut reader.connect(), "insert into t values (1)"), READ_ONLY_SQL_TRANSACTION);
}

#[test]
fn it_comes_back_as_it_was() {
    let mut scion = Scion::start();
    scion.root().execute("create table t as select generate_series(1, 1000) as id");
    scion.root().psql("neondb", "begin; insert into t values (0); prepare transaction 'kept'");
    let reader = scion.reader("reader", json!({}));
    let check = |reader: &Endpoint| {
        drop(reader.reconnect());
        assert_eq!(rows(reader), 1000);
        assert_eq!(refusal(&mut reader.connect(), "delete from t"), READ_ONLY_SQL_TRANSACTION);
    };
    check(&reader);
    let patch = |settings: serde_json::Value| {
        let path = scion.path(&format!("/endpoints/{}", reader.id));
        scion.api().patch(&path, json!({"endpoint": {"settings": {"pg_settings": settings}}}))
    };
    // Fewer than where the log comes from, of which a standby that replays would say no.
    patch(json!({"max_connections": 20, "max_worker_processes": 2})).unwrap();
    check(&reader);
    assert_eq!(reader.psql("postgres", "show max_connections"), "20");
    for name in ["recovery_target", "Promote_Trigger_File", "primary_conninfo"] {
        assert_eq!(patch(json!({ name: "x" })).unwrap_err().status, 400, "{name}");
    }
    for what in ["postgres_pid", "compute_pid"] {
        let pid = || scion.endpoint_info(&reader)[what].as_i64().map(|pid| i32::try_from(pid).unwrap());
        let before = wait_for("its process", Duration::from_secs(10), pid);
        process::signal(before, libc::SIGKILL);
        wait_for("the endpoint to come back", Duration::from_secs(60), || {
            let active = scion.endpoint_info(&reader)["current_state"] == "active";
            (active && pid().is_some_and(|pid| pid != before)).then_some(())
        });
        check(&reader);
    }
    scion.kill_serve();
    scion.relaunch();
    check(&reader);
    restarts_without_writing(&scion, &reader);
    check(&reader);
}

fn restarts_without_writing(scion: &Scion, reader: &Endpoint) {
    let head = || scion.branch_info(&reader.branch)["head_lsn"].as_str().unwrap().to_owned();
    let before = head();
    scion.api().post(&scion.path(&format!("/endpoints/{}/restart", reader.id)), json!({})).unwrap();
    assert_eq!(head(), before, "reading moves no branch");
}

#[test]
fn what_must_be_written_first_is_written_and_nothing_else() {
    let scion = Scion::start();
    scion.root().psql("neondb", "create table t as select generate_series(1, 1000) as id");
    scion.root().psql(
        "neondb",
        "create subscription s connection 'host=203.0.113.1 dbname=x' publication p with (connect = false)",
    );
    let parents: postgres::Config = scion.root().uri.parse().unwrap();
    let protect = json!({"branch": {"protected": true}});
    scion.api().patch(&scion.path(&format!("/branches/{}", scion.root_branch())), protect).unwrap();
    let reader = scion.reader("reader", json!({}));
    let state =
        "select string_agg(subenabled || ' ' || coalesce(subslotname, 'none'), ',') from pg_subscription";
    assert_eq!(reader.psql("neondb", state), "false none");
    assert_eq!(refusal(&mut reader.superuser_client("neondb"), "delete from t"), READ_ONLY_SQL_TRANSACTION);
    // Its own password opens it, and its parent's does not.
    drop(reader.connect());
    let mut config: postgres::Config = reader.uri.parse().unwrap();
    let refused = config.password(parents.get_password().unwrap()).connect(NoTls).map(|_| ()).unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("28P01"), "{refused}");
    let listed = scion.api().get(&scion.path("/operations?limit=1000")).unwrap();
    let about = |it: &&serde_json::Value| {
        it["branch_id"] == reader.branch && !it["detail"]["quarantine"]["subscriptions"].is_null()
    };
    assert_eq!(listed["operations"].as_array().unwrap().iter().filter(about).count(), 1);
    // The second time nothing is due.
    restarts_without_writing(&scion, &reader);
    assert_eq!(rows(&reader), 1000);
}

#[test]
fn it_can_be_stopped_while_it_writes_what_must_be_written_first() {
    let mut scion = Scion::start();
    scion.root().psql("neondb", "create table t as select generate_series(1, 1000) as id");
    let protect = json!({"branch": {"protected": true}});
    scion.api().patch(&scion.path(&format!("/branches/{}", scion.root_branch())), protect).unwrap();
    for (round, after_ms) in (20..260).step_by(20).enumerate() {
        let (path, name) = (scion.path("/branches"), format!("reader {round}"));
        let body = json!({"branch": {"name": name}, "endpoints": [{"type": "read_only"}]});
        let _ = scion.killed_during(after_ms, |api| api.post(&path, body));
        let listed = scion.api().get(&scion.path(&format!("/branches?search=reader%20{round}"))).unwrap();
        let Some(branch) = listed["branches"][0]["id"].as_str() else { continue };
        let endpoints = scion.api().get(&scion.path(&format!("/branches/{branch}/endpoints"))).unwrap();
        let id = endpoints["endpoints"][0]["id"].as_str().unwrap().to_owned();
        // It may be anywhere between its first process and its last.
        scion.api().post(&scion.path(&format!("/endpoints/{id}/suspend")), json!({})).unwrap();
        let info = |scion: &Scion| scion.api().get(&scion.path(&format!("/endpoints/{id}"))).unwrap();
        assert_eq!(info(&scion)["endpoint"]["current_state"], "idle", "{after_ms} ms");
        scion.api().post(&scion.path(&format!("/endpoints/{id}/start")), json!({})).unwrap();
        let dir = scion.data_dir().join("endpoints").join(&id);
        let reader = Endpoint { id, uri: scion.uri_of(branch), branch: branch.to_owned(), dir };
        assert_eq!(rows(&reader), 1000, "{after_ms} ms");
        assert_eq!(refusal(&mut reader.connect(), "delete from t"), READ_ONLY_SQL_TRANSACTION);
        scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", reader.id)), json!({})).unwrap();
    }
}
