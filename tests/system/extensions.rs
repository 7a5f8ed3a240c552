//! Indexes of extensions that log by `Generic` records answer as their tables do, wherever their pages were made again.
//!
//! RUM extends its indexes by pages that it never asks an image of, and counts on the one that Postgres takes unless
//! `full_page_writes` is off, as it is on every endpoint. (pgvector and bloom ask for theirs; `indexes` has bloom.)

use std::process::Command;
use std::time::Duration;

use scion_tests::process::{self, bin_with_extension, wait_for};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// What makes pages of every kind: entries and posting lists, then trees of them, items and pages deleted and used again.
const STEPS: [&str; 6] = [
    "insert into doc select g, words(g), array[g % 50, g % 7], now() from generate_series(1, 4000) g",
    "delete from doc where id % 3 = 0",
    "update doc set body = words(id + 7) where id % 5 = 0",
    "delete from doc where id % 16 <> 0",
    "insert into doc select g, words(g), array[g % 50, g % 7], now() from generate_series(5000, 8000) g",
    "delete from doc where id < 6000",
];

const SCHEMA: &str = "
    create extension rum; create extension pageinspect; create extension amcheck;
    create function words(n int) returns tsvector immutable language sql as
        $$ select to_tsvector('simple', concat_ws(' ', 'all', 'w' || n % 500, 'x' || n % 9, 'y' || n)) $$;
    create table mark(n serial); create table doc(id int, body tsvector, tags int[], at timestamp) with (autovacuum_enabled = off);
    create index doc_body on doc using rum (body rum_tsvector_ops);
    create index doc_at on doc using rum (body rum_tsvector_addon_ops, at) with (attach = 'at', to = 'body');
    create index doc_tags on doc using rum (tags rum_anyarray_ops)";

/// A moment of the parent's log, and what it held.
struct Moment {
    lsn: String,
    answers: String,
    pages: String,
}

#[test]
fn indexes_of_rum_answer_on_branches_at_any_time_and_go_on() {
    let Some(bin) = bin_with_extension("rum") else { return };
    let scion = Scion::start_major(15, &bin);
    let root = scion.root().clone();
    root.psql("neondb", SCHEMA);
    let mut moments = Vec::new();
    for step in STEPS {
        change(&root, step);
        let lsn = root.psql("neondb", "select pg_current_wal_flush_lsn()");
        moments.push(Moment { lsn, answers: answers(&root, false), pages: pages(&root) });
        assert_eq!(answers(&root, true), moments[moments.len() - 1].answers, "on the parent itself");
    }
    for (n, moment) in moments.iter().enumerate() {
        let branch = scion.branch(&format!("at-{n}"), json!({"parent_lsn": moment.lsn}));
        assert_eq!(pages(&branch), moment.pages, "pages of the indexes after step {n}");
        assert_eq!(answers(&branch, false), moment.answers, "after step {n}");
        assert_eq!(answers(&branch, true), moment.answers, "by the indexes, after step {n}");
        STEPS[3..].iter().for_each(|step| change(&branch, step));
        assert_eq!(answers(&branch, true), answers(&branch, false), "changed after step {n}");
        restart(&scion, &branch);
        assert_eq!(answers(&branch, true), answers(&branch, false), "changed after step {n}, read again");
        suspend(&scion, &branch);
    }
    restart(&scion, &root);
    assert_eq!(pages(&root), moments[moments.len() - 1].pages, "pages of the parent after a restart");
    assert_eq!(answers(&root, true), moments[moments.len() - 1].answers);
}

/// The short run of `cargo xtask ecosystem`: extensions of contrib and of Debian, drivers and tools, by one protocol.
#[test]
fn extensions_and_drivers_find_on_branches_what_they_left_on_the_parent() {
    if bin_with_extension("rum").is_none() {
        return;
    }
    let said = process::run(Command::new(env!("CARGO_BIN_EXE_ecosystem")).arg("--cut"));
    println!("{said}");
    assert!(said.contains("\n0 faults"), "{said}");
    for tried in ["rum", "ip4r", "bloom"] {
        assert!(!said.contains(&format!("NOT TRIED {tried}")), "{said}");
    }
}

#[test]
fn owners_create_the_extensions_that_an_administrator_lists_and_no_others() {
    for major in ["15", "18"] {
        let Some(bin) = process::release_bin(major) else { return };
        let listed = ["--owner-extensions", "pg_stat_statements,none_such"].map(str::to_owned);
        let named = ["--pg-bin".to_owned(), format!("{major}={}", bin.display())];
        let project = json!({"name": "test", "pg_version": major.parse::<i32>().unwrap()});
        let scion = Scion::start_with(&[&listed[..], &named[..]].concat(), project);
        let create = |endpoint: &Endpoint, name: &str| {
            endpoint.connect().batch_execute(&format!("create extension {name}"))
        };
        let refused = create(scion.root(), "dblink").unwrap_err();
        assert_eq!(refused.code().map(postgres::error::SqlState::code), Some("42501"), "{refused}");
        create(scion.root(), "pg_stat_statements").unwrap();
        let child = scion.branch("child", json!({}));
        child.execute("drop extension pg_stat_statements");
        restart(&scion, &child);
        create(&child, "pg_stat_statements").unwrap();
        let owner = "select extowner::regrole::text from pg_extension where extname = 'pg_stat_statements'";
        assert_eq!(child.psql("neondb", owner), "neondb_owner");
    }
    let scion = Scion::start();
    let refused = scion.root().connect().batch_execute("create extension pg_stat_statements");
    assert!(refused.is_err(), "the installation is as it was");
}

