//! Roles and databases of a branch: made, changed and found through the API, whoever made them.

use postgres::{Client, NoTls};
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

fn of(scion: &Scion, branch: &str, rest: &str) -> String {
    scion.path(&format!("/branches/{branch}{rest}"))
}

fn names(scion: &Scion, branch: &str, kind: &str) -> Vec<String> {
    let listed = scion.api().get(&of(scion, branch, &format!("/{kind}"))).unwrap();
    listed[kind].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn uri(scion: &Scion, branch: &str, role: &str, database: &str) -> String {
    let query =
        format!("/connection_uri?branch_id={branch}&role_name={role}&database_name={database}&pooled=true");
    scion.api().get(&scion.path(&query)).unwrap()["uri"].as_str().unwrap().to_owned()
}

fn connect(scion: &Scion, branch: &str, role: &str, database: &str) -> Client {
    Client::connect(&uri(scion, branch, role, database), NoTls).unwrap()
}

fn role(name: &str) -> Value {
    json!({"role": {"name": name}})
}

#[test]
fn a_role_and_its_database_can_be_used_and_are_deleted() {
    let scion = Scion::start();
    let branch = scion.root_branch();
    let api = scion.api();
    let made = api.post(&of(&scion, branch, "/roles"), role("alice \"x\"")).unwrap();
    assert_eq!(made["operations"][0]["action"], "apply_config");
    assert_eq!(api.post(&of(&scion, branch, "/roles"), role("alice \"x\"")).unwrap_err().status, 409);
    assert_eq!(api.post(&of(&scion, branch, "/roles"), role("pg_evil")).unwrap_err().status, 400);
    let database = json!({"database": {"name": "app", "owner_name": "alice \"x\""}});
    api.post(&of(&scion, branch, "/databases"), database.clone()).unwrap();
    assert_eq!(api.post(&of(&scion, branch, "/databases"), database).unwrap_err().status, 409);
    let nobody = json!({"database": {"name": "b", "owner_name": "nobody"}});
    assert_eq!(api.post(&of(&scion, branch, "/databases"), nobody).unwrap_err().status, 404);

    let mut alice = connect(&scion, branch, "alice%20%22x%22", "app");
    alice.batch_execute("create table t(x int); create role from_alice").unwrap();
    alice.batch_execute("create database mine").unwrap();
    assert_eq!(names(&scion, branch, "databases"), ["neondb", "app", "mine"]);
    assert_eq!(names(&scion, branch, "roles"), ["neondb_owner", "alice \"x\"", "from_alice"]);
    drop(alice);

    let path = of(&scion, branch, "/roles/alice%20%22x%22");
    let owns = api.delete(&path).unwrap_err();
    assert!(owns.status == 422 && owns.message.contains("app, mine"), "{owns:?}");
    let to = json!({"database": {"name": "app2", "owner_name": "neondb_owner"}});
    let changed = api.patch(&of(&scion, branch, "/databases/app"), to).unwrap();
    assert_eq!(
        (&changed["database"]["name"], &changed["database"]["owner_name"]),
        (&json!("app2"), &json!("neondb_owner"))
    );
    let mut open = connect(&scion, branch, "neondb_owner", "mine");
    api.delete(&of(&scion, branch, "/databases/mine")).unwrap();
    assert!(open.simple_query("select 1").is_err(), "its sessions are ended");
    api.delete(&path).unwrap();
    assert_eq!(api.delete(&path).unwrap(), Value::Null, "204 the second time");
    assert_eq!(names(&scion, branch, "roles"), ["neondb_owner", "from_alice"]);
    let owner = "select tableowner from pg_tables where tablename = 't'";
    assert_eq!(
        scion.root().psql("app2", owner),
        "neondb_owner",
        "what it owned went to the owner of the database"
    );
}

#[test]
fn passwords_are_reset_revealed_and_never_written_where_others_read() {
    let scion = Scion::start_with(
        &[],
        json!({"name": "t", "default_endpoint_settings": {"pg_settings": {
        "log_statement": "all", "log_min_duration_statement": "0", "log_min_error_statement": "debug5"}}}),
    );
    let branch = scion.root_branch();
    let api = scion.api();
    let first = api.post(&of(&scion, branch, "/roles"), role("bob")).unwrap()["role"]["password"].clone();
    let revealed = || api.get(&of(&scion, branch, "/roles/bob/reveal_password"));
    assert_eq!(revealed().unwrap()["password"], first);
    let mut session = connect(&scion, branch, "bob", "neondb");
    let reset = api.post(&of(&scion, branch, "/roles/bob/reset_password"), json!({})).unwrap();
    let second = reset["role"]["password"].clone();
    assert_ne!(second, first);
    assert!(session.simple_query("select 1").is_err(), "its sessions are ended");
    assert_eq!(revealed().unwrap()["password"], second);
    drop(connect(&scion, branch, "bob", "neondb"));
    let old = uri(&scion, branch, "bob", "neondb").replace(second.as_str().unwrap(), first.as_str().unwrap());
    assert!(Client::connect(&old, NoTls).is_err(), "the old password is of no use");

    scion.root().psql("neondb", "alter role bob password 'by hand'");
    let unknown = revealed().unwrap_err();
    assert!(unknown.status == 412 && unknown.message.contains("reset_password"), "{unknown:?}");
    assert!(api.get(&of(&scion, branch, "/roles/bob")).unwrap()["role"].get("password").is_none());
    api.post(&of(&scion, branch, "/roles"), json!({"role": {"name": "group", "no_login": true}})).unwrap();
    assert_eq!(
        api.get(&of(&scion, branch, "/roles/group")).unwrap()["role"]["authentication_method"],
        "no_login"
    );
    assert_eq!(
        api.post(&of(&scion, branch, "/roles/group/reset_password"), json!({})).unwrap_err().status,
        422
    );

    let log = std::fs::read_to_string(scion.root().dir.join("postgres.log")).unwrap();
    assert!(log.contains("by hand"), "the log would show it");
    for file in ["postgres.log", "compute.log", "spec.json"].map(|name| scion.root().dir.join(name)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let leaks = |secret: &str| text.contains(secret);
        assert!(!leaks(first.as_str().unwrap()) && !leaks(second.as_str().unwrap()), "{}", file.display());
        assert!(!leaks("SCRAM-SHA-256$"), "{}", file.display());
    }
    let served = std::fs::read_to_string(scion.data_dir().join("serve.log")).unwrap();
    assert!(!served.contains(first.as_str().unwrap()) && !served.contains("SCRAM-SHA-256$"));
}

#[test]
fn a_child_has_the_roles_and_passwords_of_its_moment() {
    let scion = Scion::start();
    let branch = scion.root_branch();
    let api = scion.api();
    let early = api.post(&of(&scion, branch, "/roles"), role("carol")).unwrap()["role"]["password"].clone();
    let then = scion.root().psql("postgres", "select pg_current_wal_flush_lsn()");
    scion.root().psql("postgres", "create database later");
    let late = api.post(&of(&scion, branch, "/roles/carol/reset_password"), json!({})).unwrap();
    api.delete(&of(&scion, branch, "/databases/neondb")).unwrap();

    let made = scion.try_branch("before", json!({"parent_lsn": then}), true).unwrap();
    // Of two roles, the owner of the database is who the connection string is for.
    let before = scion.endpoint_of(&made);
    assert_eq!(before.uri, uri(&scion, &before.branch, "neondb_owner", "neondb"));
    let after = scion.try_branch("after", json!({}), false).unwrap();
    let after = after["branch"]["id"].as_str().unwrap().to_owned();
    let password = |branch: &str| {
        api.get(&of(&scion, branch, "/roles/carol/reveal_password")).unwrap()["password"].clone()
    };
    assert_eq!(password(&before.branch), early);
    drop(connect(&scion, &before.branch, "carol", "neondb"));
    assert_eq!(names(&scion, &before.branch, "databases"), ["neondb"]);
    assert_eq!(password(&after), late["role"]["password"]);
    assert_eq!(names(&scion, &after, "databases"), ["later"], "a branch without endpoint is looked at too");
    let refused = api.post(&of(&scion, &after, "/roles"), role("dave")).unwrap_err();
    assert!(refused.status == 422 && refused.message.contains("scion endpoint start after"), "{refused:?}");
    assert_eq!(hidden(&scion), Vec::<String>::new());

    // An idle endpoint is started for a change, and not for a look.
    let suspend = scion.path(&format!("/endpoints/{}/suspend", before.id));
    api.post(&suspend, json!({})).unwrap();
    assert_eq!(names(&scion, &before.branch, "roles"), ["neondb_owner", "carol"]);
    assert_eq!(scion.endpoint_info(&before)["current_state"], "idle");
    let made = api.post(&of(&scion, &before.branch, "/roles"), role("erin")).unwrap();
    assert_eq!(made["operations"].as_array().unwrap().len(), 2);
    drop(connect(&scion, &before.branch, "erin", "neondb"));
    assert_eq!(names(&scion, branch, "roles"), ["neondb_owner", "carol"], "the parent has no erin");
}

/// Directories of endpoints that the API does not list.
fn hidden(scion: &Scion) -> Vec<String> {
    let listed = scion.api().get(&scion.path("/endpoints")).unwrap();
    let known = |name: &String| {
        listed["endpoints"].as_array().unwrap().iter().any(|it| it["id"].as_str() == Some(name))
    };
    let entries = std::fs::read_dir(scion.data_dir().join("endpoints")).unwrap();
    entries.map(|it| it.unwrap().file_name().into_string().unwrap()).filter(|name| !known(name)).collect()
}

#[test]
fn the_command_line_makes_a_role_that_connects() {
    let scion = Scion::start();
    let run = |arguments: &[&str]| {
        let output = scion.cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let password = run(&["role", "create", "main", "frank"]);
    assert_eq!(run(&["role", "password", "main", "frank"]), password);
    run(&["database", "create", "main", "shop", "--owner", "frank"]);
    let who = "select current_user || '@' || current_database()";
    assert_eq!(run(&["psql", "main", "-r", "frank", "-d", "shop", "--", "-XAtc", who]), "frank@shop");
    run(&["database", "change", "main", "shop", "--rename", "store"]);
    assert!(run(&["database", "list", "main"]).contains("store"));
    assert_ne!(run(&["role", "password", "main", "frank", "--reset"]), password);
    run(&["database", "delete", "main", "store", "--yes"]);
    run(&["role", "delete", "main", "frank", "--yes"]);
    assert!(!run(&["role", "list", "main"]).contains("frank"));
    assert_eq!(scion.cli(&["role", "password", "main", "frank"]).status.code(), Some(3));
}

#[test]
fn after_kill_9_in_the_middle_of_it_passwords_are_known_and_nothing_hidden_is_left() {
    let mut scion = Scion::start();
    let branch = scion.root_branch().to_owned();
    let child =
        scion.try_branch("child", json!({}), false).unwrap()["branch"]["id"].as_str().unwrap().to_owned();
    for round in 0..4 {
        let (url, wanted) = (of(&scion, &branch, "/roles"), role(&format!("r{round}")));
        let (look, api) = (of(&scion, &child, "/roles"), scion.api().clone());
        let looker = api.clone();
        let making = std::thread::spawn(move || api.post(&url, wanted));
        let looking = std::thread::spawn(move || looker.get(&look));
        std::thread::sleep(std::time::Duration::from_millis(5 + 40 * round));
        scion.kill_serve();
        let _ = (making.join().unwrap(), looking.join().unwrap());
        scion.relaunch();
        assert_eq!(hidden(&scion), Vec::<String>::new());
        for name in names(&scion, &branch, "roles") {
            drop(connect(&scion, &branch, &name, "neondb"));
        }
        assert!(scion.stored() <= 2, "{} branches have a log, and there are two", scion.stored());
    }
    scion.api().delete(&of(&scion, &child, "")).unwrap();
    let info: Endpoint = scion.root().clone();
    assert_eq!(info.number("select 1::bigint"), 1);
}
