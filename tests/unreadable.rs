//! A page that cannot be made again is an I/O error that somebody can follow up, and never a wrong answer.
//!
//! Every type of record is replayed, so the log must be made to contradict itself: rows are written while the catalog
//! says that their table's changes are not logged. The next logged change does not fit the page that the log gives.

use postgres::error::SqlState;
use scion_tests::{Endpoint, Scion};
use serde_json::json;

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

    let error = root.connect().query_one("select count(*) from torn", &[]).unwrap_err();
    assert_is_named(&scion, &root, &error);
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

/// The error of Postgres is an I/O error, and the endpoint says which file, block and record are behind it.
fn assert_is_named(scion: &Scion, root: &Endpoint, error: &postgres::Error) {
    assert_eq!(error.code(), Some(&SqlState::IO_ERROR), "{error:?}");
    let file = root.psql("neondb", "select pg_relation_filenode('torn')");
    let info = scion.endpoint_info(root);
    let said = info["last_read_error"].as_str().unwrap_or_else(|| panic!("{info}")).to_owned();
    println!("{said}");
    assert!(said.contains(&format!("/{file}")), "file {file} is not in {said:?}");
    assert!(said.contains("block 0"), "no block in {said:?}");
    assert!(said.contains("Heap"), "no record type in {said:?}");
    for verb in [&["endpoint", "list"][..], &["status"]] {
        let output = scion.cli(verb);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&said), "{verb:?} does not tell: {text}");
    }
}

fn restart(scion: &Scion, root: &Endpoint) {
    for verb in ["suspend", "start"] {
        let path = format!("/endpoints/{}/{verb}", root.id);
        scion.api().post(&scion.path(&path), json!({})).unwrap();
    }
}
