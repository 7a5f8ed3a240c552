//! What a parent has that acts by itself does not act on its branches.

use std::path::Path;
use std::time::Duration;

use scion_tests::process::{self, wait_for};
use scion_tests::stock::Stock;
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

/// Everything at once: a subscription to nobody, jobs of both schedulers with a spy on them, a foreign server. `EXTENSION`
/// makes a `pg_cron` of it, which need not be installed for that.
const ACTORS: &str = "
    create schema cron; create schema timetable;
    create table spied(who text);
    create table cron.job(jobid bigint, active boolean); insert into cron.job values (1, true), (2, true), (3, false);
    create table timetable.chain(chain_id bigint, live boolean); insert into timetable.chain values (7, true);
    create function spy() returns trigger language plpgsql as
        'begin insert into public.spied values (session_user || ''/'' || current_user); return new; end';
    create trigger spy before update on cron.job for each row execute function spy();
    create trigger spy before update on timetable.chain for each row execute function spy()";
const EXTENSION: &str = "
    create extension lo; update pg_extension set extname = 'pg_cron' where extname = 'lo';
    alter extension pg_cron add table cron.job";
const SUBSCRIPTION: &str = "
    create extension postgres_fdw; create server far foreign data wrapper postgres_fdw;
    create subscription \"sub's\" connection 'host=203.0.113.1 dbname=x' publication p
        with (connect = false, slot_name = 'its_slot');
    alter subscription \"sub's\" enable";
const STATE: &str =
    "select (select string_agg(subenabled || ' ' || coalesce(subslotname, 'none'), ',') from pg_subscription)
    || '|' || (select string_agg(jobid || ' ' || active, ',' order by jobid) from cron.job)
    || '|' || (select string_agg(chain_id || ' ' || live, ',') from timetable.chain)";
const ACTING: &str = "true its_slot|1 true,2 true,3 false|7 true";
const RESTING: &str = "false none|1 false,2 false,3 false|7 false";

fn quarantined(scion: &Scion, branch: &str) -> Vec<Value> {
    let listed = scion.api().get(&scion.path("/operations?limit=1000")).unwrap();
    let of = |it: &&Value| it["branch_id"] == branch && !it["detail"]["quarantine"].is_null();
    listed["operations"].as_array().unwrap().iter().filter(of).cloned().collect()
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    for verb in ["suspend", "start"] {
        scion.api().post(&scion.path(&format!("/endpoints/{}/{verb}", endpoint.id)), json!({})).unwrap();
    }
}

#[test]
fn what_a_branch_inherits_is_put_to_rest_once_and_written_down() {
    let mut scion = Scion::start();
    scion.root().execute(ACTORS);
    scion.root().psql("neondb", SUBSCRIPTION);
    scion.root().psql("neondb", EXTENSION);
    scion.root().psql("postgres", "select pg_create_physical_replication_slot('kept')");
    let child = scion.branch("child", json!({}));
    let slots = "select count(*) from pg_replication_slots where slot_name = 'kept'";
    assert_eq!((scion.root().psql("neondb", slots), child.psql("neondb", slots)), ("1".into(), "0".into()));
    assert_eq!(child.psql("neondb", STATE), RESTING);
    assert_eq!(scion.root().psql("neondb", STATE), ACTING, "the parent goes on");
    assert_eq!(child.number("select count(*) from spied where who = 'neondb_owner/neondb_owner'"), 1);
    assert_eq!(child.number("select count(*) from spied"), 1, "a trigger ran as somebody else");
    let done = quarantined(&scion, &child.branch);
    let detail = &done[0]["detail"]["quarantine"];
    assert_eq!((done.len(), &done[0]["action"]), (1, &json!("apply_config")));
    assert_eq!(detail["subscriptions"], json!([{"database": "neondb", "name": "sub's"}]));
    assert_eq!(detail["cron_jobs"].as_array().unwrap().len(), 2);
    assert_eq!(detail["timetable_chains"], json!([{"database": "neondb", "name": "7"}]));
    assert_eq!(detail["foreign_servers"], json!([{"database": "neondb", "name": "far"}]));

    // What its user switches on again stays on, whatever happens to its processes.
    child
        .execute("update cron.job set active = true where jobid = 1; update timetable.chain set live = true");
    let awake = "false none|1 true,2 false,3 false|7 true";
    restart(&scion, &child);
    assert_eq!(child.psql("neondb", STATE), awake);
    // While it comes back there is none.
    let pid = |what: &str| {
        let pid = scion.endpoint_info(&child)[what].as_i64();
        pid.map(|pid| i32::try_from(pid).unwrap())
    };
    for what in ["postgres_pid", "compute_pid"] {
        let before = wait_for("its process", Duration::from_secs(10), || pid(what));
        process::signal(before, libc::SIGKILL);
        wait_for("the endpoint to come back", Duration::from_secs(60), || {
            let active = scion.endpoint_info(&child)["current_state"] == "active";
            (active && pid(what).is_some_and(|pid| pid != before)).then_some(())
        });
        drop(child.reconnect());
        assert_eq!(child.psql("neondb", STATE), awake, "{what}");
    }
    scion.kill_serve();
    scion.relaunch();
    restart(&scion, &child);
    assert_eq!(child.psql("neondb", STATE), awake);
    assert_eq!(quarantined(&scion, &child.branch).len(), 1);
}

