//! A page that cannot be made again is an I/O error that somebody can follow up, and never a wrong answer.
//!
//! Every record type of Postgres is replayed. What cannot be is a log that contradicts itself, which takes a lie in the
//! catalog, and what the resource manager of an extension writes, which takes an extension (`extension/custom_rmgr.c`).

use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::error::SqlState;
use scion_tests::{Endpoint, Scion, process};
use serde_json::{Value, json};

#[test]
fn a_page_that_its_log_contradicts_fails_the_query_by_name_and_costs_nothing_else() {
    let scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table torn(id int); insert into torn select generate_series(1, 10)");
    root.execute("create table sound(id int); insert into sound select generate_series(1, 10)");
    set_logged(&root, false);
    root.execute("insert into torn select generate_series(11, 20)");
    set_logged(&root, true);
    root.execute("insert into torn values (21)");
    assert_eq!(root.number("select count(*) from torn"), 21);
    restart(&scion, &root);

    assert_unreadable(&scion, &root, "torn", "Heap");
    assert_eq!(root.number("select count(*) from sound"), 10);
    root.execute("truncate torn; insert into torn values (1)");
    restart(&scion, &root);
    assert_eq!(root.number("select count(*) from torn"), 1);
}

/// Lets the catalog say whether changes of `torn` are logged, as no statement does without writing the table anew.
fn set_logged(root: &Endpoint, logged: bool) {
    let persistence = if logged { 'p' } else { 'u' };
    root.psql(
        "neondb",
        &format!("update pg_class set relpersistence = '{persistence}' where relname = 'torn'"),
    );
}

#[test]
fn what_an_extension_logs_for_itself_is_unreadable_from_there_on_and_nothing_else_is() {
    const WHOSE: &str = "resource manager 128 of an extension";
    let Some((dir, library)) = custom_rmgr() else { return };
    let settings = json!({"pg_settings": {"shared_preload_libraries": library.to_str().unwrap()}});
    let reach = ["--postgres-path".to_owned(), dir.path().display().to_string()];
    let mut scion = Scion::start_with(&reach, json!({"name": "test", "default_endpoint_settings": settings}));
    let root = scion.root().clone();
    create_functions(&root, &library);
    root.psql(
        "neondb",
        "create table theirs(id int); insert into theirs values (1); create table ours(id int)",
    );
    let before = root.psql("neondb", "select pg_current_wal_flush_lsn()");
    assert_eq!(warnings(&scion, &root), [""; 0]);

    let first = root.psql("neondb", "select note()");
    let since = root.psql("neondb", "select change('theirs', 0, 2, false)");
    root.psql("neondb", "insert into theirs values (3); insert into ours select generate_series(1, 100)");
    assert_eq!(root.psql("neondb", "select string_agg(id::text, ' ') from theirs"), "2 3");
    let child = scion.branch("child", json!({}));
    assert_unreadable(&scion, &child, "theirs", WHOSE);
    let told = warnings(&scion, &child).join("\n");
    let names = told.split_once("; ").unwrap().1.split_once(" names it").unwrap().0;
    assert_eq!(child.psql("neondb", &format!("select {names}")), "theirs");
    assert_eq!(child.number("select count(*) from ours"), 100);
    let past = scion.branch("past", json!({"parent_lsn": before}));
    assert_eq!(past.psql("neondb", "select id from theirs"), "1");
    assert_eq!(warnings(&scion, &past), [""; 0]);

    let relation = path_of(&root, "theirs");
    assert_told(&scion, &child, &[&[WHOSE, &first], &[WHOSE, &since, &relation]]);
    scion.kill_serve();
    scion.relaunch();
    assert_told(&scion, &child, &[&[WHOSE, &first], &[WHOSE, &since, &relation]]);

    // What its own record leaves of an image is its own affair; an image that Postgres logs is the page.
    root.psql("neondb", "select change('theirs', 0, 4, true)");
    let child = scion.branch("its-image", json!({}));
    assert_unreadable(&scion, &child, "theirs", WHOSE);
    root.psql("neondb", "select image('theirs', 0)");
    root.psql("neondb", "insert into theirs values (5)");
    let child = scion.branch("an-image", json!({}));
    assert_eq!(child.psql("neondb", "select string_agg(id::text, ' ') from theirs"), "4 3 5");

    root.psql("neondb", "drop table theirs");
    let child = scion.branch("dropped", json!({}));
    assert_told(&scion, &child, &[&[WHOSE, &first]]);
    for n in 0..20 {
        root.psql("neondb", &format!("create table t{n}(id int); insert into t{n} values (1)"));
        root.psql("neondb", &format!("select change('t{n}', 0, 2, false)"));
    }
    let child = scion.branch("many", json!({}));
    let told = warnings(&scion, &child);
    assert!(told.len() < 12, "{told:#?}");
    assert!(told.last().unwrap().contains("12 more"), "{told:#?}");
}

