//! A branch is given other data: its connection string answers with that, and nothing that was to be kept is lost.

use std::time::{Duration, Instant};

use scion_tests::process::wait_for;
use scion_tests::{ApiError, Endpoint, Scion, sql};
use serde_json::{Value, json};

fn restore(scion: &Scion, branch: &str, body: Value) -> Result<Value, ApiError> {
    scion.api().post(&scion.path(&format!("/branches/{branch}/restore")), body)
}

fn reset(scion: &Scion, endpoint: &Endpoint) -> Value {
    let parent = scion.branch_info(&endpoint.branch)["parent_id"].clone();
    restore(scion, &endpoint.branch, json!({"source_branch_id": parent})).unwrap()
}

/// A branch that has no endpoint yet gets one.
fn endpoint_for(scion: &Scion, branch: &str) -> Endpoint {
    let body = json!({"endpoint": {"branch_id": branch, "type": "read_write"}});
    let made = scion.api().post(&scion.path("/endpoints"), body).unwrap();
    let id = made["endpoint"]["id"].as_str().unwrap().to_owned();
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { id, branch: branch.to_owned(), uri: scion.uri_of(branch), dir }
}

#[test]
fn a_reset_branch_answers_at_the_same_address_with_its_parents_data() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int primary key, v text); insert into t select g, 'main' from generate_series(1, 5000) g");
    let dev = scion.branch("dev", json!({}));
    let before = scion.endpoint_info(&dev);
    dev.execute("update t set v = 'dev'; create table only_dev(x int); insert into t values (9999, 'dev')");
    root.execute("insert into t values (6000, 'late')");

    let mut client = dev.connect();
    let answer = reset(&scion, &dev);

    assert!(client.simple_query("select 1").is_err(), "a session outlived its data");
    assert_eq!(dev.number("select count(*) from t where v in ('main', 'late')"), 5001);
    assert_eq!(dev.number("select count(*) from pg_class where relname = 'only_dev'"), 0);
    assert_eq!(answer["branch"]["id"], json!(dev.branch));
    assert_eq!(answer["branch"]["parent_id"], json!(scion.root_branch()));
    assert!(answer["branch"]["last_reset_at"].is_string());
    let after = scion.endpoint_info(&dev);
    assert_eq!((&before["id"], &before["host"]), (&after["id"], &after["host"]));
    // It is a branch like any other: both sides are written, restarted and branched from.
    dev.execute("insert into t values (7000, 'dev')");
    root.execute("insert into t values (7001, 'main')");
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", dev.id)), json!({})).unwrap();
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", dev.id)), json!({})).unwrap();
    drop(dev.reconnect());
    let child = scion.branch("child", json!({"parent_id": dev.branch}));
    assert_eq!(child.number("select count(*) from t where id in (6000, 7000, 7001)"), 2);
    dev.amcheck();
    child.amcheck();
}

#[test]
fn resets_one_after_the_other_leave_no_data_behind() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int)");
    let dev = scion.branch("dev", json!({}));
    let (mut times, mut last) = (Vec::new(), Value::Null);
    for round in 1..=7 {
        root.execute(&format!("insert into t values ({round})"));
        dev.execute("insert into t values (1000)");
        let began = Instant::now();
        last = reset(&scion, &dev);
        assert_eq!(dev.number("select count(*) from t"), round);
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!("a reset, to the first answer: {:?} at the median, {:?} at most", times[3], times[6]);
    for operation in last["operations"].as_array().unwrap() {
        eprintln!("the last one: {} took {} ms", operation["action"], operation["total_duration_ms"]);
    }
    eprintln!("phases of the start: {}", scion.endpoint_info(&dev)["start_phases_ms"]);
    assert!(scion.stored() <= 2, "the root and the branch");
}

