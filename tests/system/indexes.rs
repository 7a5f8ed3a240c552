//! Indexes of every access method answer as their tables do, wherever their pages were made again from the log.
//!
//! Pages are not asked for as images: endpoints log none. What a branch or a restarted endpoint reads is a page with
//! every record applied that ever touched it, and what it then inserts relies on all that is in the page.

use std::fmt::Write;

use postgres::Client;
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// A table, its only index, and what is asked of it once for each `x`.
struct Index {
    table: &'static str,
    definition: &'static str,
    condition: &'static str,
    /// `x` is below this.
    probes: u32,
}

const fn index(table: &'static str, definition: &'static str, condition: &'static str, probes: u32) -> Index {
    Index { table, definition, condition, probes }
}

const NEAR: &str = "p <@ box(point(x, 0), point(x + 2, 40))";
const INDEXES: [Index; 11] = [
    index("btree", "btree (k)", "k between x * 5 and x * 5 + 4", 210),
    index("long", "btree (t, k) with (fillfactor = 50)", "t = 'common' || x", 300),
    index("hash", "hash (k) with (fillfactor = 20)", "k = x", 1020),
    index("gin", "gin (a) with (gin_pending_list_limit = 64)", "a @> array[x]", 100),
    index("direct", "gin (a) with (fastupdate = off)", "a && array[x, x + 500]", 100),
    index("gist", "gist (p)", NEAR, 100),
    index("boxes", "gist (b) with (fillfactor = 30)", "b && box(point(x, x), point(x + 1, x + 9))", 100),
    index("quad", "spgist (p)", NEAR, 100),
    index("radix", "spgist (t)", "t ^@ ('common' || x)", 100),
    index("brin", "brin (k) with (pages_per_range = 1)", "k between x * 5 and x * 5 + 4", 210),
    index("bloom", "bloom (k, c) with (length = 32)", "k = x", 210),
];

/// A position in the parent's log, and what every table held there.
struct Moment {
    lsn: String,
    answers: Vec<String>,
}

#[test]
fn every_index_answers_on_branches_at_any_time_and_goes_on() {
    let scion = Scion::start();
    let root = scion.root().clone();
    root.psql("neondb", "create extension bloom; create extension pgstattuple; create extension pageinspect");
    for Index { table, definition, .. } in &INDEXES {
        root.execute(&format!(
            "create table {table}(id int, k int, c int, a int[], p point, t text, b box)
                with (autovacuum_enabled = off);
             create index {table}_i on {table} using {definition}"
        ));
    }
    let mut moments = Vec::new();
    for round in 0..2 {
        for step in STEPS {
            change(&root, round, step);
            moments.push(moment(&root));
        }
    }

    for (n, moment) in moments.iter().enumerate() {
        let branch = scion.branch(&format!("at-{n}"), json!({"parent_lsn": moment.lsn}));
        assert_answers(&branch, &moment.answers, &format!("step {n}"));
        if STEPS[n % STEPS.len()] == Step::Insert {
            assert_unfinished(&branch);
        }
        for step in STEPS {
            change(&branch, 2, step);
        }
        assert_agree(&branch, &format!("changed after step {n}"));
        restart(&scion, &branch);
        assert_agree(&branch, &format!("changed after step {n}, and read again"));
        branch.amcheck();
        suspend(&scion, &branch);
    }

    restart(&scion, &root);
    assert_answers(&root, &moments.last().unwrap().answers, "after a restart");
    change(&root, 2, Step::Insert);
    let child = scion.branch("child", json!({}));
    let grandchild = scion.branch("grandchild", json!({"parent_id": child.branch}));
    assert_agree(&grandchild, "on a branch of a branch");
    grandchild.amcheck();
    root.amcheck();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Insert,
    Delete,
    Vacuum,
    Update,
}

/// In this order what was deleted is given back, and then used again.
const STEPS: [Step; 4] = [Step::Insert, Step::Delete, Step::Vacuum, Step::Update];