/// The library, in a directory that the user Postgres runs as can read; `None`, and said so, if it cannot be built here.
fn custom_rmgr() -> Option<(tempfile::TempDir, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("extension/custom_rmgr.c");
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/postgres-source/15/include");
    let installed = Path::new("/usr/include/postgresql/15/server").to_owned();
    let Some(headers) = [fetched, installed].into_iter().find(|dir| dir.join("postgres.h").is_file()) else {
        process::skipped("headers", "no headers of PostgreSQL 15; `scripts/postgres-source` gets them");
        return None;
    };
    let dir = tempfile::Builder::new().prefix("scion-rmgr-").tempdir().unwrap();
    let library = dir.path().join("custom_rmgr.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-w", "-I"]).arg(headers).arg(source).arg("-o").arg(&library);
    match compiler.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            process::skipped("headers", &format!("no C compiler: {error}"));
            return None;
        }
    }
    process::give_to_postgres(dir.path());
    Some((dir, library))
}

fn create_functions(root: &Endpoint, library: &Path) {
    for function in ["change(regclass, int, int, bool)", "note()", "image(regclass, int)"] {
        let create = format!("create function {function} returns pg_lsn language c");
        root.psql("neondb", &format!("{create} as '{}'", library.display()));
    }
}

/// Tablespace, database and file number of a table, as errors name it.
fn path_of(endpoint: &Endpoint, table: &str) -> String {
    endpoint.psql(
        "neondb",
        &format!(
            "select '1663/' || oid || '/' || pg_relation_filenode('{table}')
             from pg_database where datname = current_database()"
        ),
    )
}

fn warnings(scion: &Scion, endpoint: &Endpoint) -> Vec<String> {
    let said = scion.branch_info(&endpoint.branch)["warnings"].clone();
    let said = said.as_array().cloned().unwrap_or_default();
    said.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// One warning for each of `expected`, with these words, beside those of reads that failed; the command line says the same.
fn assert_told(scion: &Scion, endpoint: &Endpoint, expected: &[&[&str]]) {
    let mut told = warnings(scion, endpoint);
    told.retain(|text| !text.starts_with("endpoint "));
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (text, words) in told.iter().zip(expected) {
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    }
    let output = scion.cli(&["branch", "get", &endpoint.branch]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.iter().all(|text| shown.contains(text)), "{shown}");
}

/// The query fails with an I/O error, and the endpoint says which file, block and record are behind it.
fn assert_unreadable(scion: &Scion, endpoint: &Endpoint, table: &str, whose: &str) {
    let query = format!("select count(*) from {table}");
    let error = endpoint.connect().query_one(&query, &[]).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IO_ERROR), "{error:?}");
    let file = endpoint.psql("neondb", &format!("select pg_relation_filenode('{table}')"));
    let info = scion.endpoint_info(endpoint);
    let said = info["last_read_error"].as_str().unwrap_or_else(|| panic!("{info}")).to_owned();
    println!("{said}");
    assert!(said.contains(&format!("/{file}")), "file {file} is not in {said:?}");
    assert!(said.contains("block 0"), "no block in {said:?}");
    assert!(said.contains(whose), "{whose} is not in {said:?}");
    let output = scion.cli(&["psql", &endpoint.branch, "--", "-c", &query]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("Input/output error"), "{told}");
    assert!(told.contains(&said), "psql does not tell: {told}");
    assert!(told.contains("`scion branch get"), "psql does not tell where to look: {told}");
    for verb in [&["endpoint", "list"][..], &["status"], &["branch", "get", &endpoint.branch]] {
        let output = scion.cli(verb);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&said), "{verb:?} does not tell: {text}");
    }
}

fn restart(scion: &Scion, root: &Endpoint) {
    for verb in ["suspend", "start"] {
        let path = format!("/endpoints/{}/{verb}", root.id);
        let _: Value = scion.api().post(&scion.path(&path), json!({})).unwrap();
    }
}
