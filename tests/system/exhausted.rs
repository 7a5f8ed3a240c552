//! An endpoint whose connections are all taken, by users or by superusers: what scion needs of it goes on or is refused in
//! words, and it stops and starts.
//!
//! Not here: threads and descriptors that its process does not get (`unprivileged`, as root gets them all).

use std::process::Stdio;
use std::time::Duration;

use postgres::Client;
use scion_tests::process::wait_for;
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

/// Connections of `connect` until there is no more, and what the last one was told.
fn all(mut connect: impl FnMut() -> Result<Client, postgres::Error>) -> (Vec<Client>, String) {
    let mut open = Vec::new();
    loop {
        match connect() {
            Ok(client) => open.push(client),
            Err(error) => {
                return (open, error.as_db_error().map_or(String::new(), |it| it.message().to_owned()));
            }
        }
    }
}

fn as_superuser(endpoint: &Endpoint) -> Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host_path(endpoint.dir.join("sock")).port(endpoint.port().parse().unwrap());
    config.user("postgres").dbname("postgres").connect(postgres::NoTls)
}

fn set(scion: &Scion, endpoint: &Endpoint, settings: Value) -> Result<Value, scion_tests::ApiError> {
    let path = scion.path(&format!("/endpoints/{}", endpoint.id));
    scion.api().patch(&path, json!({"endpoint": {"settings": {"pg_settings": settings}}}))
}

#[test]
fn connections_that_users_take_leave_scion_its_own_and_those_that_superusers_take_are_an_answer() {
    let scion = Scion::start();
    let root = scion.root();
    let api = scion.api();
    for (name, value) in
        [("superuser_reserved_connections", "0"), ("max_wal_senders", "0"), ("max_connections", "4")]
    {
        let error = set(&scion, root, json!({name: value})).unwrap_err();
        assert!(error.status == 400 && error.message.contains("at least"), "{error:?}");
    }
    let settings = json!({"max_connections": "12", "superuser_reserved_connections": "1"});
    set(&scion, root, settings).unwrap();
    let of = |rest: &str| scion.path(&format!("/branches/{}{rest}", scion.root_branch()));
    root.execute("create table kept as select 1 as id");

    // Users have all they can have. Subscriptions are put to rest by sessions of a superuser, and so are passwords set.
    let (users, told) = all(|| root.try_connect());
    assert!(users.len() >= 8 && told.contains("reserved"), "{}: {told}", users.len());
    api.post(&of("/roles"), json!({"role": {"name": "alice"}})).unwrap();
    api.patch(&of(""), json!({"branch": {"protected": true}})).unwrap();
    let child = scion.branch("child", json!({}));
    assert_eq!(child.number("select id::bigint from kept"), 1);
    api.patch(&of(""), json!({"branch": {"protected": false}})).unwrap();

    // Superusers have the rest.
    let (superusers, told) = all(|| as_superuser(root));
    assert!(!superusers.is_empty() && told.contains("too many clients"), "{told}");
    let error = api.post(&of("/roles"), json!({"role": {"name": "bob"}})).unwrap_err();
    assert!(error.status == 503 && error.message.contains("too many clients"), "{error:?}");
    let error = api.get(&scion.path(&format!("/endpoints/{}/replication_slots", root.id))).unwrap_err();
    assert!(error.status == 503 && error.message.contains("too many clients"), "{error:?}");
    let asked = scion.cli(&["endpoint", "restart", "main"]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.code() == Some(2) && said.contains("could not be listed"), "{said}");

    // What needs no session of that kind goes on: a branch of what was committed last, a stop, a start.
    let mut last = superusers.into_iter().next_back().unwrap();
    last.batch_execute("create table late()").unwrap();
    let late = scion.branch("late", json!({}));
    assert_eq!(late.psql("postgres", "select count(*) from pg_class where relname = 'late'"), "1");
    let restarted = scion.cli(&["endpoint", "restart", "main", "--yes"]);
    assert!(restarted.status.success(), "{restarted:?}");
    assert!(last.simple_query("select 1").is_err(), "their sessions ended");
    assert_eq!(root.number("select id::bigint from kept"), 1);
    drop(users);

    // All of its senders of the log are taken but those that it has.
    let mut held: Vec<_> = (0..16).map(|_| hold_a_sender(root)).collect();
    let senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    wait_for("its senders to be taken", Duration::from_secs(30), || {
        (root.psql("postgres", senders) == "12").then_some(())
    });
    root.execute("insert into kept values (2)");
    assert_eq!(scion.branch("while-taken", json!({})).number("select count(*) from kept"), 2);
    let stopped = scion.cli(&["endpoint", "stop", "main", "--yes"]);
    assert!(stopped.status.success(), "{stopped:?}");
    for psql in &mut held {
        let _ = psql.kill(); // those that found no place have ended
        psql.wait().unwrap();
    }
    let started = scion.cli(&["endpoint", "start", "main"]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!(root.number("select count(*) from kept"), 2);
}

/// A session that could receive the log, and does nothing.
fn hold_a_sender(endpoint: &Endpoint) -> std::process::Child {
    let mut command = endpoint.superuser("psql");
    command.args(["-X", "-d", "dbname=postgres replication=true"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
