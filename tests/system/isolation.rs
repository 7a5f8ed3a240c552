//! What the owner of a project cannot do, on every major: run programs, use the server's files, load libraries, become a
//! superuser. And what even a superuser of its Postgres does not reach.
//!
//! And what the holder of a key for one project cannot do with the API.
//!
//! The owner's attempts are refused by Postgres itself, in a session of the owner, of a role that the API made and of one
//! that the owner made; a superuser's by the kernel.

use postgres::Client;
use scion_tests::process::{self, release_bin};
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

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

/// Whether this machine has what a check of `scion doctor` looks for.
fn doctor_finds(scion: &Scion, what: &str) -> bool {
    let checks: Value = serde_json::from_slice(&scion.cli(&["doctor", "--output", "json"]).stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|it| it["check"] == what).unwrap();
    println!("{check}");
    check["outcome"] == "found"
}

/// Rule 7 of the README of `compute`.
#[test]
fn a_superuser_of_one_project_reaches_neither_the_machine_nor_another_project() {
    let scion = Scion::start();
    let made = scion.api().post("/projects", json!({"project": {"name": "other"}})).unwrap();
    let other = scion.endpoint_of(&made);
    let root = scion.root();
    if doctor_finds(&scion, "Landlock") {
        confined(&scion, &other);
    }
    if process::is_root() && doctor_finds(&scion, "users of projects") {
        users_of_their_own(&scion, &other);
    }
    let at = format!(
        "host={} port={} user=postgres dbname=postgres",
        other.dir.join("sock").display(),
        other.port()
    );
    root.psql("neondb", "create extension dblink");
    let to_other = format!("SELECT dblink_connect('{at}')");
    assert!(root.connect().batch_execute(&to_other).is_err(), "a role without a password got in");
    if process::is_root() && doctor_finds(&scion, "users of projects") {
        assert!(root.superuser_client("neondb").batch_execute(&to_other).is_err());
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", postgres_pid(&scion, "", root))).unwrap();
    let limit = |of: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(of)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(limit("Max core file size"), 0, "{limits}");
    let all = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    assert!(limit("Max processes") <= all.trim().parse::<u64>().unwrap() / 2, "{limits}");
    // What is confined still is a whole Postgres.
    let extensions = root.psql(
        "neondb",
        "select string_agg(name, ' ') from pg_available_extensions where name !~ '^(plpgsql|pg_cron|pglogical|.*sepgsql)'",
    );
    let mut failed = Vec::new();
    for name in extensions.split(' ') {
        let mut command = root.superuser("psql");
        let create = format!("create extension \"{name}\" cascade");
        let output = process::output(command.args(["-XAtqd", "neondb", "-c", &create]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("denied") || said.contains("could not") {
            failed.push(said);
        }
    }
    assert_eq!(failed, [""; 0]);
    let whole = "set jit = on; set jit_above_cost = 0; set max_parallel_workers_per_gather = 2; set timezone = 'Asia/Tokyo';
        set parallel_setup_cost = 0; set min_parallel_table_scan_size = 0; create table big as select generate_series(1, 50000) x;
        select sum(x::float8) from big";
    assert_eq!(root.psql("neondb", whole), "1250025000");
}

fn postgres_pid(scion: &Scion, project: &str, endpoint: &Endpoint) -> i64 {
    let path = format!("/endpoints/{}", endpoint.id);
    let path = if project.is_empty() { scion.path(&path) } else { format!("/projects/{project}{path}") };
    process::wait_for("the process of Postgres", std::time::Duration::from_secs(20), || {
        scion.api().get(&path).unwrap()["endpoint"]["postgres_pid"].as_i64()
    })
}

/// As superuser, with all that such a one may do.
fn confined(scion: &Scion, other: &Endpoint) {
    let root = scion.root();
    let key = scion.data_dir().join("api-key");
    let outside = [
        "/etc/passwd".to_owned(),
        "/proc/1/cmdline".to_owned(),
        "/proc/self/environ".to_owned(),
        key.display().to_string(),
        root.dir.join("spec.json").display().to_string(),
        root.dir.join("postgres.log").display().to_string(),
        other.dir.join("mnt/PG_VERSION").display().to_string(),
        format!("{}/projects/{}", scion.data_dir().display(), scion.project()),
    ];
    let mut session = root.superuser_client("neondb");
    session.batch_execute("CREATE TABLE lines (line text)").unwrap();
    let mut attempts: Vec<String> =
        outside.iter().map(|path| format!("SELECT pg_read_file('{path}')")).collect();
    attempts.extend(outside.iter().map(|path| format!("COPY lines FROM '{path}'")));
    attempts.extend(["/", "/tmp", "/root", "/home"].map(|path| format!("SELECT pg_ls_dir('{path}')")));
    attempts.push(format!("SELECT pg_ls_dir('{}')", other.dir.join("sock").display()));
    attempts.push("COPY (SELECT 1) TO '/tmp/scion-isolation'".to_owned());
    attempts.push("COPY (SELECT 1) TO PROGRAM 'cat > /tmp/scion-isolation'".to_owned());
    attempts.push("COPY lines FROM PROGRAM '/usr/bin/id'".to_owned());
    attempts.push("SELECT lo_import('/etc/passwd')".to_owned());
    for attempt in &attempts {
        let error = session.batch_execute(attempt).expect_err(attempt);
        let text = error.as_db_error().unwrap().message().to_owned();
        let refused = text.contains("Permission denied") || text.contains("could not execute command");
        assert!(refused || text.contains("command not executable"), "{attempt}: {text}");
    }
    session.batch_execute("COPY lines TO '/dev/null'; SELECT pg_read_file('PG_VERSION')").unwrap();
}

fn users_of_their_own(scion: &Scion, other: &Endpoint) {
    use std::os::unix::fs::MetadataExt;
    let project = scion.api().get("/projects").unwrap()["projects"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|it| it["id"].as_str().filter(|id| *id != scion.project()).map(str::to_owned))
        .unwrap();
    let user_of = |pid: i64| std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let mine = user_of(postgres_pid(scion, "", scion.root()));
    let theirs = user_of(postgres_pid(scion, &project, other));
    assert_ne!(mine, theirs, "two projects");
    let child = scion.branch("child", json!({}));
    assert_eq!(user_of(postgres_pid(scion, "", &child)), mine, "of one project");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(mine >= 0x7000_0000 && !passwd.contains(&format!(":{mine}:")), "{mine} is somebody's");
    for directory in ["sock", "pg_wal", "mnt"].map(|name| other.dir.join(name)) {
        let found = std::fs::metadata(&directory).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (theirs, 0o700), "{}", directory.display());
    }
    for stranger in [mine, 65534] {
        let mut command = std::process::Command::new("setpriv");
        command.args([
            format!("--reuid={stranger}"),
            format!("--regid={stranger}"),
            "--clear-groups".to_owned(),
        ]);
        command.args([
            "--",
            "psql",
            "-U",
            "postgres",
            "-d",
            "neondb",
            "-p",
            &other.port(),
            "-XAtc",
            "select 1",
            "-h",
        ]);
        let refused = process::output(command.arg(other.dir.join("sock")));
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("Permission denied"),
            "{stranger}: {refused:?}"
        );
    }
    let schema = scion.path(&format!("/branches/{}/schema?db_name=neondb", child.branch));
    scion.api().get(&schema).unwrap();
}

#[test]
fn a_copy_of_a_schema_that_would_run_its_owners_code_as_superuser_is_refused() {
    let scion = Scion::start();
    let api = scion.api();
    let copy = |name: &str| {
        let branch = json!({"name": name, "init_source": "schema-only"});
        api.post(&scion.path("/branches"), json!({"branch": branch})).map(drop)
    };
    scion.root().execute(
        "CREATE FUNCTION spring(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_roles WHERE rolname = CURRENT_USER) THEN RAISE 'sprung'; END IF;
             RETURN true; END $$;
         CREATE DOMAIN trap AS text CHECK (spring(VALUE));
         CREATE TABLE harmless (t trap, u text DEFAULT 'x', CHECK (spring(u)));
         CREATE INDEX ON harmless (spring(u)) WHERE spring('x');
         CREATE TABLE parts (k int, note text) PARTITION BY RANGE (k);
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (9)",
    );
    copy("harmless").unwrap();
    let traps = [
        (
            "CREATE FUNCTION st(trap, int) RETURNS trap LANGUAGE sql AS 'SELECT $1';
          CREATE AGGREGATE agg(int) (SFUNC = st, STYPE = trap, INITCOND = 'x')",
            "DROP AGGREGATE agg(int)",
            "agg(integer)",
        ),
        ("CREATE TABLE byd (k trap) PARTITION BY LIST (k)", "DROP TABLE byd", "byd"),
        ("ALTER TABLE parts ADD CHECK (spring('x'))", "", "of partitioned table"),
    ];
    for (set, free, names) in traps {
        scion.root().execute(set);
        let refused = copy("refused").unwrap_err();
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.message.contains(names), "{refused:?}");
        scion.root().execute(free);
    }
}

