//! What a cluster remembers of its transactions - commit times, commits, row locks - is on a branch what stock recovery
//! makes of it, before and after the server forgets the oldest part.

use std::collections::BTreeSet;
use std::path::Path;

use scion_tests::stock::{Archive, Stock, Target};
use scion_tests::{Endpoint, Scion, files};
use serde_json::{Value, json};

/// More than a segment of `pg_xact` holds: 32 pages of 32768 transactions.
const TRANSACTIONS: u32 = 1_060_000;
/// More than a segment of `pg_multixact/offsets` holds: 32 pages of 2048.
const MULTIXACTS: u32 = 70_000;

fn branch_at(scion: &Scion, name: &str, parent: &Endpoint, lsn: Option<&str>, settings: Value) -> Endpoint {
    let body = json!({
        "branch": {"name": name, "parent_id": parent.branch, "parent_lsn": lsn},
        "endpoints": [{"type": "read_write", "settings": {"pg_settings": settings}}],
    });
    let made = scion.api().post(&scion.path("/branches"), body).unwrap();
    scion.endpoint_of(&made)
}

fn flushed(endpoint: &Endpoint) -> String {
    endpoint.psql("postgres", "select pg_current_wal_flush_lsn()")
}

#[test]
fn commit_times_on_a_branch_are_those_of_stock_recovery() {
    let scion = Scion::start();
    let tracked = json!({"track_commit_timestamp": "on", "autovacuum": "off"});
    scion.root().psql("postgres", "create table untimed as select 1 as x; create table t(id int)");
    let parent = branch_at(&scion, "tracked", scion.root(), None, tracked.clone());
    let mut archive = Archive::begin(&parent);
    // A page of pg_commit_ts has 819 transactions.
    parent.psql(
        "postgres",
        "do $$ begin for i in 1..3000 loop insert into t values (i); commit; end loop; end $$",
    );
    parent.psql("postgres", "select pg_logical_emit_message(true, 'the end', '')");
    archive.finish(&parent);
    let starts = archive.record_starts();
    assert!(starts.len() > 6000, "only {} records", starts.len());

    let times = "select xmin::text::bigint, pg_xact_commit_timestamp(xmin) from t
                 union all
                 select xmin::text::bigint, pg_xact_commit_timestamp(xmin) from pg_class where relname = 'untimed' order by 1";
    let mut seen = BTreeSet::new();
    for n in 1..=4 {
        let lsn = starts[starts.len() * n / 4 - 1].to_string();
        let branch = branch_at(&scion, &format!("at-{n}"), &parent, Some(&lsn), tracked.clone());
        let mut stock = archive.recover(&Target::Lsn(lsn.clone()));
        stock.start();
        let (ours, theirs) = (branch.psql("postgres", times), stock.psql(times));
        assert_eq!(ours, theirs, "at {lsn}");
        let timed = ours.lines().filter(|line| !line.ends_with('|')).count();
        assert!(timed > 600 * n && ours.lines().count() == timed + 1, "{timed} commits have a time at {lsn}");
        seen.insert(timed);
        // The next transactions find room beside what was there.
        branch.psql(
            "postgres",
            "do $$ begin for i in 1..900 loop insert into t values (0); commit; end loop; end $$",
        );
        let all = "select count(*) = count(pg_xact_commit_timestamp(xmin)) from t";
        assert_eq!(branch.psql("postgres", all), "t", "at {lsn}");
        assert!(branch.psql("postgres", times).lines().filter(|line| theirs.contains(*line)).count() > timed);
    }
    assert_eq!(seen.len(), 4, "every point is at another time");
}

