//! Whatever users set, make or break in their data, scion's own sessions do what they are there for, and nothing of a user's
//! runs in them.

use std::path::Path;

use scion_tests::process::release_bin;
use scion_tests::{Endpoint, Scion, process};
use serde_json::{Value, json};

/// Everything that a superuser or an owner can set where it decides about sessions that do not say otherwise.
const SETTINGS: &[&str] = &[
    "default_transaction_read_only = on",
    "default_transaction_isolation = serializable",
    "role = 'app'",
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '1ms'",
    "session_preload_libraries = 'gone'",
    "local_preload_libraries = 'gone'",
    "search_path = 'evil, pg_catalog'",
    "synchronous_commit = 'remote_apply'",
    "client_encoding = 'latin1'",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "DateStyle = 'SQL, DMY'",
    "default_table_access_method = 'gone'",
    "default_tablespace = 'gone'",
    "dynamic_library_path = '/nowhere'",
    "lc_messages = 'POSIX'",
    "exit_on_error = on",
    "log_statement = 'all'",
    "log_min_duration_statement = 0",
    "debug_print_parse = on",
    "client_min_messages = 'debug5'",
];
/// Functions and tables that a careless name would find, each of which tells on whom it served.
const EVIL: &str = "
    create schema evil; create table evil.served(who text); grant all on schema evil to public;
    create function evil.pg_current_wal_flush_lsn() returns pg_lsn language sql as
        'insert into evil.served values (session_user) returning ''0/1''::pg_lsn';
    create table evil.pg_database(datname name); create table evil.pg_authid(rolname name);
    create function evil.no() returns event_trigger language plpgsql as
        'begin raise exception ''forbidden by a user''; end';
    create event trigger no_ddl on ddl_command_start execute function evil.no();
    alter event trigger no_ddl enable always;
    create event trigger no_drop on sql_drop execute function evil.no()";
const LOGIN: &str = "create event trigger no_login on login execute function evil.no(); \
                     alter event trigger no_login enable always";

/// SQL as superuser that none of it hinders.
fn immune(endpoint: &Endpoint, database: &str, sql: &str) -> String {
    let mut options = "-c role=none -c session_preload_libraries= -c local_preload_libraries= -c lock_timeout=0 \
                       -c default_transaction_read_only=off -c statement_timeout=0 -c synchronous_commit=local \
                       -c session_replication_role=replica -c idle_session_timeout=0 -c search_path=public \
                       -c idle_in_transaction_session_timeout=0 -c client_min_messages=warning -c exit_on_error=off \
                       -c client_encoding=UTF8 -c dynamic_library_path=$libdir"
        .to_owned();
    if std::fs::read_to_string(endpoint.dir.join("mnt/PG_VERSION")).unwrap().trim() >= "17" {
        options.push_str(" -c event_triggers=off");
    }
    let mut command = endpoint.superuser("psql");
    command.env("PGOPTIONS", options).args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
    process::run(&mut command).trim().to_owned()
}

/// Makes the data of an endpoint as hostile as it can be.
fn spoil(endpoint: &Endpoint, major: i32) {
    endpoint
        .psql("neondb", "create role app; create role limited login; create table public.of_limited(i int)");
    endpoint.psql("neondb", "alter table public.of_limited owner to limited");
    let subscription = "create subscription s connection 'host=203.0.113.1 dbname=x' publication p
        with (connect = false, slot_name = 'x'); alter subscription s enable";
    endpoint.psql("neondb", subscription);
    endpoint.psql("neondb", EVIL);
    if major >= 17 {
        immune(endpoint, "neondb", LOGIN);
    }
    for database in ["half", "shut", "mould"] {
        endpoint.psql("postgres", &format!("create database {database}"));
    }
    let broken = "update pg_database set datconnlimit = -2 where datname = 'half';
        alter database shut allow_connections false; alter database mould is_template true;
        revoke connect on database neondb from public, neondb_owner; alter role postgres connection limit 0;
        alter role postgres valid until '2001-01-01'";
    endpoint.psql("postgres", broken);
    let mut all = String::new();
    for setting in SETTINGS {
        for database in ["neondb", "postgres", "template1"] {
            all.push_str(&format!("alter database {database} set {setting}; "));
            all.push_str(&format!("alter role postgres in database {database} set {setting}; "));
        }
        all.push_str(&format!("alter role postgres set {setting}; "));
    }
    endpoint.psql("postgres", &all);
    immune(endpoint, "postgres", "alter system set synchronous_standby_names = 'nobody'");
    immune(endpoint, "postgres", "select pg_reload_conf()");
}