#[test]
fn a_server_that_may_give_postgres_no_files_of_its_own_refuses_to_list_extensions() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("data");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--"]).arg(process::scion_binary());
    command
        .args(["serve", "--http", "127.0.0.1:0", "--owner-extensions", "dblink", "--data-dir"])
        .arg(&data_dir);
    let refused = process::output(&mut command);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("leave --owner-extensions out"), "{said}");
    assert!(!data_dir.exists());
}

/// Since 15.19 only plugins that the server's settings list are loaded for logical decoding.
#[test]
fn an_output_plugin_decodes_where_the_settings_of_the_endpoint_list_it() {
    let Some(bin) = bin_with_extension("wal2json") else { return };
    let settings = json!({"pg_settings": {"wal_level": "logical"}});
    let project = json!({"name": "test", "pg_version": 15, "default_endpoint_settings": settings});
    let scion = Scion::start_with(&["--pg-bin".to_owned(), format!("15={}", bin.display())], project);
    let root = scion.root();
    let slot = "select slot_name from pg_create_logical_replication_slot('s', 'wal2json')";
    // Which minors have the setting is asked of the server.
    if root.psql("neondb", "select count(*) from pg_settings where name = 'output_plugin_libraries'") == "1" {
        assert!(!psql_succeeds(root, slot), "a plugin that no setting lists was loaded");
        let listed =
            json!({"wal_level": "logical", "output_plugin_libraries": "pgoutput, test_decoding, wal2json"});
        let body = json!({"endpoint": {"settings": {"pg_settings": listed}}});
        scion.api().patch(&scion.path(&format!("/endpoints/{}", root.id)), body).unwrap();
        wait_for("the endpoint to answer", Duration::from_secs(60), || {
            psql_succeeds(root, "select 1").then_some(())
        });
    }
    root.psql("neondb", "create table told(id int primary key)");
    assert_eq!(root.psql("neondb", slot), "s");
    root.psql("neondb", "insert into told values (4711)");
    let changes = root.psql("neondb", "select data from pg_logical_slot_get_changes('s', null, null)");
    assert!(changes.contains("4711"), "{changes}");
}

fn psql_succeeds(endpoint: &Endpoint, sql: &str) -> bool {
    let mut psql = endpoint.superuser("psql");
    process::output(psql.args(["-XAtq", "-d", "neondb", "-v", "ON_ERROR_STOP=1", "-c", sql])).status.success()
}

fn change(endpoint: &Endpoint, step: &str) {
    endpoint.psql("neondb", step);
    endpoint.psql("neondb", "vacuum doc");
    // A vacuum does not wait for its log to be flushed; a commit does.
    endpoint.psql("neondb", "insert into mark default values");
}

/// What queries answer, by the table alone or by its indexes alone.
fn answers(endpoint: &Endpoint, by_index: bool) -> String {
    let (seq, index) = if by_index { ("off", "on") } else { ("on", "off") };
    let queries = "select string_agg(n || ' ' || ids, ';' order by n) from (
        select n, (select concat(count(*), ' ', sum(id)) from doc where body @@ to_tsquery('simple', 'w' || n)) ids
            from generate_series(0, 499, 7) n
        union all select 1000 + n, (select concat(count(*), ' ', sum(id)) from doc
            where body @@ to_tsquery('simple', 'all & !x' || n)) from generate_series(0, 8) n
        union all select 2000 + n, (select concat(count(*), ' ', sum(id)) from doc where tags && array[n])
            from generate_series(0, 49) n) each";
    let path = format!(
        "set enable_seqscan = {seq}; set enable_indexscan = {index}; set enable_bitmapscan = {index}; "
    );
    if by_index {
        let plan = endpoint.psql("neondb", &format!("{path} explain {queries}"));
        assert!(!plan.contains("Seq Scan on doc"), "{plan}");
    }
    endpoint.psql("neondb", &format!("{path} {queries}"))
}

/// A sum of every byte of every page of the indexes but the checksums, which a page in memory does not have.
fn pages(endpoint: &Endpoint) -> String {
    endpoint.psql(
        "neondb",
        "select string_agg(i || ' ' || blocks || ' ' || sum, ', ' order by i) from (
            select i, count(*) blocks,
                   md5(string_agg(md5(overlay(get_raw_page(i, b) placing '\\x0000' from 9 for 2)), '' order by b)) sum
            from unnest(array['doc_body', 'doc_at', 'doc_tags']) i,
                 generate_series(0, pg_relation_size(i::regclass)::int / 8192 - 1) b group by i) each",
    )
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    suspend(scion, endpoint);
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", endpoint.id)), json!({})).unwrap();
}

fn suspend(scion: &Scion, endpoint: &Endpoint) {
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", endpoint.id)), json!({})).unwrap();
}
