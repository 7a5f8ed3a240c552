//! A branch with the schema of another one: all of that, and nothing of its data.

use scion_tests::{ApiError, Endpoint, Scion};
use serde_json::{Value, json};

/// What stands for data that nobody else may see.
const SECRET: &str = "secret-4711";
const SCHEMA: &str = "
    create type mood as enum ('glad', 'sad');
    create table person(id int generated always as identity primary key, name text not null unique, mood mood);
    create table visit(person int references person, at date not null) partition by range (at);
    create table visit_2026 partition of visit for values from ('2026-01-01') to ('2027-01-01');
    create index on person using gin (to_tsvector('simple', name));
    create view glad as select name from person where mood = 'glad';
    create materialized view names as select name from person;
    create function who(int) returns text language sql as 'select name from person where id = $1';
    create sequence tickets start 1000;
    alter table person enable row level security;
    create policy all_of_them on person using (true);
    comment on table person is 'who';
    alter default privileges grant select on tables to public";
const DATA: &str = "
    insert into person(name, mood) select 'secret-4711 ' || i, 'glad' from generate_series(1, 2000) i;
    insert into visit select 1, '2026-05-05' from generate_series(1, 100);
    refresh materialized view names;
    select nextval('tickets') from generate_series(1, 50);
    select lo_from_bytea(0, 'secret-4711');
    analyze";

fn filled() -> Scion {
    let scion = Scion::start();
    scion.root().execute(SCHEMA);
    scion.root().execute(DATA);
    for sql in
        ["create extension pg_trgm", "create role reader", "create role \"O'Brien \"\"x\" login password 'p'"]
    {
        scion.root().psql("neondb", sql);
    }
    scion.root().psql("neondb", "grant reader to neondb_owner; grant select on person to reader");
    scion.root().psql("postgres", "create database \"Second db\" owner neondb_owner");
    scion
        .root()
        .psql("Second db", "create table only_here(t text); insert into only_here values ('secret-4711')");
    scion
}

fn create(scion: &Scion, name: &str, mut branch: Value) -> Result<Endpoint, ApiError> {
    branch["init_source"] = json!("schema-only");
    scion.try_branch(name, branch, true).map(|made| with_uri(scion, &made))
}

/// With several databases an answer has no connection string.
fn with_uri(scion: &Scion, made: &Value) -> Endpoint {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (id, branch) = (text(&made["endpoints"][0]["id"]), text(&made["branch"]["id"]));
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { uri: scion.uri_of(&branch), id, branch, dir }
}

