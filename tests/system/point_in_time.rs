//! A branch at a time holds what stock recovery to that time holds.

use std::time::Duration;

use scion_tests::Scion;
use scion_tests::stock::{Archive, Target};
use serde_json::json;

#[test]
fn a_branch_at_a_time_is_what_recovery_target_time_gives() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int primary key, at timestamptz)");
    let mut archive = Archive::begin(root);
    let mut client = root.connect();
    let mut times = Vec::new();
    for id in 0..60 {
        client.batch_execute(&format!("insert into t values ({id}, clock_timestamp())")).unwrap();
        if id % 12 == 5 {
            std::thread::sleep(Duration::from_millis(30));
            let now: String = client.query_one("select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &[]).unwrap().get(0);
            times.push(now);
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    archive.finish(root);
    for (n, time) in times.iter().enumerate() {
        let made = scion.try_branch(&format!("at-{n}"), json!({"parent_timestamp": time}), true).unwrap();
        let branch = scion.endpoint_of(&made);
        let mut stock = archive.recover(&Target::Time(time.clone()));
        stock.start();
        let expected = 6 + 12 * i64::try_from(n).unwrap();
        assert_eq!(branch.number("select count(*) from t"), expected, "at {time}");
        assert_eq!(branch.dumpall(), stock.dumpall(), "at {time}");
        let reported = made["branch"]["parent_timestamp"].as_str().unwrap();
        assert!(reported <= time.as_str(), "{reported} is later than {time}");
        assert!(made["branch"]["parent_lsn"].as_str().unwrap().contains('/'));
    }
}

#[test]
fn deleted_rows_are_there_on_a_branch_from_the_moment_before() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int); insert into t select generate_series(1, 100000)");
    std::thread::sleep(Duration::from_millis(50));
    let before = scion.root().psql(
        "neondb",
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    std::thread::sleep(Duration::from_millis(50));
    scion.root().execute("delete from t where id <= 25000");
    scion.root().execute("vacuum t");

    let rescue = scion.branch("rescue", json!({"parent_timestamp": before}));

    assert_eq!(rescue.number("select count(*) from t"), 100_000);
    assert_eq!(scion.root().number("select count(*) from t"), 75_000);
}

/// Redo marks a database as invalid and removes its files ahead of the record that ends its transaction.
#[test]
fn at_a_time_before_a_drop_the_database_is_whole() {
    let scion = Scion::start();
    let root = scion.root();
    root.psql("postgres", "create database shop");
    root.psql("shop", "create table orders as select generate_series(1, 1000) id");
    let time = "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let before = root.psql("postgres", time);
    std::thread::sleep(Duration::from_millis(20));
    root.psql("postgres", "drop database shop");

    let branch = scion.branch("before", json!({"parent_timestamp": before}));

    let limit = "select datconnlimit from pg_database where datname = 'shop'";
    assert_eq!(branch.psql("postgres", limit), "-1");
    assert_eq!(branch.psql("shop", "select count(*) from orders"), "1000");
    assert_eq!(root.psql("postgres", limit), "");
}