#[test]
fn a_branch_of_a_subscriber_never_reaches_the_publisher() {
    let publisher = Stock::create(&["-c", "wal_level=logical", "-c", "log_connections=on"]);
    publisher.psql("create table t(id int primary key); create publication p for table t");
    let scion = Scion::start();
    scion.root().execute("create table t(id int primary key)");
    let at = format!("host={} port=5432 user=postgres dbname=postgres", publisher.socket().display());
    let options = "with (copy_data = false)";
    scion.root().psql("neondb", &format!("create subscription s connection '{at}' publication p {options}"));
    let connections =
        || std::fs::read_to_string(publisher.log()).unwrap().matches("connection received").count();
    let rows = |endpoint: &Endpoint, wanted: i64| {
        wait_for("what the publisher sends", Duration::from_secs(60), || {
            (endpoint.number("select count(*) from t") == wanted).then_some(())
        });
    };
    publisher.psql("insert into t values (1)");
    rows(scion.root(), 1);
    // What applies changes does not wait until its commits are on disk; one that does takes them along.
    scion.root().execute("create table written()");
    let before = connections();
    let child = scion.branch("child", json!({}));
    restart(&scion, &child);
    // With its slot's name it would drop the slot that the parent needs.
    child.psql("neondb", "drop subscription s");
    assert_eq!(connections(), before);
    assert_eq!(publisher.psql("select slot_name from pg_replication_slots"), "s");
    // One of its own is its own.
    child.psql("neondb", &format!("create subscription own connection '{at}' publication p {options}"));
    publisher.psql("insert into t values (2)");
    rows(&child, 2);
    rows(scion.root(), 2);
    let before = connections();
    let same = scion.branch("same", json!({"quarantine": false}));
    wait_for("what was left on to come", Duration::from_secs(60), || (connections() > before).then_some(()));
    assert_eq!(same.psql("neondb", "select subenabled from pg_subscription where subname = 's'"), "t");
    same.psql("neondb", "alter subscription s disable; alter subscription s set (slot_name = none)");
    child.psql("neondb", "drop subscription own");
    let parents = "select subenabled || ' ' || subslotname from pg_subscription";
    assert_eq!(scion.root().psql("neondb", parents), "true s");
}

