//! What opens a protected branch opens nothing that begins on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::{Client, NoTls};
use scion_tests::process::wait_for;
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

/// A server whose branch `main` is protected.
fn protected() -> Scion {
    let scion = Scion::start_with(
        &[],
        json!({"name": "test", "default_endpoint_settings": {"pg_settings": {"log_statement": "all"}}}),
    );
    protect(&scion, scion.root_branch(), true);
    scion
}

fn protect(scion: &Scion, branch: &str, protected: bool) {
    let body = json!({"branch": {"protected": protected}});
    scion.api().patch(&scion.path(&format!("/branches/{branch}")), body).unwrap();
}

fn role(scion: &Scion, branch: &str, name: &str) -> String {
    let path = scion.path(&format!("/branches/{branch}/roles"));
    let made = scion.api().post(&path, json!({"role": {"name": name}})).unwrap();
    made["role"]["password"].as_str().unwrap().to_owned()
}

fn revealed(scion: &Scion, branch: &str, name: &str) -> Option<String> {
    let path = scion.path(&format!("/branches/{branch}/roles/{name}/reveal_password"));
    match scion.api().get(&path) {
        Ok(answer) => Some(answer["password"].as_str().unwrap().to_owned()),
        Err(error) => {
            assert_eq!(error.status, 412, "{error:?}");
            None
        }
    }
}

/// The endpoint in the answer to a create request, or one that is made for the branch.
fn endpoint(scion: &Scion, made: &Value) -> Endpoint {
    let text = |value: &Value| value["id"].as_str().map(str::to_owned);
    let branch = text(&made["branch"]).unwrap();
    let id = text(&made["endpoints"][0]).unwrap_or_else(|| {
        let body = json!({"endpoint": {"branch_id": branch, "type": "read_write"}});
        text(&scion.api().post(&scion.path("/endpoints"), body).unwrap()["endpoint"]).unwrap()
    });
    let dir = scion.data_dir().join("endpoints").join(&id);
    Endpoint { id, uri: scion.uri_of(&branch), branch, dir }
}

/// Whether a role's password opens an endpoint, over TCP.
fn opens(endpoint: &Endpoint, role: &str, password: &str) -> bool {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(endpoint.port().parse().unwrap()).dbname("neondb");
    match config.user(role).password(password).connect(NoTls) {
        Ok(mut client) => client.simple_query("select 1").is_ok(),
        Err(error) => {
            let refused = error.as_db_error().is_some_and(|said| said.code().code() == "28P01");
            assert!(refused, "{role}: {error:?}");
            false
        }
    }
}

fn password_in(uri: &str) -> String {
    let config: postgres::Config = uri.parse().unwrap();
    String::from_utf8(config.get_password().unwrap().to_vec()).unwrap()
}

fn lsn(endpoint: &Endpoint) -> String {
    endpoint.psql("postgres", "select pg_current_wal_flush_lsn()")
}

/// Each role's password on `main` opens that and not `branch`; the owner's own, which is told, opens it.
fn check(scion: &Scion, branch: &Endpoint, parents: &[(&str, &str)]) {
    for (role, password) in parents {
        assert!(!opens(branch, role, password), "{role} of main opens {}", branch.branch);
    }
    let own = revealed(scion, &branch.branch, "neondb_owner").unwrap();
    assert!(opens(branch, "neondb_owner", &own), "the owner of {}", branch.branch);
    assert_eq!(password_in(&branch.uri), own);
    let log = std::fs::read_to_string(branch.dir.join("postgres.log")).unwrap();
    assert!(!log.contains("SCRAM-SHA-256$"), "{log}");
}

#[test]
fn a_child_of_a_protected_branch_is_answered_with_a_password_of_its_own() {
    let scion = protected();
    let parents = password_in(&scion.root().uri);
    let child = scion.branch("child", json!({}));
    assert_ne!(password_in(&child.uri), parents);
    check(&scion, &child, &[("neondb_owner", &parents)]);
    assert!(opens(scion.root(), "neondb_owner", &parents), "main goes on with its own");
    assert!(!opens(scion.root(), "neondb_owner", &password_in(&child.uri)));
    // It keeps it over every restart, and its own children have it too.
    for verb in ["suspend", "start"] {
        let path = scion.path(&format!("/endpoints/{}/{verb}", child.id));
        scion.api().post(&path, json!({})).unwrap();
    }
    check(&scion, &child, &[("neondb_owner", &parents)]);
    let grandchild = scion.branch("grandchild", json!({"parent_id": child.branch}));
    check(&scion, &grandchild, &[("neondb_owner", &parents)]);
    assert_eq!(password_in(&grandchild.uri), password_in(&child.uri));
    let quiet = scion.branch("quiet", json!({"quarantine": false}));
    check(&scion, &quiet, &[("neondb_owner", &parents)]);
    protect(&scion, scion.root_branch(), false);
    let open = scion.branch("open", json!({}));
    assert!(opens(&open, "neondb_owner", &parents), "a child of a branch that is not protected");
}

