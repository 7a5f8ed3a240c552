//! A page that cannot be made again is an I/O error that somebody can follow up, and never a wrong answer.
//!
//! Indexes of every access method are judged by the same rule, whether replay of their records is written or not: the
//! index answers as the table does, or the query fails and the endpoint names file, block and record.

use postgres::Client;
use postgres::error::SqlState;
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// Access method, what to index, and a condition that finds rows through it.
const INDEXES: [(&str, &str, &str); 5] = [
    ("hash", "(k)", "k = 77"),
    ("gin", "(a)", "a @> array[77]"),
    ("gist", "(p)", "p <@ box '((0,0),(7,7))'"),
    ("spgist", "(p)", "p <@ box '((0,0),(7,7))'"),
    ("brin", "(k)", "k between 70 and 77"),
];
const ROWS: &str = "insert into t_{am} select g % 1000, array[g % 1000, g], point(g % 100, g % 90), g
    from generate_series(1, 5000) g";

#[test]
fn an_index_that_cannot_be_read_fails_the_query_by_name_and_costs_nothing_else() {
    let scion = Scion::start();
    let root = scion.root().clone();
    for (method, what, _) in INDEXES {
        let table = format!("t_{method}");
        root.execute(&format!("create table {table}(k int, a int[], p point, id int)"));
        root.execute(&format!("create index i_{method} on {table} using {method} {what}"));
        root.execute(&ROWS.replace("{am}", method));
    }
    restart(&scion, &root);

    for (method, _, condition) in INDEXES {
        let table = format!("t_{method}");
        let expected = by_table(&mut root.connect(), &table, condition);
        assert!(expected > 0, "{method}: the condition finds nothing");
        match by_index(&mut root.connect(), &table, condition) {
            Ok(found) => assert_eq!(found, expected, "{method}: a wrong answer"),
            Err(error) => assert_is_named(&scion, &root, method, &error),
        }
        root.execute(&format!("reindex index i_{method}"));
        let mut client = root.connect();
        assert_eq!(by_index(&mut client, &table, condition).unwrap(), expected, "{method}: after reindex");
    }
}

/// Through the index, and no other way.
fn by_index(client: &mut Client, table: &str, condition: &str) -> Result<i64, postgres::Error> {
    client.batch_execute("set enable_seqscan = off")?;
    let query = format!("select coalesce(sum(id), 0)::bigint from {table} where {condition}");
    Ok(client.query_one(&query, &[])?.get(0))
}

/// The same by reading the whole table; the condition is hidden from the planner, which would look at the index.
fn by_table(client: &mut Client, table: &str, condition: &str) -> i64 {
    let query = format!(
        "select coalesce(sum(id), 0)::bigint from (select * from {table} offset 0) t where {condition}"
    );
    client.query_one(&query, &[]).unwrap().get(0)
}

/// The error of Postgres is an I/O error, and the endpoint says which file, block and record are behind it.
fn assert_is_named(scion: &Scion, root: &Endpoint, method: &str, error: &postgres::Error) {
    assert_eq!(error.code(), Some(&SqlState::IO_ERROR), "{method}: {error:?}");
    let file = root.psql("neondb", &format!("select pg_relation_filenode('i_{method}')"));
    let info = scion.endpoint_info(root);
    let said = info["last_read_error"].as_str().unwrap_or_else(|| panic!("{method}: {info}")).to_owned();
    println!("{method}: {said}");
    let lower = said.to_lowercase();
    assert!(said.contains(&format!("/{file}")), "{method}: file {file} is not in {said:?}");
    assert!(lower.contains("block"), "{method}: no block in {said:?}");
    assert!(lower.contains(method), "{method}: no record type in {said:?}");
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