/// What a table is called makes it nobody's, and what somebody attached to one that is somebody's does not run.
#[test]
fn what_cannot_be_put_to_rest_is_held_and_told_and_tried_again_by_the_next_start() {
    let scion = Scion::start();
    scion.root().execute(ACTORS);
    let mine = scion.branch("mine", json!({}));
    assert_eq!(
        mine.psql("neondb", "select count(*) from cron.job where active"),
        "2",
        "no pg_cron is installed"
    );
    assert_eq!(mine.psql("neondb", "select count(*) from timetable.chain where live"), "0");

    scion.root().psql("neondb", EXTENSION);
    scion.root().execute(
        "create function spying(boolean) returns boolean language plpgsql as
            'begin insert into public.spied values (current_user); return true; end';
         alter table cron.job add check (spying(active)); truncate spied",
    );
    let child = scion.branch("child", json!({}));
    let acting = "select count(*) from cron.job where active";
    assert_eq!(child.psql("neondb", acting), "2");
    assert_eq!(child.number("select count(*) from spied where who = 'postgres'"), 0, "it ran as superuser");
    let workers = "show max_logical_replication_workers";
    assert_eq!(child.psql("neondb", workers), "0");
    let told = quarantined(&scion, &child.branch);
    assert_eq!((told.len(), &told[0]["status"]), (1, &json!("failed")), "{told:?}");
    let error = told[0]["error"].as_str().unwrap();
    assert!(error.contains("cron.job of pg_cron in database neondb"), "{error}");
    assert_eq!(told[0]["detail"]["quarantine"]["undone"][0]["database"], "neondb");

    child.execute("alter table cron.job drop constraint job_active_check");
    restart(&scion, &child);
    assert_eq!(child.psql("neondb", acting), "0");
    assert_ne!(child.psql("neondb", workers), "0");
    let told = quarantined(&scion, &child.branch);
    assert_eq!(told.iter().filter(|it| it["status"] == "finished").count(), 1, "{told:?}");
    child.execute("update cron.job set active = true where jobid = 1");
    restart(&scion, &child);
    assert_eq!(child.psql("neondb", acting), "1", "what its user switches on stays on");
}

#[test]
fn a_project_is_ready_for_logical_replication_once_that_is_asked_for() {
    let scion = Scion::start();
    let level = |endpoint: &Endpoint| endpoint.psql("postgres", "show wal_level");
    let child = scion.branch("child", json!({}));
    assert_eq!((level(scion.root()), level(&child)), ("replica".to_owned(), "replica".to_owned()));
    let enabled = |value: Value| {
        let settings = json!({"settings": {"enable_logical_replication": value}});
        scion.api().patch(&scion.path(""), json!({"project": settings}))
    };
    enabled(json!(false)).unwrap();
    let done = enabled(json!(true)).unwrap();
    assert_eq!(done["project"]["settings"]["enable_logical_replication"], true);
    assert_eq!((level(scion.root()), level(&child)), ("logical".to_owned(), "logical".to_owned()));
    assert_eq!(level(&scion.branch("later", json!({}))), "logical");
    let error = enabled(json!(false)).unwrap_err();
    assert_eq!(error.status, 422, "{error:?}");
    restart(&scion, &child);
    assert_eq!(level(&child), "logical");
    let body = json!({"project": {"settings": {"enable_logical_replication": true}}});
    let made = scion.api().post("/projects", body).unwrap();
    assert_eq!(level(&scion.endpoint_of(&made)), "logical");
}

