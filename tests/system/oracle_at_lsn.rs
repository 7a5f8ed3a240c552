//! At any record boundary, a branch is what stock Postgres recovers to: dump, pages, sizes, indexes, checksums.

use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use scion_tests::process::{self, pg_program};
use scion_tests::stock::{Archive, Stock, Target};
use scion_tests::{Endpoint, Scion, files};
use serde_json::json;
use types::Lsn;

/// Records that the load must have made, as `pg_waldump` names them.
const EXPECTED: [&str; 16] = [
    "CREATE_ID",
    "PREPARE",
    "COMMIT_PREPARED",
    "ABORT_PREPARED",
    "CREATE_FILE_COPY",
    "CREATE_WAL_LOG",
    "DROP",
    "TRUNCATE",
    "LOCK",
    "HOT_UPDATE",
    "MULTI_INSERT",
    "FREEZE_PAGE",
    "VISIBLE",
    "SPLIT",
    "VACUUM",
    "LOG rel",
];

/// LSNs that are compared, unless `SCION_ORACLE_POINTS` says how many.
const POINTS: usize = 8;

#[test]
fn branches_at_random_record_boundaries_equal_stock_recovery() {
    let scion = Scion::start();
    let root = scion.root();
    process::run(root.pgbench(&["-i", "-q", "-s", "2"]).stderr(Stdio::null()));
    prepare(root);
    let mut archive = Archive::begin(root);
    mixed_load(root);
    archive.finish(root);

    let starts = archive.record_starts();
    assert!(starts.len() > 10_000, "only {} records", starts.len());
    let missing: Vec<_> = EXPECTED.into_iter().filter(|kind| archive.count(kind) == 0).collect();
    assert!(missing.is_empty(), "the load made no {missing:?} records");
    let mut random = Rng::with_seed(0x5DEE_CE66_D1CE_4E5B);
    let mut pages = 0;
    let mut first = None;
    let points = std::env::var("SCION_ORACLE_POINTS").ok().map_or(POINTS, |it| it.parse().unwrap());
    for n in 0..points {
        let lsn = starts[random.usize(..starts.len())];
        eprintln!("point {n}: {lsn}");
        let branch = branch_at(&scion, n, &lsn.to_string());
        let mut stock = archive.recover(&Target::Lsn(lsn.to_string()));
        pages += files::assert_same_relations(&branch.dir.join("mnt"), &stock.data());
        stock.start();
        assert_eq!(branch.dumpall(), stock.dumpall(), "dump at {lsn}");
        branch.amcheck();
        stop_and_verify_checksums(&scion, &branch);
        first.get_or_insert((branch, stock, lsn));
    }
    comparison_can_fail(&scion, &archive, &starts, first.expect("there is at least one point"));
    eprintln!("{pages} pages compared");
}

/// The same comparison finds a difference between states that do differ.
fn comparison_can_fail(scion: &Scion, archive: &Archive, starts: &[Lsn], first: (Endpoint, Stock, Lsn)) {
    let (branch, mut stock, lsn) = first;
    stock.stop();
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", branch.id)), json!({})).unwrap();
    drop(branch.reconnect());
    let later =
        starts.iter().rev().find(|start| **start > lsn).expect("the first point is not the last record");
    let other = archive.recover(&Target::Lsn(later.to_string()));
    let (_, faults) = files::differences(&branch.dir.join("mnt"), &other.data());
    assert!(!faults.is_empty(), "{lsn} and {later} look the same");
}

fn branch_at(scion: &Scion, n: usize, lsn: &str) -> Endpoint {
    let quiet = json!({"pg_settings": {"autovacuum": "off"}});
    let body = json!({
        "branch": {"name": format!("point-{n}"), "parent_lsn": lsn},
        "endpoints": [{"type": "read_write", "settings": quiet}],
    });
    let made = scion.api().post(&scion.path("/branches"), body).unwrap();
    scion.endpoint_of(&made)
}

/// `pg_checksums` wants a stopped server: it gets a copy of all that the mount shows, with a control file that says so.
fn stop_and_verify_checksums(scion: &Scion, branch: &Endpoint) {
    branch.psql("postgres", "checkpoint");
    let copy = tempfile::tempdir().unwrap();
    let mount = branch.dir.join("mnt");
    process::run(std::process::Command::new("cp").arg("-a").arg(mount.join(".")).arg(copy.path()));
    std::fs::remove_file(copy.path().join("postmaster.pid")).unwrap();
    let control = copy.path().join("global/pg_control");
    let mut bytes = std::fs::read(&control).unwrap();
    bytes[16..20].copy_from_slice(&1u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&control, bytes).unwrap();
    process::give_to_postgres(copy.path());
    let mut check = process::as_postgres(pg_program("pg_checksums"));
    let said = process::run(check.arg("--check").arg("-D").arg(copy.path()));
    assert!(said.contains("Bad checksums:  0"), "{said}");
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", branch.id)), json!({})).unwrap();
}

