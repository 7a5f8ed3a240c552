//! Schemas of branches at any moment, and what differs between them.

use scion_tests::Scion;
use serde_json::json;

fn schema(scion: &Scion, branch: &str, query: &str) -> Result<String, scion_tests::ApiError> {
    let path = scion.path(&format!("/branches/{branch}/schema?db_name=neondb{query}"));
    scion.api().get(&path).map(|answer| answer["sql"].as_str().unwrap().to_owned())
}

fn endpoints_on_disk(scion: &Scion) -> usize {
    std::fs::read_dir(scion.data_dir().join("endpoints")).unwrap().count()
}

#[test]
fn a_schema_is_shown_as_it_is_and_as_it_was() {
    let scion = Scion::start();
    let (root, branch) = (scion.root(), scion.root_branch());
    root.execute("create table kept(id int primary key, secret text)");
    let then = root.psql("postgres", "select pg_current_wal_flush_lsn()");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let moment = root.psql(
        "postgres",
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    std::thread::sleep(std::time::Duration::from_millis(20));
    root.execute("alter table kept add column late int; create view v as select 1; insert into kept values (1, 'hush', 2)");

    let now = schema(&scion, branch, "").unwrap();
    assert!(now.contains("late integer") && now.contains("CREATE VIEW public.v"), "{now}");
    assert!(!now.contains("hush") && !now.contains("restrict"), "{now}");
    for query in [format!("&lsn={then}"), format!("&timestamp={moment}")] {
        let past = schema(&scion, branch, &query).unwrap();
        assert!(past.contains("secret text") && !past.contains("late"), "{query}: {past}");
    }
    assert_eq!(endpoints_on_disk(&scion), 1, "a hidden endpoint was left");
    let branches = scion.api().get(&scion.path("/branches")).unwrap();
    assert_eq!(branches["branches"].as_array().unwrap().len(), 1);
    assert_eq!(schema(&scion, branch, "&lsn=F/FFFFFFFF").unwrap_err().status, 422);
    assert_eq!(schema(&scion, branch, "&format=xml").unwrap_err().status, 400);
    let absent =
        scion.api().get(&scion.path(&format!("/branches/{branch}/schema?db_name=absent"))).unwrap_err();
    assert!(absent.status == 404 && absent.message.contains("absent"), "{absent:?}");
    assert_eq!(endpoints_on_disk(&scion), 1, "a refused question left a hidden endpoint");
    // To libpq this would be a connection string.
    root.psql("postgres", "create database \"host=127.0.0.1 port=1\"");
    let named = format!("/branches/{branch}/schema?db_name=host%3D127.0.0.1%20port%3D1");
    let empty = scion.api().get(&scion.path(&named)).unwrap();
    assert!(empty["sql"].as_str().unwrap().contains("PostgreSQL database dump"), "{empty}");
}

/// Each question of the past is answered by a Postgres of its own; they wait for each other when there are many.
#[test]
fn many_questions_at_once_are_all_answered_by_few_servers() {
    const ASKED: usize = 12;
    const OF_PROJECT: usize = 4;
    let scion = Scion::start();
    let (root, branch) = (scion.root(), scion.root_branch());
    root.execute("create table kept(id int)");
    let then = root.psql("postgres", "select pg_current_wal_flush_lsn()");
    root.execute("drop table kept");
    let most = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let (scion, then) = (&scion, &then);
            let query = format!("db_name=neondb&lsn={then}");
            let compared = format!("/branches/{branch}/compare_schema?base_branch_id={branch}&{query}");
            scope.spawn(move || match n % 2 {
                0 => assert!(
                    schema(scion, branch, &format!("&lsn={then}")).unwrap().contains("TABLE public.kept")
                ),
                // Of the past and of a moment in it: two of them.
                _ => {
                    let diff = scion.api().get(&scion.path(&format!("{compared}&base_lsn={then}"))).unwrap();
                    assert_eq!(diff["diff"], "");
                }
            })
        };
        let asking: Vec<_> = (0..ASKED).map(ask).collect();
        let mut most = 0;
        while asking.iter().any(|it| !it.is_finished()) {
            most = most.max(endpoints_on_disk(&scion) - 1);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        most
    });
    assert!((1..=OF_PROJECT).contains(&most), "{most} at once");
    assert_eq!(endpoints_on_disk(&scion), 1);
}