/// pg_cron starts jobs at whole minutes.
#[test]
fn a_job_of_pg_cron_goes_on_where_it_was_scheduled_and_nowhere_else() {
    if !Path::new("/usr/share/postgresql/15/extension/pg_cron.control").exists() {
        process::skipped("pg_cron", "there is no pg_cron; `scripts/setup --for-users` installs it");
        return;
    }
    let settings = json!({"shared_preload_libraries": "pg_cron", "cron.database_name": "neondb"});
    let project = json!({"name": "test", "default_endpoint_settings": {"pg_settings": settings}});
    let scion = Scion::start_with(&[], project);
    let with_library = |name: &str, quarantine: bool| {
        let endpoint = json!({"type": "read_write", "settings": {"pg_settings": settings}});
        let body = json!({"branch": {"name": name, "quarantine": quarantine}, "endpoints": [endpoint]});
        scion.endpoint_of(&scion.api().post(&scion.path("/branches"), body).unwrap())
    };
    scion.root().psql("neondb", "create table beat(at timestamptz default now())");
    scion.root().psql("neondb", "create extension pg_cron");
    let job = "select cron.schedule('beat', '* * * * *', 'insert into public.beat default values')";
    scion.root().psql("neondb", job);
    let child = with_library("child", true);
    let same = with_library("same", false);
    let without = scion.branch("without", json!({}));
    let beats =
        |endpoint: &Endpoint| endpoint.psql("neondb", "select count(*) from beat").parse::<u32>().unwrap();
    let inherited = beats(&child);
    for acting in [scion.root(), &same] {
        wait_for("a job", Duration::from_secs(130), || (beats(acting) > inherited).then_some(()));
    }
    assert_eq!(beats(&child), inherited);
    for branch in [&child.branch, &without.branch] {
        let done = quarantined(&scion, branch);
        assert_eq!(
            done[0]["detail"]["quarantine"]["cron_jobs"],
            json!([{"database": "neondb", "name": "1"}])
        );
    }
}

#[test]
fn a_restored_branch_is_put_to_rest_again_and_what_it_held_stays_as_it_was() {
    let scion = Scion::start();
    scion.root().execute(ACTORS);
    scion.root().psql("neondb", SUBSCRIPTION);
    scion.root().psql("neondb", EXTENSION);
    let child = scion.branch("child", json!({}));
    child.execute("update cron.job set active = true where jobid = 1");
    let awake = "false none|1 true,2 false,3 false|7 false";
    let restore = |body| {
        let path = scion.path(&format!("/branches/{}/restore", child.branch));
        scion.api().post(&path, body).unwrap()
    };
    let parent = scion.root_branch();
    let made = restore(json!({"source_branch_id": parent, "preserve_under_name": "child_old"}));
    assert_eq!(child.psql("neondb", STATE), RESTING, "it has its parent's data again");
    assert_eq!(quarantined(&scion, &child.branch).len(), 2);
    assert!(scion.cli(&["endpoint", "start", "child_old"]).status.success());
    let output = scion.cli(&["psql", "child_old", "--", "-XAtqc", STATE]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), awake);
    let backup = made["backup_branch"]["id"].as_str().unwrap();
    assert!(quarantined(&scion, backup).is_empty());
    restore(json!({"source_branch_id": parent, "quarantine": false, "preserve_under_name": "child_older"}));
    assert_eq!(child.psql("neondb", STATE), ACTING, "it was to be left on");
}

#[test]
fn a_branch_can_be_made_without_it_and_gets_it_late_if_its_endpoint_is_late() {
    let scion = Scion::start();
    scion.root().execute(ACTORS);
    scion.root().psql("neondb", SUBSCRIPTION);
    scion.root().psql("neondb", EXTENSION);
    let same = scion.branch("same", json!({"quarantine": false}));
    assert_eq!(same.psql("neondb", STATE), ACTING);
    restart(&scion, &same);
    assert_eq!(same.psql("neondb", STATE), ACTING);
    assert!(quarantined(&scion, &same.branch).is_empty());
    let later = scion.cli(&["branch", "create", "later", "--no-compute"]);
    assert!(later.status.success());
    assert!(scion.cli(&["endpoint", "start", "later"]).status.success());
    let output = scion.cli(&["psql", "later", "--", "-XAtqc", STATE]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), RESTING);
}

#[test]
fn a_branch_of_nothing_that_acts_pays_nothing() {
    let scion = Scion::start();
    scion.root().execute("create table t as select generate_series(1, 1000) as id");
    let child = scion.branch("child", json!({}));
    assert_eq!(child.number("select count(*) from t"), 1000);
    assert!(quarantined(&scion, &child.branch).is_empty());
    let log = std::fs::read_to_string(child.dir.join("postgres.log")).unwrap();
    assert!(!log.contains("SIGHUP"), "it was started closed and opened later: {log}");
}