#[test]
fn a_branch_goes_back_in_its_own_past_and_what_it_held_is_kept() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int primary key)");
    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t select generate_series(1, 100)");
    let lsn: String = dev.connect().query_one("select pg_current_wal_flush_lsn()::text", &[]).unwrap().get(0);
    let kid = scion.branch("kid", json!({"parent_id": dev.branch}));
    dev.execute("delete from t; insert into t values (4711)");

    let own = json!({"source_branch_id": dev.branch, "source_lsn": lsn});
    assert_eq!(restore(&scion, &dev.branch, own).unwrap_err().status, 422, "what follows would be lost");
    let body = json!({"source_branch_id": dev.branch, "source_lsn": lsn, "preserve_under_name": "dev_old"});
    let answer = restore(&scion, &dev.branch, body).unwrap();

    assert_eq!(dev.number("select count(*) from t"), 100);
    let backup = answer["backup_branch"]["id"].as_str().unwrap();
    assert_eq!(answer["branch"]["parent_id"], json!(backup));
    assert_eq!(scion.branch_info(&kid.branch)["parent_id"], json!(backup));
    let old = endpoint_for(&scion, backup);
    assert_eq!(old.number("select sum(id) from t"), 4711);
    assert_eq!(kid.number("select count(*) from t"), 100);
    kid.execute("insert into t values (200)");
    // The child resets to where its parent's data went.
    reset(&scion, &kid);
    assert_eq!(kid.number("select sum(id) from t"), 4711);
    let refused = scion.api().delete(&scion.path(&format!("/branches/{backup}"))).unwrap_err();
    assert_eq!(refused.status, 422, "it has children: {}", refused.message);
    for endpoint in [&dev, &old, &kid] {
        endpoint.amcheck();
    }
}

#[test]
fn the_root_goes_back_in_time_and_takes_the_data_of_its_child() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(v text); insert into t values ('kept')");
    let time: String = root
        .connect()
        .query_one(
            "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            &[],
        )
        .unwrap()
        .get(0);
    std::thread::sleep(Duration::from_millis(20));
    root.execute("drop table t");
    let body =
        json!({"source_branch_id": root.branch, "source_timestamp": time, "preserve_under_name": "broken"});
    restore(&scion, &root.branch, body).unwrap();
    assert_eq!(root.number("select count(*) from t where v = 'kept'"), 1);
    assert_eq!(scion.branch_info(&root.branch)["default"], json!(true));

    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t values ('dev')");
    let body = json!({"source_branch_id": dev.branch, "preserve_under_name": "before_dev"});
    restore(&scion, &root.branch, body).unwrap();
    assert_eq!(root.number("select count(*) from t"), 2);
    root.execute("insert into t values ('after')");
    assert_eq!(dev.number("select count(*) from t"), 2);
    // The circle is only one of names: all of them go on.
    let body = json!({"source_branch_id": root.branch, "preserve_under_name": "dev_old"});
    restore(&scion, &dev.branch, body).unwrap();
    let again = scion.branch("again", json!({}));
    assert_eq!(again.number("select count(*) from t"), 3);
    root.amcheck();
}

#[test]
fn a_branch_that_does_not_run_is_reset_and_starts_with_the_new_data() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(id int)");
    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t values (1)");
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", dev.id)), json!({})).unwrap();
    reset(&scion, &dev);
    assert!(dev.try_connect().is_err(), "it was stopped and is to stay so");
    // Its last run was on other data, and so says nothing about what this branch holds.
    let child = scion.branch("child", json!({"parent_id": dev.branch}));
    assert_eq!(child.number("select count(*) from t"), 0);
    scion.kill_serve();
    scion.relaunch();
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", dev.id)), json!({})).unwrap();
    assert_eq!(dev.number("select count(*) from t"), 0);
}

#[test]
fn a_server_killed_in_the_middle_of_a_restore_leaves_the_old_or_the_new() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(id int primary key, v text); insert into t select g, 'main' from generate_series(1, 1000) g");
    let dev = scion.branch("dev", json!({}));
    let (mut old, mut new) = (0, 0);
    for round in 0..12_u64 {
        dev.execute(&format!("create table if not exists mark(x int); insert into mark values ({round})"));
        let keep = (round % 2 == 1).then(|| format!("kept-{round}"));
        let body = json!({"source_branch_id": scion.root_branch(), "preserve_under_name": keep});
        let path = scion.path(&format!("/branches/{}/restore", dev.branch));
        scion.killed_during(10 + round * 23, |api| drop(api.post(&path, body)));
        let mut client = dev.reconnect();
        let marked = sql::number(&mut client, "select count(*) from pg_class where relname = 'mark'");
        if marked == 1 {
            old += 1;
            let rows = sql::number(&mut client, &format!("select count(*) from mark where x = {round}"));
            assert_eq!(rows, 1, "round {round}: a commit was lost though nothing was restored");
        } else {
            new += 1;
        }
        assert_eq!(sql::number(&mut client, "select count(*) from t"), 1000, "round {round}");
    }
    eprintln!("killed {old} times before and {new} times after the change");
    let branches = scion.api().get(&scion.path("/branches")).unwrap()["branches"].as_array().unwrap().len();
    let data = wait_for("data that nobody names to be gone", Duration::from_secs(20), || {
        Some(scion.stored()).filter(|data| *data <= branches)
    });
    assert!(data <= branches);
    dev.amcheck();
}

