//! Who may replicate an endpoint, and what goes along.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scion_tests::process::{self, pg_program, wait_for};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

fn enable(scion: &Scion) {
    let settings = json!({"project": {"settings": {"enable_logical_replication": true}}});
    scion.api().patch(&scion.path(""), settings).unwrap();
}

/// `pg_basebackup` of what a URI names, into a new directory.
fn base_backup(uri: &str, into: &Path) -> std::process::Output {
    let mut command = Command::new(pg_program("pg_basebackup"));
    process::output(command.args(["-d", uri, "-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(into))
}

#[test]
fn the_owner_of_an_enabled_project_publishes_to_others_and_takes_base_backups() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(id int primary key); insert into t values (1)");
    let temp = tempfile::tempdir().unwrap();
    let refused = base_backup(&root.uri, &temp.path().join("refused"));
    assert!(!refused.status.success(), "{refused:?}");

    enable(&scion);
    drop(root.reconnect());
    root.execute("create publication p for table t");
    let another = scion.api().post("/projects", json!({"project": {"name": "another"}})).unwrap();
    let subscriber = scion.endpoint_of(&another);
    subscriber.execute("create table t(id int primary key)");
    subscriber.psql("neondb", &format!("create subscription s connection '{}' publication p", root.uri));
    root.execute("insert into t values (2)");
    wait_for("rows of the publisher", Duration::from_secs(60), || {
        (subscriber.number("select count(*) from t") == 2).then_some(())
    });
    subscriber.psql("neondb", "drop subscription s");

    let backup = temp.path().join("backup");
    let done = base_backup(&root.uri, &backup);
    assert!(done.status.success(), "{done:?}");
    process::run(Command::new(pg_program("pg_verifybackup")).arg(&backup));
    assert!(backup.join("pg_hba.conf").exists() && !backup.join("server.key").exists());
    let keep =
        root.psql("postgres", "select setting::int from pg_settings where name = 'max_slot_wal_keep_size'");
    assert_eq!(keep, "32768");
}

#[test]
fn every_role_that_scion_makes_may_replicate_and_none_that_sql_makes() {
    let scion = Scion::start();
    let may = |endpoint: &Endpoint| {
        let sql = "select string_agg(rolname, ' ' order by rolname) from pg_roles \
                   where rolreplication and rolname <> 'postgres'";
        endpoint.psql("postgres", sql)
    };
    scion.root().execute("create role made_by_sql login");
    let child = scion.branch("child", json!({}));
    assert_eq!((may(scion.root()), may(&child)), (String::new(), String::new()));
    enable(&scion);
    let roles = scion.path(&format!("/branches/{}/roles", scion.root_branch()));
    scion.api().post(&roles, json!({"role": {"name": "later"}})).unwrap();
    assert_eq!(may(scion.root()), "later neondb_owner");
    assert_eq!(may(&child), "neondb_owner");
    assert_eq!(may(&scion.branch("next", json!({}))), "later neondb_owner");
    // Nobody is let in as the superuser, for this neither.
    let uri = scion.root().uri.replace("neondb_owner", "postgres");
    let temp = tempfile::tempdir().unwrap();
    let refused = base_backup(&uri, &temp.path().join("refused"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("pg_hba.conf rejects"), "{said}");
}

/// Shells that run a command again whenever it ends.
struct Hungry(Vec<Child>);

impl Hungry {
    fn many(count: usize, command: &str) -> Self {
        let shell = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("while :; do {command}; done")]);
            shell.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
        };
        Self((0..count).map(|_| shell()).collect())
    }
}

impl Drop for Hungry {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // The shell and what it runs.
            process::run(Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]));
            child.wait().unwrap();
        }
    }
}

/// The stream of the store is ended, and others have what it needs before it is back.
fn what_is_committed_arrives(scion: &Scion, names: &str) {
    let root = scion.root();
    let before = root.number("select count(*) from t");
    for round in 1..=3 {
        let own =
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'scion'";
        root.psql("postgres", own);
        std::thread::sleep(Duration::from_millis(300));
        root.execute("insert into t values (1)");
        let child = scion.branch(&format!("{names} {round}"), json!({}));
        assert_eq!(child.number("select count(*) from t"), before + round);
    }
}

#[test]
fn sessions_that_replicate_take_what_they_can_and_what_is_committed_reaches_the_store() {
    let scion = Scion::start();
    enable(&scion);
    let root = scion.root();
    drop(root.reconnect());
    root.execute("create table t(id int)");
    let uri = format!("{}?replication=database", root.uri);
    let psql = format!("'{}' -XAtqc 'select pg_sleep(60)' '{uri}'", pg_program("psql").display());
    let places = Hungry::many(16, &psql);
    let full = "select count(*) >= current_setting('max_wal_senders')::int from pg_stat_activity \
                where backend_type = 'walsender'";
    wait_for("all places to be taken", Duration::from_secs(60), || {
        (root.psql("postgres", full) == "t").then_some(())
    });
    what_is_committed_arrives(&scion, "places");
    drop(places);

    let temp = tempfile::tempdir().unwrap();
    let receive = format!(
        "'{}' --no-loop -S scion -d '{}' -D '{}'",
        pg_program("pg_receivewal").display(),
        root.uri,
        temp.path().display()
    );
    let slot = Hungry::many(4, &receive);
    what_is_committed_arrives(&scion, "slot");
    drop(slot);
}