fn change(endpoint: &Endpoint, round: u32, step: Step) {
    let mut client = endpoint.connect();
    for Index { table, .. } in &INDEXES {
        let first = round * 4000;
        let sql = match step {
            Step::Insert => format!(
                "insert into {table} select g, x, g % 7, array[x % 100, g % 577, g], point(x % 97, y % 89),
                    'common' || x || repeat('-', x % 40), box(point(x % 97, y % 89), point(x % 97 + 3, y % 89 + 2))
                 from (select g, g * 7919 % 1009 as x, g * 7727 % 997 as y
                    from generate_series({first}, {first} + 2999) g) s"
            ),
            Step::Delete => {
                format!("delete from {table} where p[0] < 50 + 5 * {round} or id % 5 = {round}")
            }
            Step::Vacuum => format!("vacuum {table}"),
            Step::Update => {
                format!("update {table} set k = k + 1, p = p + point(1, 1), a = a || 500 where id % 3 = {round}")
            }
        };
        client.batch_execute(&sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// The position after everything so far, with what is there.
fn moment(root: &Endpoint) -> Moment {
    let mut client = root.connect();
    let answers = INDEXES.iter().map(|index| by_table(&mut client, index)).collect();
    // Whatever commits at the position is flushed first.
    root.execute("create table if not exists marks(id int); insert into marks values (1)");
    Moment { lsn: root.psql("postgres", "select pg_current_wal_flush_lsn()"), answers }
}

/// What an endpoint tells of indexes whose work is put off is what was left to do: rows pending in a GIN index, and
/// blocks that a BRIN index says nothing of. Both are caught up with, once.
fn assert_unfinished(branch: &Endpoint) {
    let ask = |sql: &str| branch.psql("neondb", sql).parse::<i64>().unwrap();
    assert!(ask("select pending_tuples from pgstatginindex('gin_i')") > 0);
    assert!(ask("select gin_clean_pending_list('gin_i')") > 0);
    assert_eq!(ask("select pending_tuples from pgstatginindex('gin_i')"), 0);
    assert!(ask("select brin_summarize_new_values('brin_i')") > 0);
    assert_eq!(ask("select brin_summarize_new_values('brin_i')"), 0);
    branch.psql("neondb", "select brin_desummarize_range('brin_i', 3)");
    assert_agree(branch, "caught up");
    assert_eq!(ask("select brin_summarize_range('brin_i', 3)"), 1);
    assert_agree(branch, "summarized again");
}

fn assert_answers(endpoint: &Endpoint, expected: &[String], when: &str) {
    let mut client = endpoint.connect();
    for (index, expected) in INDEXES.iter().zip(expected) {
        assert_eq!(by_table(&mut client, index), *expected, "table {} {when}", index.table);
        assert_eq!(by_index(&mut client, index), *expected, "index of {} {when}", index.table);
    }
}

fn assert_agree(endpoint: &Endpoint, when: &str) {
    let mut client = endpoint.connect();
    for index in &INDEXES {
        assert_eq!(
            by_index(&mut client, index),
            by_table(&mut client, index),
            "index of {} {when}",
            index.table
        );
    }
}

/// Through the index, and no other way.
fn by_index(client: &mut Client, index: &Index) -> String {
    client.batch_execute("set enable_seqscan = off").unwrap();
    let query = probe(index, index.table);
    let plan = client.query(&format!("explain {query}"), &[]).unwrap();
    let plan = plan.iter().fold(String::new(), |mut text, row| {
        writeln!(text, "{}", row.get::<_, String>(0)).unwrap();
        text
    });
    assert!(plan.contains(&format!("{}_i", index.table)), "{plan}");
    client.query_one(&query, &[]).unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

/// The same by reading the whole table; the condition is hidden from the planner, which would look at the index.
fn by_table(client: &mut Client, index: &Index) -> String {
    let hidden = format!("(select * from {} offset 0)", index.table);
    client.query_one(&probe(index, &hidden), &[]).unwrap().get(0)
}

/// For each `x` the rows found, in one line.
fn probe(index: &Index, from: &str) -> String {
    format!(
        "select string_agg(found, ' ' order by x) from generate_series(0, {} - 1) x,
            lateral (select count(*) || '/' || coalesce(sum(id), 0) as found from {from} t where {}) s",
        index.probes, index.condition
    )
}

fn suspend(scion: &Scion, endpoint: &Endpoint) {
    let path = format!("/endpoints/{}/suspend", endpoint.id);
    scion.api().post(&scion.path(&path), json!({})).unwrap();
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    suspend(scion, endpoint);
    let path = format!("/endpoints/{}/start", endpoint.id);
    scion.api().post(&scion.path(&path), json!({})).unwrap();
}