#[test]
fn tables_are_listed_as_they_are_and_as_they_were() {
    let scion = Scion::start();
    let (root, branch) = (scion.root(), scion.root_branch());
    root.execute(
        "create schema shop; create table shop.item(id int primary key, size numeric(8, 2) not null)",
    );
    let then = root.psql("postgres", "select pg_current_wal_flush_lsn()");
    root.execute(
        "create table \"Sold\"(
            item int, place int, twice int generated always as (place * 2) stored, at timestamptz,
            constraint sold_once unique (place, item),
            constraint sold_item foreign key (item) references shop.item)",
    );
    root.execute("alter table \"Sold\" drop column at; create view v as select 1");
    let tables = |query: &str| {
        let path = format!("/branches/{branch}/schema?db_name=neondb&format=json{query}");
        scion.api().get(&scion.path(&path)).unwrap()["json"]["tables"].clone()
    };
    let column = |name: &str, kind: &str, nullable: bool, generated: bool| json!({"name": name, "type": kind, "nullable": nullable, "generated": generated});
    let item = json!({
        "schema": "shop", "name": "item",
        "columns": [column("id", "integer", false, false), column("size", "numeric(8,2)", false, false)],
        "constraints": [{"type": "primary_key", "name": "item_pkey", "columns": ["id"]}],
    });
    let to = json!({"schema": "shop", "table": "item", "columns": ["id"]});
    let sold = json!({
        "schema": "public", "name": "Sold",
        "columns": [
            column("item", "integer", true, false),
            column("place", "integer", true, false),
            column("twice", "integer", true, true),
        ],
        "constraints": [
            {"type": "foreign_key", "name": "sold_item", "columns": ["item"], "referenced_table": to},
            {"type": "unique", "name": "sold_once", "columns": ["place", "item"]},
        ],
    });
    assert_eq!(tables(""), json!([sold, item]));
    assert_eq!(tables(&format!("&lsn={then}")), json!([item]));
}

#[test]
fn branches_are_compared_with_their_parents_and_with_their_past() {
    let scion = Scion::start();
    scion.root().execute("create table t(id int primary key)");
    let child = scion.branch("child", json!({}));
    let compare = |rest: &str| {
        let path = format!("/branches/{}/compare_schema?db_name=neondb{rest}", child.branch);
        scion.api().get(&scion.path(&path)).unwrap()["diff"].as_str().unwrap().to_owned()
    };
    assert_eq!(compare(""), "");
    let before = child.psql("postgres", "select pg_current_wal_flush_lsn()");
    child.execute("alter table t add column more text");
    scion.root().execute("create table only_parent(x int)");
    let diff = compare("");
    assert!(diff.starts_with("--- a/neondb\n+++ b/neondb\n@@ "), "{diff}");
    assert!(
        diff.contains("\n+    more text") && diff.contains("\n-CREATE TABLE public.only_parent ("),
        "{diff}"
    );
    let own = compare(&format!("&base_branch_id={}&base_lsn={before}", child.branch));
    assert!(own.contains("\n+    more text") && !own.contains("only_parent"), "{own}");

    // Without an endpoint, and with one that is idle.
    let idle = scion.try_branch("idle", json!({"parent_id": child.branch}), false).unwrap();
    let idle = idle["branch"]["id"].as_str().unwrap();
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", child.id)), json!({})).unwrap();
    let path = scion.path(&format!("/branches/{idle}/compare_schema?db_name=neondb"));
    assert_eq!(scion.api().get(&path).unwrap()["diff"], "");
    assert_eq!(scion.endpoint_info(&child)["current_state"], "idle");
    let root = scion.path(&format!("/branches/{}/compare_schema?db_name=neondb", scion.root_branch()));
    assert_eq!(scion.api().get(&root).unwrap_err().status, 422);

    let output = scion.cli(&["schema-diff", "child", "main"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("\n+    more text"), "{text}");
    assert!(!text.contains('\u{1b}'), "colour where no terminal is");
    let same = scion.cli(&["schema-diff", "idle"]);
    assert!(same.status.success() && same.stdout.is_empty());
    assert_eq!(endpoints_on_disk(&scion), 2);
}

#[test]
fn a_branch_is_deleted_while_its_schema_is_asked_for() {
    let scion = Scion::start();
    for round in 0..3 {
        let made = scion.try_branch(&format!("b{round}"), json!({}), false).unwrap();
        let path = scion.path(&format!("/branches/{}", made["branch"]["id"].as_str().unwrap()));
        let (api, asked) = (scion.api().clone(), format!("{path}/schema?db_name=neondb"));
        let asking = std::thread::spawn(move || api.get(&asked));
        std::thread::sleep(std::time::Duration::from_millis(60 * round));
        scion.api().delete(&path).unwrap();
        assert_eq!(scion.api().get(&path).unwrap_err().status, 404);
        let answer = asking.join().unwrap();
        assert!(answer.as_ref().is_ok_and(|it| it["sql"].is_string()) || answer.unwrap_err().status == 404);
    }
    assert_eq!(endpoints_on_disk(&scion), 1);
}

#[test]
fn a_hidden_endpoint_is_gone_after_kill_9_of_the_server() {
    let mut scion = Scion::start();
    scion.root().execute("create table t(id int primary key)");
    let lsn = scion.root().psql("postgres", "select pg_current_wal_flush_lsn()");
    scion.root().execute("create table t2(id int primary key)");
    let branch = scion.root_branch().to_owned();
    let path = scion.path(&format!("/branches/{branch}/schema?db_name=neondb&lsn={lsn}"));
    let mut seen = 0;
    for _ in 0..4 {
        let (api, path) = (scion.api().clone(), path.clone());
        let asking = std::thread::spawn(move || api.get(&path));
        let appeared = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            endpoints_on_disk(&scion) > 1
        });
        scion.kill_serve();
        let _ = asking.join().unwrap();
        seen += usize::from(appeared && endpoints_on_disk(&scion) > 1);
        scion.relaunch();
        assert_eq!(endpoints_on_disk(&scion), 1);
    }
    assert!(seen > 0, "the server was never killed while a hidden endpoint was there");
    assert!(!schema(&scion, &branch, &format!("&lsn={lsn}")).unwrap().contains("t2"));
}
