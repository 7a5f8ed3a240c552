//! What the owner of a project cannot do, on every major: run programs, use the server's files, load libraries, become a
//! superuser.
//!
//! Each attempt is refused by Postgres itself, in a session of the owner, of a role that the API made and of one that the
//! owner made.

use postgres::Client;
use scion_tests::process::release_bin;
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// Roles of Postgres that reach what is outside of the data.
const DANGEROUS: [&str; 3] = ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"];

/// Statements that every role of a project is refused.
const REFUSED: &[&str] = &[
    "COPY (SELECT 1) TO PROGRAM 'id > /tmp/scion-isolation'",
    "COPY here FROM PROGRAM 'id'",
    "COPY here FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/scion-isolation'",
    "SELECT pg_read_file('pg_hba.conf')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/scion-isolation')",
    "LOAD '/tmp/scion-isolation.so'",
    "CREATE FUNCTION run(text) RETURNS int LANGUAGE c STRICT AS 'libc.so.6', 'system'",
    "CREATE FUNCTION run() RETURNS int LANGUAGE internal AS 'pg_reload_conf'",
    "CREATE EXTENSION file_fdw",
    "CREATE TABLESPACE elsewhere LOCATION '/tmp'",
    "ALTER SYSTEM SET shared_preload_libraries = '/tmp/scion-isolation.so'",
    "SET session_preload_libraries = '/tmp/scion-isolation.so'",
    "ALTER ROLE CURRENT_USER SET session_preload_libraries = '/tmp/scion-isolation.so'",
    "ALTER DATABASE neondb SET dynamic_library_path = '/tmp'",
    "ALTER DATABASE neondb SET jit_provider = '/tmp/scion-isolation.so'",
    "ALTER ROLE CURRENT_USER SET plperl.on_plperl_init = 'system(1)'",
    "SELECT pg_reload_conf()",
    "SELECT pg_hba_file_rules()",
    "CREATE EVENT TRIGGER trap ON ddl_command_end EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
    "UPDATE pg_authid SET rolsuper = true WHERE rolname = CURRENT_USER",
    "DELETE FROM pg_auth_members",
    "CREATE ROLE other SUPERUSER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE postgres PASSWORD 'known'",
    "ALTER ROLE postgres RENAME TO renamed",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "GRANT postgres TO CURRENT_USER",
    "CREATE ROLE other IN ROLE postgres",
    "DROP ROLE postgres",
];

#[test]
fn no_role_of_15_reaches_programs_files_or_the_superuser() {
    hostile(&Scion::start());
}

#[test]
fn no_role_of_16_reaches_programs_files_or_the_superuser() {
    on(16);
}

#[test]
fn no_role_of_17_reaches_programs_files_or_the_superuser() {
    on(17);
}

#[test]
fn no_role_of_18_reaches_programs_files_or_the_superuser() {
    on(18);
}

fn on(major: i32) {
    if let Some(bin) = release_bin(&major.to_string()) {
        hostile(&Scion::start_major(major, &bin));
    }
}

fn hostile(scion: &Scion) {
    let mut owner = scion.root().connect();
    owner
        .batch_execute("CREATE TABLE here (line text); CREATE ROLE own LOGIN CREATEROLE PASSWORD 'own'")
        .unwrap();
    owner.batch_execute("CREATE ROLE group_of_own; GRANT group_of_own TO own").unwrap();
    let roles = scion.path(&format!("/branches/{}/roles", scion.root_branch()));
    scion.api().post(&roles, json!({"role": {"name": "made"}})).unwrap();
    let made = scion.api().get(&format!("{roles}/made/reveal_password")).unwrap();
    let login = |role: &str, password: &str| {
        let mut config: postgres::Config = scion.root().uri.parse().unwrap();
        config.user(role).password(password).connect(postgres::NoTls).unwrap()
    };
    let mut made = login("made", made["password"].as_str().unwrap());
    let mut own = login("own", "own");

    for (name, session) in [("neondb_owner", &mut owner), ("made", &mut made), ("own", &mut own)] {
        attempt(name, session);
    }
    superusers_sessions_stay(&mut owner);
    traps_are_not_sprung(scion, &mut owner);
    assert!(!std::path::Path::new("/tmp/scion-isolation").exists());
    let others =
        "select count(*) from pg_roles where rolsuper and rolname <> 'postgres' and rolname !~ '^pg_'";
    assert_eq!(scion.root().psql("postgres", others), "0");
}

