//! Every supported major of PostgreSQL tells the same story: load, branch now and in the past, write on both, lose
//! everything that runs, and find all of it again.
//!
//! Dumps are the judge: what a branch shows must be what its parent showed at that moment. They are made by the programs
//! of 18, which know every server.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use scion_tests::process::{self, release_bin, wait_for};
use scion_tests::server::{abandoned_shared_memory, assert_abandoned_no_more_than};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

#[test]
fn a_project_of_16_branches_and_survives() {
    story(16);
}

#[test]
fn a_project_of_17_branches_and_survives() {
    story(17);
}

/// Rule 5 of the README of `compute`.
#[test]
fn a_project_of_18_branches_and_survives() {
    story(18);
}

#[test]
fn a_major_that_is_not_there_or_not_supported_is_refused_with_what_to_do() {
    let scion = Scion::start();
    let refused = |major: i32| {
        let error = scion.api().post("/projects", json!({"project": {"pg_version": major}})).unwrap_err();
        assert_eq!(error.status, 422, "{error:?}");
        error.message
    };
    let message = refused(14);
    assert!(message.contains("supported are 15, 16, 17 and 18"), "{message}");
    let present = |major: &str| Path::new("/usr/lib/postgresql").join(major).exists();
    if !present("17") {
        let message = refused(17);
        assert!(message.contains("apt-get install postgresql-17"), "{message}");
        let output = scion.cli(&["project", "create", "new", "--pg-version", "17"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
    }
}

fn story(major: i32) {
    let (Some(bin), Some(newest)) = (release_bin(&major.to_string()), release_bin("18")) else { return };
    let abandoned = abandoned_shared_memory();
    let mut scion = Scion::start_major(major, &bin);
    let root = scion.root().clone();
    let version: i32 = root.psql("postgres", "show server_version_num").parse().unwrap();
    assert_eq!(version / 10_000, major);
    assert_eq!(root.psql("postgres", "show data_checksums"), "on");
    load(&root);
    let dump = |endpoint: &Endpoint| without_sequences(&endpoint.dumpall_by(&newest));

    let past = dump(&root);
    let lsn = root.psql("neondb", "select pg_current_wal_lsn()");
    change(&root);
    let now = dump(&root);
    assert_ne!(past, now);
    let head = scion.branch("head", json!({}));
    let before = scion.branch("before", json!({"parent_lsn": lsn}));
    assert_same(&dump(&before), &past, "the branch in the past");
    assert_same(&dump(&head), &now, "the branch at the head");
    let reader = scion.reader("reader", json!({"parent_lsn": lsn}));
    assert_same(&dump(&reader), &past, "an endpoint that only reads");

    for branch in [&before, &head] {
        let next: i64 = branch.psql("neondb", "select nextval('counter')").parse().unwrap();
        assert!((1001..=1033).contains(&next), "{next}");
    }
    before.psql("neondb", "commit prepared 'kept'");
    head.psql("neondb", "rollback prepared 'kept'");
    assert_eq!(before.psql("neondb", "select count(*) from held"), "1");
    assert_eq!(head.psql("neondb", "select count(*) from held"), "0");
    for endpoint in [&head, &before] {
        change(endpoint);
        process::run(endpoint.pgbench(&["-n", "-c", "2", "-t", "100"]).stderr(Stdio::null()));
    }
    assert_same(&dump(&root), &now, "the parent, after its branches were written");

    let kept: Vec<String> = [&root, &head, &before].map(dump).into();
    kill_everything(&mut scion, &[&root, &head, &before]);
    for (endpoint, kept) in [&root, &head, &before].into_iter().zip(&kept) {
        drop(endpoint.reconnect());
        assert_same(&dump(endpoint), kept, "after kill -9");
        endpoint.amcheck();
    }
    assert_abandoned_no_more_than(&abandoned);
    checksums_are_right(&scion, &bin, &before);
}

/// The log is up to 32 values ahead of a sequence, on a branch as after a crash.
fn without_sequences(dump: &str) -> String {
    let lines = dump.lines().filter(|line| !line.starts_with("SELECT pg_catalog.setval("));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Dumps are long: only the first line that differs is told.
fn assert_same(found: &str, expected: &str, what: &str) {
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert_eq!(differs, None, "{what}");
    assert_eq!(found.len(), expected.len(), "{what}");
}

/// Rows, duplicates, wide values, locks by several transactions, catalogs rewritten, a prepared transaction.
fn load(root: &Endpoint) {
    process::run(root.pgbench(&["-i", "-q", "-s", "2"]).stderr(Stdio::null()));
    root.psql(
        "neondb",
        "create table item (id int primary key, part int, note text, more text) with (fillfactor = 70);
         create index on item (part); create index on item (note, id);
         alter table item alter more set storage external;
         insert into item select g, g % 9, 'note ' || g % 100, repeat(md5(g::text), g % 200) from generate_series(1, 20000) g;
         create unlogged table fleeting as select generate_series(1, 100) as id;
         create sequence counter; select count(nextval('counter')) from generate_series(1, 1000);
         create table parted (id int, at date) partition by range (at);
         create table parted_1 partition of parted for values from ('2020-01-01') to ('2021-01-01');
         insert into parted select g, date '2020-01-01' + g % 300 from generate_series(1, 5000) g;",
    );
    root.psql("neondb", "vacuum (freeze, analyze)");
    root.psql("neondb", "vacuum full pg_class");
    root.psql("postgres", "create database other strategy file_copy");
    root.psql("postgres", "create database another strategy wal_log");
    // Children lock their parents' rows, several at once: multixacts.
    root.psql(
        "neondb",
        "create table parent (id int primary key); insert into parent select generate_series(1, 20);
         create table child (id serial, parent int references parent)",
    );
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "insert into child (parent) values (1 + random() * 19);\n").unwrap();
    std::fs::set_permissions(script.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let script = script.path().to_str().unwrap();
    process::run(root.pgbench(&["-n", "-c", "8", "-t", "200", "-f", script]).stderr(Stdio::null()));
    root.psql("neondb", "create table held (id int primary key)");
    root.psql("neondb", "begin; insert into held values (1); prepare transaction 'kept'");
}

/// Updates, deletions, a truncation, items reused, what a vacuum and a checkpoint leave.
fn change(endpoint: &Endpoint) {
    endpoint.psql(
        "neondb",
        "update item set note = 'changed' where id % 3 = 0; delete from item where id % 7 = 0;
         update item set part = part + 1 where id % 50 = 0; truncate parted;
         insert into parted select g, date '2020-06-01' from generate_series(1, 777) g;
         drop index if exists item_part_idx; create index on item (part) include (note);
         create table if not exists later (id int); insert into later select generate_series(1, 10)",
    );
    endpoint.psql("neondb", "vacuum item");
    endpoint.psql(
        "neondb",
        "insert into item select max(id) + g, 1, 'new', '' from item, generate_series(1, 300) g group by g",
    );
    endpoint.psql("neondb", "checkpoint");
    endpoint.psql("neondb", "update item set note = 'last' where id % 11 = 0");
    endpoint.psql("neondb", "vacuum (freeze) child");
}

fn kill_everything(scion: &mut Scion, endpoints: &[&Endpoint]) {
    let mut pids = Vec::new();
    for endpoint in endpoints {
        let found = wait_for("the endpoint to report its processes", Duration::from_secs(30), || {
            let info = scion.endpoint_info(endpoint);
            let pid = |name: &str| info[name].as_i64().and_then(|pid| i32::try_from(pid).ok());
            Some([pid("postgres_pid")?, pid("compute_pid")?])
        });
        pids.extend(found);
    }
    scion.kill_serve();
    for pid in pids {
        process::signal(pid, libc::SIGKILL);
    }
    scion.relaunch();
}

/// A page whose checksum is wrong would be an error when it is read: `pg_checksums` itself reads a copy of all.
fn checksums_are_right(scion: &Scion, bin: &Path, endpoint: &Endpoint) {
    if !bin.join("pg_checksums").exists() {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    process::give_to_postgres(copy.path());
    let backup = release_bin("18").unwrap().join("pg_basebackup");
    let mut command = std::process::Command::new(backup);
    command.arg("-h").arg(endpoint.dir.join("sock")).args(["-p", &endpoint.port(), "-U", "postgres"]);
    command.args(["-X", "stream", "--checkpoint=fast", "--no-sync", "-D"]).arg(copy.path().join("data"));
    process::run(&mut command);
    process::give_to_postgres(copy.path());
    let mut command = process::as_postgres(bin.join("pg_ctl"));
    let data = copy.path().join("data");
    let options = format!("-c listen_addresses= -c unix_socket_directories={}", copy.path().display());
    process::run(
        command.args(["-w", "-s", "start", "-D"]).arg(&data).args(["-o", &options]).stdout(Stdio::null()),
    );
    process::run(process::as_postgres(bin.join("pg_ctl")).args(["-w", "-s", "stop", "-D"]).arg(&data));
    let said =
        process::run(process::as_postgres(bin.join("pg_checksums")).args(["--check", "-D"]).arg(&data));
    assert!(said.contains("Bad checksums:  0"), "{said}");
    let _ = scion;
}