/// What a request for `route` needs to be well formed.
fn body_of(route: &str) -> Value {
    match route {
        "createProjectBranchRole" => json!({"role": {"name": "x"}}),
        "createProjectBranchDatabase" => json!({"database": {"name": "x", "owner_name": "neondb_owner"}}),
        "updateProjectBranchDatabase" => json!({"database": {"name": "x"}}),
        "updateProjectBranch" => json!({"branch": {"name": "taken"}}),
        "updateProjectEndpoint" => json!({"endpoint": {"settings": {"pg_settings": {"work_mem": "1MB"}}}}),
        "updateProject" => json!({"project": {"name": "taken"}}),
        "updateSnapshot" => json!({"snapshot": {"name": "taken"}}),
        "restoreProjectBranch" => json!({"source_branch_id": "^self", "preserve_under_name": "old"}),
        "setSnapshotSchedule" => json!({"schedule": [{"frequency": "daily", "hour": 1}]}),
        _ => json!({}),
    }
}

#[test]
fn a_key_for_one_project_reaches_nothing_of_another_by_any_route_or_reference() {
    let scion = Scion::start();
    let all = scion.api().clone();
    let made = all.post("/projects", json!({"project": {"name": "theirs"}})).unwrap();
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let theirs = (id(&made["project"]["id"]), id(&made["branch"]["id"]), id(&made["endpoints"][0]["id"]));
    let (project, branch, endpoint) = &theirs;
    let other = |rest: &str| format!("/projects/{project}{rest}");
    let snapshot = all.post(&other(&format!("/branches/{branch}/snapshot?name=s")), json!({})).unwrap();
    let snapshot = id(&snapshot["snapshot"]["id"]);
    let template = json!({"parent_id": branch});
    let schedule = json!({"branch_schedule": {"name": "s", "cron": "0 0 1 1 *", "template": template}});
    let schedule = id(&all.post(&other("/branch_schedules"), schedule).unwrap()["branch_schedule"]["id"]);
    let operation = id(&all.get(&other("/operations")).unwrap()["operations"][0]["id"]);
    let key = all.post("/api_keys", json!({"key_name": "k", "project_id": scion.project()})).unwrap();
    let api = scion_tests::Api::new(all.base().trim_end_matches("/api/v2"), key["key"].as_str().unwrap());
    api.get(&scion.path("")).unwrap();
    let seen = || {
        let list = |what: &str| all.get(&other(what)).unwrap()[&what[1..]].clone();
        ["/branches", "/endpoints", "/snapshots", "/branch_schedules"].map(list)
    };
    let before: Vec<String> = seen().iter().map(names_in).collect();

    let mut asked = 0;
    for route in api::routes::ROUTES {
        let method = format!("{:?}", route.method);
        for of in [project.as_str(), scion.project()] {
            if !route.path.contains("{project_id}") {
                continue;
            }
            let path = route.path.replace("{project_id}", of).replace("{branch_id}", branch);
            let path = path.replace("{endpoint_id}", endpoint).replace("{snapshot_id}", &snapshot);
            let path = path.replace("{schedule_id}", &schedule).replace("{operation_id}", &operation);
            let path = path.replace("{role_name}", "neondb_owner").replace("{database_name}", "neondb");
            // Of the own project, only what names something of the other.
            let names_theirs = of == project
                || path.contains(branch)
                || path.contains(endpoint)
                || path.contains(&snapshot)
                || path.contains(&schedule)
                || path.contains(&operation);
            if !names_theirs {
                continue;
            }
            let (status, said) = ask(&api, &method, &format!("{path}?db_name=neondb"), &body_of(route.id));
            assert!((400..500).contains(&status), "{method} {path}: {status} {said}");
            assert!(!said.to_string().contains("npg_"), "{method} {path}: {said}");
            asked += 1;
        }
    }
    assert!(asked > 80, "{asked}");

    let (main, own) = (scion.root_branch(), &scion.root().id);
    let template = json!({"parent_id": branch});
    let references = [
        ("POST", "/branches".to_owned(), json!({"branch": {"parent_id": branch}})),
        (
            "POST",
            format!("/branches/{main}/restore"),
            json!({"source_branch_id": branch, "preserve_under_name": "o"}),
        ),
        ("POST", "/endpoints".to_owned(), json!({"endpoint": {"branch_id": branch, "type": "read_only"}})),
        (
            "GET",
            format!("/connection_uri?branch_id={branch}&database_name=neondb&role_name=neondb_owner"),
            Value::Null,
        ),
        (
            "GET",
            format!(
                "/connection_uri?branch_id={main}&endpoint_id={endpoint}&database_name=neondb&role_name=neondb_owner"
            ),
            Value::Null,
        ),
        (
            "GET",
            format!("/branches/{main}/compare_schema?base_branch_id={branch}&db_name=neondb"),
            Value::Null,
        ),
        ("POST", format!("/snapshots/{snapshot}/restore"), json!({"target_branch_id": main})),
        (
            "POST",
            "/branch_schedules".to_owned(),
            json!({"branch_schedule": {"name": "x", "cron": "0 0 1 1 *", "template": template}}),
        ),
    ];
    for (method, path, body) in references {
        let (status, said) = ask(&api, method, &scion.path(&path), &body);
        assert!((400..500).contains(&status), "{method} {path}: {status} {said}");
    }
    let mine = all.post(&scion.path(&format!("/branches/{main}/snapshot?name=m")), json!({})).unwrap();
    let mine = scion.path(&format!("/snapshots/{}/restore", id(&mine["snapshot"]["id"])));
    let (status, said) =
        ask(&api, "POST", &mine, &json!({"target_branch_id": branch, "finalize_restore": true}));
    assert!((400..500).contains(&status), "{status} {said}");
    let _ = ask(
        &api,
        "PATCH",
        &scion.path(&format!("/endpoints/{own}")),
        &json!({"endpoint": {"branch_id": branch}}),
    );

    for (method, path) in [
        ("POST", "/projects"),
        ("POST", "/shutdown"),
        ("GET", "/status"),
        ("GET", "/api_keys"),
        ("POST", "/api_keys"),
    ] {
        let body = json!({"project": {}, "key_name": "more"});
        let (status, said) = ask(&api, method, path, &body);
        assert!((400..500).contains(&status), "{method} {path}: {status} {said}");
    }
    let listed = api.get("/projects").unwrap()["projects"].to_string();
    assert!(!listed.contains(project.as_str()), "{listed}");
    let after: Vec<String> = seen().iter().map(names_in).collect();
    assert_eq!(after, before);
}

/// A request that is refused by its key may be answered, and its connection closed, before its body is sent.
fn ask(api: &scion_tests::Api, method: &str, path: &str, body: &Value) -> (u16, Value) {
    (0..20)
        .find_map(|_| api.try_ask(method, path, body))
        .unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// Ids, names and settings in a list.
fn names_in(list: &Value) -> String {
    let of = |it: &Value| format!("{} {} {}", it["id"], it["name"], it["settings"]);
    list.as_array().unwrap().iter().map(of).collect::<Vec<_>>().join("\n")
}