#[test]
fn a_branch_from_before_and_one_from_after_a_truncation_of_transaction_status_are_both_right() {
    let scion = Scion::start();
    let root = scion.root();
    let mut archive = Archive::begin(root);
    root.psql(
        "postgres",
        &format!(
            "create table t(id int primary key, v int); insert into t select g, 0 from generate_series(1, {MULTIXACTS}) g"
        ),
    );
    make_multixacts(root);
    let mut burner = root.superuser_client("postgres");
    burner.batch_execute("set synchronous_commit = off").unwrap();
    let burn = format!(
        "do $$ begin for i in 1..{TRANSACTIONS} loop perform pg_current_xact_id(); commit; end loop; end $$"
    );
    burner.batch_execute(&burn).unwrap();
    drop(burner);
    root.psql("postgres", "insert into t values (0, 1)");
    let before = flushed(root);
    let full = slru(&root.dir.join("mnt"));
    root.psql("postgres", "alter database template0 allow_connections true");
    scion_tests::process::run(root.superuser("vacuumdb").args(["--all", "--freeze", "--quiet"]));
    root.psql("postgres", "checkpoint");
    let after = flushed(root);
    root.psql("postgres", "select pg_logical_emit_message(true, 'the end', '')");
    archive.finish(root);
    let left = slru(&root.dir.join("mnt"));
    for (dir, gone) in
        [("pg_xact", "0000"), ("pg_multixact/offsets", "0000"), ("pg_multixact/members", "0000")]
    {
        let file = format!("{dir}/{gone}");
        assert!(full.contains(&file) && !left.contains(&file), "{file}: {full:?}, then {left:?}");
    }

    let quiet = json!({"autovacuum": "off"});
    for (name, lsn) in [("before", &before), ("after", &after)] {
        let branch = branch_at(&scion, name, root, Some(lsn), quiet.clone());
        let mut stock = archive.recover(&Target::Lsn(lsn.clone()));
        files::assert_same_relations(&branch.dir.join("mnt"), &stock.data());
        assert_eq!(slru(&branch.dir.join("mnt")), slru(&stock.data()), "{name}");
        stock.start();
        same_answers(name, &branch, &stock);
        // Every row's lock and every status is looked up, and new ones are made.
        assert_eq!(
            branch.psql("postgres", "select count(*) from (select from t for update) x"),
            (MULTIXACTS + 1).to_string()
        );
        make_multixacts(&branch);
        scion_tests::process::run(branch.superuser("vacuumdb").args(["--all", "--freeze", "--quiet"]));
        branch.amcheck();
        assert_eq!(
            branch.psql("postgres", "select count(*), sum(v) from t"),
            format!("{}|1", MULTIXACTS + 1)
        );
        // The branch forgets on its own.
        let again = branch_at(&scion, &format!("{name}-again"), &branch, None, quiet.clone());
        assert_eq!(again.psql("postgres", "select count(*), sum(v) from t"), format!("{}|1", MULTIXACTS + 1));
    }
}

/// One holds all rows while another locks each in a subtransaction of its own: each row gets a multixact.
fn make_multixacts(endpoint: &Endpoint) {
    let mut holder = endpoint.superuser_client("postgres");
    holder.batch_execute("begin; select from t for key share").unwrap();
    endpoint.psql(
        "postgres",
        &format!(
            "do $$ begin for i in 1..{MULTIXACTS} loop
               begin perform from t where id = i for key share; exception when division_by_zero then null; end;
             end loop; end $$"
        ),
    );
    holder.batch_execute("commit").unwrap();
}

fn same_answers(name: &str, branch: &Endpoint, stock: &Stock) {
    for question in [
        "select oldest_xid, oldest_multi_xid, next_multixact_id, next_multi_offset from pg_control_checkpoint()",
        "select datname, datfrozenxid, datminmxid from pg_database order by 1",
        "select count(*), sum(v), sum(xmax::text::bigint) from t",
    ] {
        assert_eq!(branch.psql("postgres", question), stock.psql(question), "{name}: {question}");
    }
}

/// Names of the files with the status of transactions.
fn slru(data: &Path) -> BTreeSet<String> {
    let list = |dir: &str| {
        let entries = std::fs::read_dir(data.join(dir)).unwrap();
        entries.map(|entry| format!("{dir}/{}", entry.unwrap().file_name().into_string().unwrap())).collect()
    };
    ["pg_xact", "pg_multixact/offsets", "pg_multixact/members"]
        .into_iter()
        .flat_map(|dir| -> Vec<String> { list(dir) })
        .collect()
}