#[test]
fn a_restored_branch_keeps_its_passwords_and_its_backup_and_its_source_theirs() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int)");
    let lsn: String =
        scion.root().connect().query_one("select pg_current_wal_flush_lsn()::text", &[]).unwrap().get(0);
    let dev = scion.branch("dev", json!({}));
    let path =
        |branch: &str, rest: &str| scion.path(&format!("/branches/{branch}/roles/neondb_owner/{rest}"));
    let new = |branch: &str| {
        let reset = scion.api().post(&path(branch, "reset_password"), json!({})).unwrap();
        reset["role"]["password"].as_str().unwrap().to_owned()
    };
    let revealed = |branch: &str| {
        scion.api().get(&path(branch, "reveal_password")).unwrap()["password"].as_str().unwrap().to_owned()
    };
    let connects = |uri: &str| postgres::Client::connect(uri, postgres::NoTls).is_ok();
    let first = revealed(&dev.branch);
    let (of_root, of_dev) = (new(scion.root_branch()), new(&dev.branch));
    let uri = scion.uri_of(&dev.branch);
    assert!(uri.contains(&of_dev) && connects(&uri));

    reset(&scion, &dev);
    assert!(connects(&uri), "the connection string changed with the data");
    assert!(!connects(&uri.replace(&of_dev, &of_root)) && !connects(&uri.replace(&of_dev, &first)));
    assert_eq!((revealed(&dev.branch), revealed(scion.root_branch())), (of_dev.clone(), of_root.clone()));

    // One that does not run, to a time when both had another.
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", dev.id)), json!({})).unwrap();
    let body =
        json!({"source_branch_id": scion.root_branch(), "source_lsn": lsn, "preserve_under_name": "old"});
    let backup =
        restore(&scion, &dev.branch, body).unwrap()["backup_branch"]["id"].as_str().unwrap().to_owned();
    assert_eq!((revealed(&dev.branch), revealed(&backup)), (of_dev.clone(), of_dev.clone()));
    let child = scion.branch("child", json!({"parent_id": dev.branch}));
    assert!(child.uri.contains(&first) && connects(&child.uri), "it begins with the passwords of that time");
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", dev.id)), json!({})).unwrap();
    assert!(connects(&uri));
    let of_backup = endpoint_for(&scion, &backup);
    assert!(of_backup.uri.contains(&of_dev) && connects(&of_backup.uri));
    let after = scion.branch("after", json!({"parent_id": dev.branch}));
    assert!(after.uri.contains(&of_dev) && connects(&after.uri));
}

#[test]
fn a_protected_branch_and_a_taken_name_refuse() {
    let scion = Scion::start();
    let dev = scion.branch("dev", json!({"protected": true}));
    let body = json!({"source_branch_id": scion.root_branch()});
    let error = restore(&scion, &dev.branch, body.clone()).unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (422, "cannot reset protected branch"));
    let cli = scion.cli(&["branch", "protect", "dev", "--off"]);
    assert!(cli.status.success(), "{}", String::from_utf8_lossy(&cli.stderr));
    let taken = json!({"source_branch_id": scion.root_branch(), "preserve_under_name": "main"});
    assert_eq!(restore(&scion, &dev.branch, taken).unwrap_err().status, 409);
    let nobody = json!({"source_branch_id": "br-no-such-one"});
    assert_eq!(restore(&scion, &dev.branch, nobody).unwrap_err().status, 404);
    assert_eq!(restore(&scion, &dev.branch, json!({})).unwrap_err().status, 400);
    dev.execute("select 1");
    restore(&scion, &dev.branch, body).unwrap();
}

