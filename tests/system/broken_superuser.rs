//! Whatever a superuser does to the role that scion's own sessions have, an endpoint starts again, and so does a branch.

use std::process::Command;

use scion_tests::process::{self, release_bin};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

/// What is done to the role, on which majors, and what of it has to be mended.
const BROKEN: &[(&str, std::ops::RangeInclusive<i32>, &[&str])] = &[
    ("alter role postgres nologin", 15..=18, &["it cannot log in"]),
    ("alter role postgres nosuperuser", 15..=15, &["it is no superuser"]),
    ("alter role postgres nosuperuser noreplication nologin", 15..=15, &["no superuser", "not log in"]),
    ("update pg_authid set rolsuper = false where oid = 10", 16..=18, &["it is no superuser"]),
    ("update pg_authid set rolsuper = false, rolconnlimit = 0 where oid = 10", 16..=18, &["no superuser"]),
    ("alter role postgres rename to \"gone \"\"x\"", 15..=18, &["its name is"]),
    (
        "alter role postgres rename to gone; create role postgres login",
        15..=18,
        &["its name is \"gone\"", "is to be postgres_"],
    ),
];
/// What is nothing to mend.
const HARMLESS: &str = "alter role postgres connection limit 0; alter role postgres valid until '2001-01-01';
    alter role postgres set session_preload_libraries = 'gone'; alter role postgres set role = 'neondb_owner';
    alter role postgres set statement_timeout = '1ms'; alter role postgres set idle_session_timeout = '1ms'";

/// SQL as a superuser that nobody broke.
fn rescuer(endpoint: &Endpoint, sql: &str) -> String {
    let mut command = Command::new(process::pg_program("psql"));
    let socket = endpoint.dir.join("sock");
    command.arg("-h").arg(socket).args(["-p", &endpoint.port(), "-U", "rescuer", "-d", "neondb"]);
    process::run(command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql])).trim().to_owned()
}

/// How often the log of an endpoint says that a role was mended, and the last such line.
fn mended(endpoint: &Endpoint) -> (usize, String) {
    let log = std::fs::read_to_string(endpoint.dir.join("compute.log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("own sessions was mended")).collect();
    (lines.len(), lines.last().copied().unwrap_or_default().to_owned())
}

fn looked_at(endpoint: &Endpoint) -> bool {
    let log = std::fs::read_to_string(endpoint.dir.join("compute.log")).unwrap();
    log.contains("single-user")
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    let path = scion.path(&format!("/endpoints/{}/restart", endpoint.id));
    scion.api().post(&path, json!({})).unwrap_or_else(|error| panic!("restart: {error:?}"));
}

fn story(scion: &Scion, major: i32) {
    let root = scion.root();
    root.psql("postgres", "create role rescuer superuser login");
    root.execute("create table kept(what text)");
    root.psql("postgres", HARMLESS);
    restart(scion, root);
    scion.branch("harmless", json!({}));
    let unbroken = "select rolconnlimit from pg_roles where rolname = 'postgres'";
    assert_eq!(rescuer(root, unbroken), "0", "what is no hindrance stays");
    assert!(!looked_at(root), "nothing was broken");
    rescuer(root, "alter role postgres reset all; alter role postgres connection limit -1");

    for (number, (sql, majors, words)) in BROKEN.iter().enumerate() {
        if !majors.contains(&major) {
            continue;
        }
        root.execute(&format!("insert into kept values ($${sql}$$)"));
        let kept = root.number("select count(*) from kept");
        let before = mended(root).0;
        rescuer(root, sql);
        let roles = scion.path(&format!("/branches/{}/roles", root.branch));
        let error = scion.api().get(&roles).unwrap_err();
        let told = ["restart the endpoint", "too many connections for role"];
        assert!(error.status == 503 && told.iter().any(|it| error.message.contains(it)), "{sql}: {error:?}");
        let child = scion.branch(&format!("child-{number}"), json!({}));
        let reader = scion.reader(&format!("reader-{number}"), json!({}));
        restart(scion, root);
        for endpoint in [root, &child, &reader] {
            assert_eq!(endpoint.number("select count(*) from kept"), kept, "{sql}");
            let (times, line) = mended(endpoint);
            assert_eq!(times, if endpoint.id == root.id { before + 1 } else { 1 }, "{sql}");
            assert!(words.iter().all(|word| line.contains(word)), "{sql}: {line}");
            let role = "select rolname, rolsuper, rolcanlogin, current_user from pg_roles where oid = 10";
            assert_eq!(endpoint.psql("neondb", role), "postgres|t|t|postgres", "{sql}");
        }
        let others = "select count(*) from pg_roles where rolname ~ '^postgres' and rolsuper and oid <> 10";
        assert_eq!(root.psql("neondb", others), "0", "nobody else became superuser");
        restart(scion, root);
        assert_eq!(mended(root).0, before + 1, "once is enough: {sql}");
        root.execute("insert into kept values ('written after')");
        // One branch at a time is enough for the machine.
        for branch in [&child.branch, &reader.branch] {
            scion.api().delete(&scion.path(&format!("/branches/{branch}"))).unwrap();
        }
    }
}

/// Rule 10 of the README of `compute`.
#[test]
fn an_endpoint_starts_whatever_was_done_to_the_role_of_its_superuser() {
    story(&Scion::start(), 15);
}

fn on_major(major: i32) {
    let Some(bin) = release_bin(&major.to_string()) else { return };
    story(&Scion::start_major(major, &bin), major);
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
fn what_cannot_be_mended_is_said_with_what_postgres_said() {
    let scion = Scion::start();
    let root = scion.root();
    root.psql("postgres", "create role rescuer superuser login; create role taken");
    // Its own name is taken, and so is the one that the other would get.
    rescuer(root, "alter role postgres rename to gone; create role postgres login");
    rescuer(
        root,
        "do $$ begin execute format('alter role taken rename to %I', 'postgres_' || (select oid from pg_roles \
                   where rolname = 'postgres')); end $$",
    );
    let path = scion.path(&format!("/endpoints/{}/restart", root.id));
    let error = scion.api().post(&path, json!({})).unwrap_err();
    assert_eq!(error.status, 503);
    for words in ["must be superuser", "did not help", "has its name"] {
        assert!(error.message.contains(words), "{}", error.message);
    }
}