#[test]
fn whatever_begins_on_a_protected_branch_is_opened_by_none_of_its_passwords() {
    let scion = protected();
    let (root, main) = (scion.root().clone(), scion.root_branch().to_owned());
    let app = role(&scion, &main, "app");
    root.psql("neondb", "create role hand login password 'by hand'; create role grp password 'grp'");
    root.psql("neondb", "create role gone login password 'gone'");
    let then = lsn(&root);
    root.psql("neondb", "drop role gone");
    let owner = password_in(&root.uri);
    let parents = [("neondb_owner", owner.as_str()), ("app", &app), ("hand", "by hand"), ("gone", "gone")];
    let now = &parents[..3];

    let made = scion.try_branch("child", json!({}), true).unwrap();
    let child = endpoint(&scion, &made);
    check(&scion, &child, now);
    let hand = revealed(&scion, &child.branch, "hand").expect("SQL made it, and it was found before");
    assert!(opens(&child, "hand", &hand));
    child.psql("neondb", "alter role grp login");
    assert!(!opens(&child, "grp", "grp"));

    // Nobody saw role `gone` while it was there.
    let past = endpoint(&scion, &scion.try_branch("past", json!({"parent_lsn": then}), true).unwrap());
    check(&scion, &past, &parents);
    assert_eq!(past.psql("neondb", "select rolpassword is null from pg_authid where rolname = 'gone'"), "t");
    assert_eq!(revealed(&scion, &past.branch, "gone"), None);

    // A child that never ran, and the part of a child's log in which it had none yet.
    let idle = scion.try_branch("idle", json!({}), false).unwrap()["branch"]["id"].clone();
    let under = json!({"parent_id": idle});
    let below = endpoint(&scion, &scion.try_branch("below", under, true).unwrap());
    check(&scion, &below, now);
    let shown = revealed(&scion, idle.as_str().unwrap(), "neondb_owner");
    assert_eq!(shown, Some(password_in(&below.uri)));
    let begin = scion.branch_info(&child.branch)["parent_lsn"].clone();
    let early = json!({"parent_id": child.branch, "parent_lsn": begin});
    let early = endpoint(&scion, &scion.try_branch("early", early, true).unwrap());
    check(&scion, &early, now);
    assert_eq!(password_in(&early.uri), password_in(&child.uri));

    let of_schema = json!({"init_source": "schema-only"});
    check(&scion, &endpoint(&scion, &scion.try_branch("schema", of_schema, true).unwrap()), now);
    let path = scion.path(&format!("/branches/{main}/snapshot"));
    let snapshot = scion.api().post(&path, json!({})).unwrap()["snapshot"]["id"].clone();
    let path = scion.path(&format!("/snapshots/{}/restore", snapshot.as_str().unwrap()));
    let made = scion.api().post(&path, json!({"name": "look"})).unwrap();
    let looks = scion.api().get(&scion.path("/endpoints")).unwrap();
    let found = looks["endpoints"].as_array().unwrap().iter();
    let id = found.filter(|it| it["branch_id"] == made["branch"]["id"]).cloned().collect::<Vec<_>>();
    let look = endpoint(&scion, &json!({"branch": made["branch"], "endpoints": id}));
    check(&scion, &look, now);
    // With the place of main it takes the passwords of main.
    let path = scion.path(&format!("/branches/{}/finalize_restore", look.branch));
    scion.api().post(&path, json!({})).unwrap();
    for (role, password) in now {
        assert!(opens(&root, role, password), "{role} at the address of main");
    }
}