#[test]
fn the_command_line_resets_restores_renames_and_sets_the_default() {
    let scion = Scion::start();
    let ok = |arguments: &[&str]| {
        let output = scion.cli(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    scion.root().execute("create table t(id int)");
    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t values (1)");
    assert_eq!(scion.cli(&["branch", "reset", "dev"]).status.code(), Some(2), "--yes is needed");
    ok(&["branch", "reset", "dev", "--yes"]);
    assert_eq!(dev.number("select count(*) from t"), 0);
    let moment = dev.connect().query_one("select pg_current_wal_flush_lsn()::text", &[]).unwrap();
    let moment: String = moment.get(0);
    dev.execute("insert into t values (2)");
    assert!(
        ok(&["branch", "restore", "dev", "--to", &moment]).contains("what it held before is branch dev_old_")
    );
    assert_eq!(dev.number("select count(*) from t"), 0);
    assert_eq!(scion.cli(&["branch", "restore", "dev"]).status.code(), Some(2), "to when, or from where");
    ok(&["branch", "rename", "dev", "feature"]);
    ok(&["branch", "set-default", "feature"]);
    assert_eq!(scion.branch_info(&dev.branch)["default"], json!(true));
    assert_eq!(scion.branch_info(scion.root_branch())["default"], json!(false));
    let child = scion.try_branch("child", json!({}), false).unwrap();
    assert_eq!(child["branch"]["parent_id"], json!(dev.branch));
    let reset = scion.cli(&["branch", "reset", "main", "--yes"]);
    assert_eq!(reset.status.code(), Some(4), "a root has no parent");
    // The id of another branch may hold `feat`, and no id holds the whole name.
    let count = scion.api().get(&scion.path("/branches/count?search=FEATURE")).unwrap();
    assert_eq!(count["count"], json!(1));
}

#[test]
fn a_branch_made_while_its_parent_is_given_other_data_has_what_its_parent_has() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int)");
    let marked = scion.branch("marked", json!({}));
    marked.execute("insert into t values (1)");
    let (mut both, mut refused) = (0, 0);
    for round in 0..25_u64 {
        let parent = scion.try_branch(&format!("parent-{round}"), json!({"parent_id": marked.branch}), false);
        let parent = parent.unwrap()["branch"]["id"].as_str().unwrap().to_owned();
        let (made, restored) = std::thread::scope(|scope| {
            let made = scope
                .spawn(|| scion.try_branch(&format!("child-{round}"), json!({"parent_id": parent}), false));
            std::thread::sleep(Duration::from_micros(round * 300));
            let restored = restore(&scion, &parent, json!({"source_branch_id": scion.root_branch()}));
            (made.join().unwrap(), restored)
        });
        match (made, restored) {
            (Ok(made), Ok(restored)) => {
                both += 1;
                // Made before, it is a child of what keeps the old data; made after, one of the new.
                let held = i64::from(!restored["backup_branch"].is_null());
                let child = endpoint_for(&scion, made["branch"]["id"].as_str().unwrap());
                assert_eq!(
                    child.number("select count(*) from t"),
                    held,
                    "round {round}: data its parent never had"
                );
                scion
                    .api()
                    .post(&scion.path(&format!("/endpoints/{}/suspend", child.id)), json!({}))
                    .unwrap();
            }
            (Ok(_), Err(error)) => {
                refused += 1;
                assert_eq!(error.status, 422, "{error:?}");
            }
            (Err(error), Ok(_)) => {
                refused += 1;
                assert_eq!(error.status, 423, "{error:?}");
            }
            (Err(one), Err(other)) => panic!("neither was done: {one:?}, {other:?}"),
        }
    }
    println!("{both} times both, {refused} times one");
}

#[test]
fn a_branch_with_children_is_reset_and_they_stay_on_what_it_held() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int)");
    let dev = scion.branch("dev", json!({}));
    dev.execute("insert into t values (1)");
    let kid = scion.branch("kid", json!({"parent_id": dev.branch}));
    scion.root().execute("insert into t values (2), (3)");
    let answer = reset(&scion, &dev);
    assert_eq!(dev.number("select sum(id) from t"), 5);
    let backup = &answer["backup_branch"];
    assert_eq!(backup["name"], "dev (old)");
    assert_eq!(scion.branch_info(&kid.branch)["parent_id"], backup["id"]);
    assert_eq!(endpoint_for(&scion, backup["id"].as_str().unwrap()).number("select sum(id) from t"), 1);
    kid.execute("insert into t values (10)");
    assert_eq!(kid.number("select sum(id) from t"), 11);
    // Without children nothing is kept.
    assert!(reset(&scion, &dev)["backup_branch"].is_null());
}