fn prepare(root: &Endpoint) {
    root.execute(
        "create table toasted(id int primary key, body text);
         create table churn(id serial primary key, k int, v text);
         create index on churn(k);
         create unlogged table scratch(id int);
         create table locked(id int primary key, v int);
         insert into locked select g, 0 from generate_series(1, 100) g;
         create sequence numbers;",
    );
}

/// Everything a busy server does, by several sessions at once.
fn mixed_load(root: &Endpoint) {
    std::thread::scope(|scope| {
        scope.spawn(|| process::run(root.pgbench(&["-n", "-c", "3", "-T", "8"]).stderr(Stdio::null())));
        scope.spawn(|| toast_and_churn(root));
        scope.spawn(|| data_definition(root));
        for session in 0..3 {
            scope.spawn(move || row_locks(root, session));
        }
        scope.spawn(|| two_phase(root));
        scope.spawn(|| {
            for n in 0..4 {
                let strategy = if n % 2 == 0 { "wal_log" } else { "file_copy" };
                root.psql("postgres", &format!("create database made_{n} strategy {strategy}"));
                root.psql(
                    &format!("made_{n}"),
                    "create table inside(x int); insert into inside select generate_series(1, 500)",
                );
                if n >= 2 {
                    root.psql("postgres", &format!("drop database made_{}", n - 2));
                }
            }
        });
    });
}

fn toast_and_churn(root: &Endpoint) {
    let mut client = root.connect();
    for n in 0..40 {
        client
            .batch_execute(&format!(
                "insert into toasted select {n} * 10 + g, (select string_agg(md5(random()::text), '') from generate_series(1, 400)) from generate_series(1, 5) g;
                 insert into churn(k, v) select random() * 100, md5(g::text) from generate_series(1, 300) g;
                 update churn set v = v || 'x' where k = {n};
                 delete from churn where k = {};
                 insert into scratch select generate_series(1, 20);
                 begin; savepoint a; insert into churn(k) values (1); savepoint b; insert into churn(k) values (2); rollback to a; commit;
                 select nextval('numbers');",
                n * 2
            ))
            .unwrap();
        if n % 10 == 9 {
            each(&mut client, &["vacuum churn", "vacuum (freeze) toasted"]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    each(&mut client, &["vacuum full churn", "cluster toasted using toasted_pkey", "reindex table churn"]);
}

/// Statements that must be on their own.
fn each(client: &mut postgres::Client, statements: &[&str]) {
    for sql in statements {
        client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

fn data_definition(root: &Endpoint) {
    let mut client = root.connect();
    for n in 0..15 {
        client
            .batch_execute(&format!(
                "create table made_{n}(id int primary key, v text);
                 insert into made_{n} select g, repeat('y', 50) from generate_series(1, 2000) g;
                 alter table made_{n} add column w int default 7;
                 create index on made_{n}(v, id);
                 truncate made_{n};
                 insert into made_{n} select g, repeat('z', 20) from generate_series(1, 300) g;
                 begin; create table gone_{n}(x int); insert into gone_{n} values (1); rollback;
                 create table big_{n} as select g from generate_series(1, 3000) g; drop table big_{n};"
            ))
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Shared row locks by several sessions at once make multixacts.
fn row_locks(root: &Endpoint, session: i32) {
    let mut client = root.connect();
    for n in 0..60 {
        let id = n % 10 + 1;
        client
            .batch_execute(&format!(
                "begin; select * from locked where id between {id} and {id} + 3 for key share; select pg_sleep(0.02);
                 update locked set v = v + 1 where id = {}; commit",
                50 + session * 10 + n % 10
            ))
            .unwrap();
    }
}

fn two_phase(root: &Endpoint) {
    let mut client = root.connect();
    for n in 0..20 {
        client
            .batch_execute(&format!(
                "begin; insert into churn(k, v) values ({n}, 'prepared'); prepare transaction 'p{n}'"
            ))
            .unwrap();
        std::thread::sleep(Duration::from_millis(60));
        match n % 3 {
            0 => client.batch_execute(&format!("commit prepared 'p{n}'")).unwrap(),
            1 => client.batch_execute(&format!("rollback prepared 'p{n}'")).unwrap(),
            _ => {}
        }
    }
    for n in (2..20).step_by(3) {
        client.batch_execute(&format!("rollback prepared 'p{n}'")).unwrap();
    }
}