/// The schema of every database and what belongs to none, as `pg_dumpall` writes it.
fn schema(endpoint: &Endpoint) -> String {
    let dump = endpoint.superuser("pg_dumpall").arg("--schema-only").output().unwrap();
    assert!(dump.status.success());
    let text = String::from_utf8(dump.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn it_has_all_of_the_schema_and_none_of_the_data() {
    let scion = filled();
    let child = create(&scion, "shape", json!({})).unwrap();
    assert_eq!(schema(&child), schema(scion.root()));
    let info = scion.branch_info(&child.branch);
    assert_eq!(info["init_source"], "schema-only");
    assert!(
        info["parent_id"].is_null() && info["parent_lsn"].is_null() && info["parent_timestamp"].is_null(),
        "{info}"
    );
    // Its owner comes in with the password that it has on the source.
    assert_eq!(child.number("select count(*) from person"), 0);
    assert_eq!(child.number("select nextval('tickets')"), 1000);
    assert_eq!(child.number("select count(*) from pg_stats where schemaname = 'public'"), 0);
    assert_eq!(child.psql("neondb", "select count(*) from pg_largeobject_metadata"), "0");
    assert!(!child.dumpall().contains(SECRET));
    assert!(scion.root().dumpall().contains(SECRET), "the source holds what is looked for");
    let roles = scion.api().get(&scion.path(&format!("/branches/{}/roles", child.branch))).unwrap();
    let named = |name: &str| roles["roles"].as_array().unwrap().iter().any(|role| role["name"] == name);
    assert!(named("neondb_owner") && named("reader") && named("O'Brien \"x"), "{roles}");
    child.execute("insert into person(name) values ('mine')");
    assert_eq!(scion.root().number("select count(*) from person where name = 'mine'"), 0);
    assert_eq!(child.number("select max(id)::bigint from person"), 1);
    child.amcheck();
}

#[test]
fn nothing_of_the_data_is_in_its_past_either() {
    let scion = filled();
    let source = scion.root_branch();
    let child = create(&scion, "shape", json!({})).unwrap();
    child.execute("insert into person(name) values ('mine')");
    let before =
        json!({"parent_id": child.branch, "parent_timestamp": scion.branch_info(source)["created_at"]});
    assert_eq!(scion.try_branch("before", before, true).unwrap_err().status, 422, "it was not there yet");
    let oldest = json!({"parent_id": child.branch, "parent_lsn": "0/1"});
    assert_eq!(scion.try_branch("oldest", oldest, true).unwrap_err().status, 422);
    let made = scion.try_branch("grandchild", json!({"parent_id": child.branch}), true).unwrap();
    let grandchild = with_uri(&scion, &made);
    assert_eq!(grandchild.number("select count(*) from person"), 1);
    assert!(!grandchild.dumpall().contains(SECRET));
    let files = child.dir.join("pg_wal");
    for entry in std::fs::read_dir(files).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|it| it == SECRET.as_bytes()), "its log");
    }
}

#[test]
fn it_has_the_schema_of_the_moment_asked_for_and_stays_what_it_is() {
    let mut scion = filled();
    let lsn: String =
        scion.root().connect().query_one("select pg_current_wal_flush_lsn()::text", &[]).unwrap().get(0);
    scion.root().execute("alter table person add column later int; drop view glad");
    let child = create(&scion, "shape", json!({"parent_lsn": lsn})).unwrap();
    assert_eq!(child.number("select count(*) from pg_attribute where attname = 'later'"), 0);
    assert_eq!(child.number("select count(*) from glad"), 0);
    child.execute("insert into person(name) values ('mine')");
    scion.kill_serve();
    scion.relaunch();
    drop(child.reconnect());
    for verb in ["suspend", "start"] {
        scion.api().post(&scion.path(&format!("/endpoints/{}/{verb}", child.id)), json!({})).unwrap();
    }
    drop(child.reconnect());
    assert_eq!(child.number("select count(*) from person"), 1);
    child.amcheck();
    let again = json!({"branch": {"name": "shape", "init_source": "schema-only"}, "endpoints": []});
    let reset = scion.path("/branches?on_conflict=reset");
    assert_eq!(scion.api().post(&reset, again).unwrap_err().status, 422, "it would get data");
    let restore = scion.path(&format!("/branches/{}/restore", child.branch));
    scion.api().post(&restore, json!({"source_branch_id": scion.root_branch()})).unwrap();
    assert_eq!(child.number("select count(*) from person"), 2000, "it was asked for");
    assert_eq!(scion.branch_info(&child.branch)["init_source"], "parent-data");
    scion.api().delete(&scion.path(&format!("/branches/{}", child.branch))).unwrap();
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let scion = filled();
    let before = scion.stored();
    // Settings that cannot be made again.
    scion.root().psql("postgres", "alter role reader set work_mem = '4MB'");
    scion.root().psql(
        "postgres",
        "set allow_system_table_mods = on; update pg_db_role_setting set setconfig = '{work_mem=rubbish}'",
    );
    let error = create(&scion, "shape", json!({})).err().unwrap();
    assert!(error.status == 503 && error.message.contains("rubbish"), "{error:?}");
    assert_eq!(scion.stored(), before);
    let unknown = json!({"name": "x", "init_source": "rubbish"});
    let refused = scion.api().post(&scion.path("/branches"), json!({"branch": unknown})).unwrap_err();
    assert_eq!(refused.status, 422);
}