#[test]
fn a_reset_keeps_passwords_and_lets_nobody_in_with_one_of_the_protected_parent() {
    let scion = protected();
    let (root, main) = (scion.root().clone(), scion.root_branch().to_owned());
    let parents = password_in(&root.uri);
    let child = scion.branch("child", json!({}));
    let own = password_in(&child.uri);
    let mine = role(&scion, &child.branch, "both");
    child.psql("neondb", "create role hand login password 'mine'");
    let late = role(&scion, &main, "late");
    let both = role(&scion, &main, "both");
    root.psql("neondb", "create role hand login password 'theirs'");
    let begin = lsn(&child);
    child.psql("neondb", "create table t()");

    let over = AtomicBool::new(false);
    let restore = |body: Value| {
        let path = scion.path(&format!("/branches/{}/restore", child.branch));
        scion.api().post(&path, body).unwrap()
    };
    std::thread::scope(|scope| {
        let intruder = scope.spawn(|| {
            let mut tries = 0;
            while !over.load(Ordering::Acquire) {
                let port = child.port();
                let uri = format!("postgresql://late:{late}@127.0.0.1:{port}/neondb?connect_timeout=2");
                assert!(Client::connect(&uri, NoTls).is_err(), "let in with a password of main");
                tries += 1;
            }
            tries
        });
        restore(json!({"source_branch_id": main}));
        restore(json!({"source_branch_id": main, "quarantine": false, "preserve_under_name": "before"}));
        over.store(true, Ordering::Release);
        assert!(intruder.join().unwrap() > 10);
    });
    let theirs = [("neondb_owner", &*parents), ("late", &*late), ("both", &*both), ("hand", "theirs")];
    let refused = || theirs.iter().all(|(role, password)| !opens(&child, role, password));
    assert!(refused());
    assert!(opens(&child, "neondb_owner", &own) && opens(&child, "both", &mine));
    assert!(opens(&child, "hand", "mine"), "SQL gave it, and it is kept");
    assert!(opens(&child, "late", &revealed(&scion, &child.branch, "late").unwrap()));
    // To where a branch was before it was reset, with the passwords of now.
    let backup = scion.api().get(&scion.path("/branches")).unwrap();
    let backup = backup["branches"].as_array().unwrap().iter().find(|it| it["name"] == "before").cloned();
    restore(json!({"source_branch_id": backup.unwrap()["parent_id"], "source_lsn": begin}));
    assert!(refused());
    assert!(opens(&child, "neondb_owner", &own));
}

#[test]
fn a_schedule_of_a_protected_branch_keeps_the_passwords_that_its_sql_gives() {
    let scion = protected();
    let owner = password_in(&scion.root().uri);
    let sql = "create role made login password 'made'; grant connect on database neondb to made";
    let body = json!({"branch_schedule": {"name": "nightly", "cron": "0 3 1 1 *", "template": {"sql": sql}}});
    let id =
        scion.api().post(&scion.path("/branch_schedules"), body).unwrap()["branch_schedule"]["id"].clone();
    let path = scion.path(&format!("/branch_schedules/{}/run", id.as_str().unwrap()));
    let branch = scion.api().post(&path, json!({})).unwrap()["branch"]["id"].as_str().unwrap().to_owned();
    let endpoints = scion.api().get(&scion.path(&format!("/branches/{branch}/endpoints"))).unwrap();
    let night = endpoint(&scion, &json!({"branch": {"id": branch}, "endpoints": endpoints["endpoints"]}));
    check(&scion, &night, &[("neondb_owner", &owner)]);
    assert!(opens(&night, "made", "made"));
    let under = scion.try_branch("under", json!({"parent_id": branch}), true).unwrap();
    let under = endpoint(&scion, &under);
    check(&scion, &under, &[("neondb_owner", &owner)]);
    assert!(opens(&under, "made", "made"));
}

#[test]
fn after_kill_9_while_it_is_made_a_child_has_a_password_of_its_own() {
    let mut scion = protected();
    let owner = password_in(&scion.root().uri);
    let mut made = 0;
    // A machine that is busy takes longer to make one.
    for round in 0..30 {
        if round >= 6 && made > 0 {
            break;
        }
        let path = scion.path("/branches");
        let body = json!({"branch": {"name": format!("c{round}")}, "endpoints": [{"type": "read_write"}]});
        scion.killed_during(20 + 50 * round, |api| drop(api.post(&path, body)));
        let listed = scion.api().get(&scion.path("/endpoints")).unwrap();
        let found = listed["endpoints"].as_array().unwrap().iter().find(|it| it["id"] != scion.root().id);
        let Some(found) = found else { continue };
        made += 1;
        let branch = json!({"branch": {"id": found["branch_id"]}, "endpoints": [found]});
        let child = endpoint(&scion, &branch);
        wait_for("the endpoint", Duration::from_secs(60), || child.try_connect().ok());
        check(&scion, &child, &[("neondb_owner", &owner)]);
        let path = scion.path(&format!("/branches/{}?hard_delete=true", child.branch));
        scion.api().delete(&path).unwrap();
    }
    assert!(made > 0, "none was made before the server was killed");
}