fn attempt(name: &str, session: &mut Client) {
    let ways = |role: &str| {
        [
            format!("GRANT {role} TO CURRENT_USER"),
            format!("GRANT {role} TO group_of_own WITH ADMIN OPTION"),
            format!("ALTER GROUP {role} ADD USER {name}"),
            format!("CREATE ROLE other IN ROLE {role}"),
            format!("CREATE ROLE other IN GROUP {role}"),
            format!("ALTER ROLE {role} LOGIN PASSWORD 'known'"),
            format!("SET ROLE {role}"),
            format!("SET SESSION AUTHORIZATION {role}"),
        ]
    };
    let dangerous: Vec<String> = DANGEROUS.iter().flat_map(|role| ways(role)).collect();
    for statement in REFUSED.iter().copied().chain(dangerous.iter().map(String::as_str)) {
        // A statement that succeeds is not to help the next one.
        session.batch_execute("BEGIN").unwrap();
        let answer = session.batch_execute(statement);
        session.batch_execute("ROLLBACK").unwrap();
        let outside = statement.contains("TABLESPACE") || statement.starts_with("ALTER SYSTEM");
        let error = answer.err().unwrap_or_else(|| panic!("{name} may {statement}"));
        let code = error.code().map_or("", postgres::error::SqlState::code);
        // 42501 insufficient_privilege, 42939 reserved_name, 25001 not in a transaction; 22023, 42P17, 0A000 and 55P02 say
        // that it is not done for anybody.
        let refusals = ["42501", "42939", "22023", "42P17", "0A000", "55P02"];
        assert!(refusals.contains(&code) || outside && code == "25001", "{name}: {statement}: {error:?}");
    }
    for statement in ["ALTER SYSTEM SET work_mem = '1MB'", "CREATE TABLESPACE elsewhere LOCATION '/tmp'"] {
        let error = session.batch_execute(statement).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{name}: {statement}: {error:?}");
    }
}

/// Neither scion's own sessions nor workers of Postgres are signalled.
fn superusers_sessions_stay(owner: &mut Client) {
    let pids =
        owner.query("SELECT pid FROM pg_stat_activity WHERE usename = 'postgres' OR usename IS NULL", &[]);
    let pids: Vec<i32> = pids.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(pids.len() > 2, "the log is shipped by a session, and there are workers");
    for pid in pids {
        let signalled = owner.query_one("SELECT pg_terminate_backend($1)", &[&pid]);
        // It may have ended by itself.
        assert!(signalled.is_err() || !signalled.unwrap().get::<_, bool>(0), "process {pid} was signalled");
    }
}