fn names(listed: &Value, kind: &str) -> Vec<String> {
    listed[kind].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// Each kind of session that scion has, on what was spoilt.
fn story(scion: &Scion, major: i32, with_dumps: bool) {
    let api = scion.api();
    let root = scion.root();
    spoil(root, major);
    a_person_gets_in(scion, major);
    let of = |rest: &str| scion.path(&format!("/branches/{}{rest}", scion.root_branch()));

    api.post(&of("/roles"), json!({"role": {"name": "alice"}})).unwrap();
    api.post(&of("/roles/alice/reset_password"), json!({})).unwrap();
    let database = json!({"database": {"name": "app", "owner_name": "alice"}});
    api.post(&of("/databases"), database).unwrap();
    api.patch(&of("/databases/app"), json!({"database": {"name": "app2"}})).unwrap();
    let listed = names(&api.get(&of("/databases")).unwrap(), "databases");
    assert_eq!(listed, ["neondb", "half", "shut", "mould", "app2"], "whatever state they are in");
    for gone in ["app2", "half", "shut", "mould"] {
        api.delete(&of(&format!("/databases/{gone}"))).unwrap();
    }
    assert_eq!(names(&api.get(&of("/databases")).unwrap(), "databases"), ["neondb"]);
    api.delete(&of("/roles/limited")).unwrap();
    let owner = "select tableowner from pg_tables where tablename = 'of_limited'";
    assert_eq!(immune(root, "neondb", owner), "neondb_owner", "what it owned has an heir");
    let fires = "select string_agg(evtname || evtenabled::text, ' ' order by evtname) from pg_event_trigger";
    let fired = if major >= 17 { "no_ddlA no_dropO no_loginA" } else { "no_ddlA no_dropO" };
    assert_eq!(immune(root, "neondb", fires), fired, "they are as they were");
    let log = std::fs::read_to_string(root.dir.join("postgres.log")).unwrap();
    assert!(!log.contains("SCRAM-SHA-256$"), "a verifier is in a log");
    if with_dumps {
        assert!(api.get(&of("/schema?db_name=neondb")).unwrap()["sql"].as_str().unwrap().contains("evil"));
        api.get(&of("/schema?db_name=neondb&format=json")).unwrap();
        api.post(&scion.path("/branches"), schema_only()).unwrap();
    }

    // Passwords are due on what begins on a protected branch, and its subscription is to be put to rest.
    api.patch(&of(""), json!({"branch": {"protected": true}})).unwrap();
    let made = scion.try_branch("child", json!({}), true).unwrap();
    let child = endpoint_in(scion, &made);
    assert_eq!(immune(&child, "neondb", "select subenabled from pg_subscription"), "f");
    api.patch(&of(""), json!({"branch": {"protected": false}})).unwrap();
    let restored = json!({"source_branch_id": scion.root_branch(), "preserve_under_name": "old",
        "source_lsn": immune(root, "postgres", "select pg_current_wal_flush_lsn()")});
    api.post(&of("/restore"), restored).unwrap();
    assert_eq!(immune(root, "neondb", "select subenabled from pg_subscription"), "f");
    assert_eq!(immune(root, "neondb", "select count(*) from evil.served"), "0");
    let failed = api.get(&scion.path("/operations?limit=1000")).unwrap();
    let failed: Vec<_> =
        failed["operations"].as_array().unwrap().iter().filter(|it| it["status"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// What a person finds who gets in as superuser: a session that stays, with the settings of the role and the database.
fn a_person_gets_in(scion: &Scion, major: i32) {
    let superuser = |sql: &[&str]| {
        let commands = sql.iter().flat_map(|it| ["-c", it]);
        let all: Vec<&str> =
            ["psql", "main", "--superuser", "--", "-XqAt"].into_iter().chain(commands).collect();
        let output = scion.cli(&all);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned(), output)
    };
    // Nothing ends the session: neither a statement that fails nor a pause.
    let stays = ["select 1/0", "select pg_sleep(0.1)", "select current_user, session_user"];
    let (_, said, output) = superuser(&stays);
    assert_eq!(said.lines().last(), Some("postgres|postgres"), "{output:?}");
    let (_, said, output) = superuser(&["show search_path", "show default_transaction_read_only"]);
    assert_eq!(said, "\"evil, pg_catalog\"\non", "as for anybody else: {output:?}");
    let mends = [
        "set default_transaction_read_only = off",
        "alter role postgres set work_mem = '5MB'",
        "select count(*) from pg_db_role_setting",
    ];
    let (done, said, output) = superuser(&mends);
    assert!(done && said.parse::<i32>().unwrap() > 0, "{output:?}");
    if major >= 17 {
        let mut plain = scion.root().superuser("psql");
        plain.args(["-XqAt", "-d", "neondb", "-c", "select 1"]);
        let refused = process::output(
            plain.env("PGOPTIONS", "-c session_preload_libraries= -c local_preload_libraries="),
        );
        assert!(!refused.status.success(), "a login trigger keeps others out");
    }
}

fn schema_only() -> Value {
    json!({"branch": {"name": "shape", "init_source": "schema-only"}, "endpoints": [{"type": "read_write"}]})
}

fn endpoint_in(scion: &Scion, made: &Value) -> Endpoint {
    let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let (id, branch) = (text(&made["endpoints"][0]), text(&made["branch"]));
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { uri: scion.uri_of(&branch), id, branch, dir }
}

#[test]
fn nothing_that_users_set_or_break_keeps_scion_from_its_work() {
    story(&Scion::start(), 15, true);
}

fn on_major(major: i32) {
    let Some(bin) = release_bin(&major.to_string()) else { return };
    let with_dumps = bin.join("pg_dump").exists();
    story(&Scion::start_major(major, Path::new(&bin)), major, with_dumps);
}

#[test]
fn the_same_on_16() {
    on_major(16);
}

#[test]
fn the_same_on_17() {
    on_major(17);
}

#[test]
fn the_same_on_18() {
    on_major(18);
}

#[test]
fn the_databases_that_everybody_has_are_not_needed() {
    let scion = Scion::start();
    let of = |rest: &str| scion.path(&format!("/branches/{}{rest}", scion.root_branch()));
    scion.root().psql("neondb", "drop database postgres");
    let subscription = "create subscription s connection 'host=203.0.113.1 dbname=x' publication p
        with (connect = false, slot_name = 'x'); alter subscription s enable";
    scion.root().psql("neondb", subscription);
    scion.api().post(&of("/roles"), json!({"role": {"name": "alice"}})).unwrap();
    let database = json!({"database": {"name": "app", "owner_name": "alice"}});
    scion.api().post(&of("/databases"), database).unwrap();
    let made = scion.try_branch("child", json!({}), true).unwrap();
    assert_eq!(endpoint_in(&scion, &made).psql("neondb", "select subenabled from pg_subscription"), "f");
    let shape = scion.api().post(&scion.path("/branches"), schema_only()).unwrap();
    assert_eq!(endpoint_in(&scion, &shape).psql("app", "select 1"), "1");
}