/// Functions and operators of the owner in the place of the catalog's, which write down who ran them.
fn traps_are_not_sprung(scion: &Scion, owner: &mut Client) {
    owner
        .batch_execute(
            "CREATE TABLE sprung (who text, super bool);
             CREATE FUNCTION spring() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
                 IF (SELECT rolsuper FROM pg_roles WHERE rolname = CURRENT_USER) OR
                    (SELECT rolsuper FROM pg_roles WHERE rolname = SESSION_USER) THEN
                     INSERT INTO public.sprung SELECT CURRENT_USER, true;
                 END IF; RETURN true; END $$;
             CREATE FUNCTION pg_current_wal_flush_lsn() RETURNS pg_lsn LANGUAGE sql AS
                 'SELECT CASE WHEN public.spring() THEN pg_catalog.pg_current_wal_flush_lsn() END';
             CREATE FUNCTION pg_get_userbyid(oid) RETURNS name LANGUAGE sql AS
                 'SELECT CASE WHEN public.spring() THEN pg_catalog.pg_get_userbyid($1) END';
             CREATE FUNCTION equal(name, text) RETURNS bool LANGUAGE sql AS
                 'SELECT public.spring() AND $1::text OPERATOR(pg_catalog.=) $2';
             CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, FUNCTION = equal);
             CREATE OPERATOR <> (LEFTARG = name, RIGHTARG = text, FUNCTION = equal);
             ALTER DATABASE neondb SET search_path = public, pg_catalog;
             ALTER ROLE neondb_owner SET search_path = public, pg_catalog",
        )
        .unwrap();
    let branch = |rest: &str| scion.path(&format!("/branches/{}{rest}", scion.root_branch()));
    let api = scion.api();
    api.post(&branch("/databases"), json!({"database": {"name": "d", "owner_name": "neondb_owner"}}))
        .unwrap();
    api.post(&branch("/roles"), json!({"role": {"name": "brief"}})).unwrap();
    api.delete(&branch("/roles/brief")).unwrap();
    // Not every package of the other majors has pg_dump.
    if let Err(error) = api.get(&branch("/schema?db_name=neondb")) {
        assert!(error.message.contains("does not run"), "{error:?}");
    }
    api.delete(&branch("/databases/d")).unwrap();
    assert_eq!(scion.root().psql("neondb", "select count(*) from public.sprung"), "0");
}

#[test]
fn data_from_before_the_roles_were_out_of_reach_is_put_right_before_its_first_client() {
    let scion = Scion::start();
    let root = scion.root().clone();
    root.psql(
        "postgres",
        "update pg_authid set rolsuper = false where rolname ~ '_server_(program|files)$';
         create role ops nologin; grant pg_read_server_files to ops with admin option;
         grant ops to neondb_owner; grant pg_execute_server_program to neondb_owner",
    );
    let lsn = root.psql("postgres", "select pg_current_wal_flush_lsn()");
    let reads = |endpoint: &Endpoint| {
        let held = "SELECT pg_has_role('pg_read_server_files', 'MEMBER')";
        endpoint.reconnect().query_one(held, &[]).unwrap().get::<_, bool>(0)
    };
    assert!(reads(&root), "it can be done by such data");

    let past = scion.branch("past", json!({"parent_lsn": lsn}));
    refused_there(&past);
    let child = scion.branch("child", json!({"parent_id": past.branch}));
    refused_there(&child);
    let reader = scion.reader("reader", json!({"parent_lsn": lsn}));
    assert!(!reads(&reader), "on a standby");
    let of_ops = "select count(*) from pg_auth_members where roleid = 'ops'::regrole";
    assert_eq!(past.psql("postgres", of_ops), "1", "other roles keep their members");

    let log = std::fs::read_to_string(past.dir.join("compute.log")).unwrap();
    for (member, role) in [("ops", "pg_read_server_files"), ("neondb_owner", "pg_execute_server_program")] {
        assert!(log.contains(&format!("role {member} is no longer a member of {role}")), "{log}");
    }
    let log = std::fs::read_to_string(child.dir.join("compute.log")).unwrap();
    assert!(!log.contains("no longer a member"), "nothing was due: {log}");
    assert!(reads(&root), "what runs is not touched before its next start");
    scion.api().post(&scion.path(&format!("/endpoints/{}/restart", root.id)), json!({})).unwrap();
    refused_there(&root);
}

fn refused_there(endpoint: &Endpoint) {
    let mut owner = endpoint.reconnect();
    for role in DANGEROUS {
        let error = owner.batch_execute(&format!("GRANT {role} TO CURRENT_USER")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{role}: {error:?}");
        assert!(owner.batch_execute(&format!("SET ROLE {role}")).is_err(), "{role}");
    }
    assert!(owner.batch_execute("COPY (SELECT 1) TO PROGRAM 'true'").is_err());
    owner.batch_execute("CREATE ROLE later; GRANT pg_monitor TO later; DROP ROLE later").unwrap();
}
