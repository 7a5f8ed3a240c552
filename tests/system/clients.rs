//! Neon's own published clients work against scion, unchanged: both command lines, both JavaScript packages. What is
//! answered is what Neon's OpenAPI document allows, and no request makes the server fail.
//!
//! `scripts/neon-clients` installs what these tests need; without it they are skipped, and say so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use scion_tests::clock::in_seconds;
use scion_tests::{Scion, process};
use serde_json::{Value, json};

/// Where `scripts/neon-clients` put them.
fn installed() -> Option<PathBuf> {
    let named = std::env::var_os("SCION_CLIENTS").map(PathBuf::from);
    let dir = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"));
    if dir.join("complete").exists() {
        return Some(dir.canonicalize().unwrap());
    }
    process::skipped("clients", "Neon's clients are not there; `scripts/neon-clients` installs them");
    None
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// One of Neon's command lines, with a home of its own.
struct Neon<'a> {
    scion: &'a Scion,
    program: PathBuf,
    home: tempfile::TempDir,
}

impl<'a> Neon<'a> {
    fn new(scion: &'a Scion, clients: &Path, program: &str) -> Self {
        let program = clients.join("node_modules").join(program);
        assert!(program.exists(), "{}", program.display());
        Self { scion, program, home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("node");
        command.arg(&self.program).arg("--no-analytics").args(arguments);
        command.current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("NEON_API_HOST", self.scion.api().base()).env("NEON_API_KEY", self.scion.api().key());
        command.env("CI", "1").env("NO_UPDATE_NOTIFIER", "1").env("NODE_NO_WARNINGS", "1");
        process::output(&mut command)
    }

    /// Stdout of what must succeed in the test's project.
    fn text(&self, words: &str) -> String {
        let output = self.run(&self.words(words));
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "neon {words}: {error}{out}");
        out
    }

    /// The same as JSON.
    fn json(&self, words: &str) -> Value {
        let out = self.text(&format!("{words} --output json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("neon {words}: {error}: {out}"))
    }

    /// Stderr of what must fail.
    fn refused(&self, words: &str) -> String {
        let output = self.run(&self.words(words));
        assert_eq!(output.status.code(), Some(1), "neon {words}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// What `psql` prints on a branch.
    fn psql(&self, branch: &str, sql: &str) -> String {
        let verb = format!("psql {branch}");
        let mut words = self.words(&verb);
        words.extend(["--", "-v", "ON_ERROR_STOP=1", "-Atc", sql]);
        let output = self.run(&words);
        assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    fn words<'b>(&'b self, words: &'b str) -> Vec<&'b str> {
        let mut words: Vec<_> = words.split(' ').collect();
        if !["me", "orgs", "projects"].contains(&words[0]) {
            words.extend(["--project-id", self.scion.project()]);
        }
        words
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Their names in order.
fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<_> = list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn neons_command_line_works() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let neon = Neon::new(&scion, &clients, "neon/dist/cli.js");
    projects(&neon);
    branches(&neon);
    connection_strings(&neon);
    data(&neon);
    reset_and_restore(&neon);
    roles_and_databases(&neon);
    limits(&neon);
    snapshots(&neon);
    checkout(&neon);
}

#[test]
fn neons_command_line_recovers_projects() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let neon = Neon::new(&scion, &clients, "neon/dist/cli.js");
    let id = scion.project();
    neon.json(&format!("projects delete {id}"));
    assert!(neon.text("projects list --recoverable-only").contains(id));
    assert_eq!(neon.json(&format!("projects recover {id}"))["id"], json!(id));
    scion.root().reconnect();
}

#[test]
fn neons_old_command_line_works() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let neon = Neon::new(&scion, &clients, "neonctl-2.22/cli.js");
    projects(&neon);
    branches(&neon);
    roles_and_databases(&neon);
    let uri = neon.text("connection-string dev --database-name neondb --role-name neondb_owner");
    assert!(uri.starts_with("postgresql://neondb_owner:"), "{uri}");
    assert!(neon.refused("branches delete dev").contains("children"));
    neon.json("branches delete bare");
    neon.json("branches reset dev --parent");
    neon.json("branches delete dev");
}

fn projects(neon: &Neon<'_>) {
    let me = neon.json("me");
    assert!(me["login"].is_string() && me["email"].is_string() && me["projects_limit"].is_number(), "{me}");
    assert_eq!(neon.json("orgs list").as_array().unwrap().len(), 1);
    let made = neon.json("projects create --name second");
    let uri = made["connection_uris"][0]["connection_uri"].as_str().unwrap();
    assert!(uri.starts_with("postgresql://neondb_owner:") && uri.contains("/neondb"), "{made}");
    let id = made["project"]["id"].as_str().unwrap();
    assert_eq!(neon.json(&format!("projects get {id}"))["id"], json!(id));
    assert!(neon.text("projects list").contains("second"));
    let changed = neon.json(&format!("projects update {id} --name third --cu 0.5-1"));
    let changed = (&changed["name"], &changed["default_endpoint_settings"]["autoscaling_limit_max_cu"]);
    assert_eq!(changed, (&json!("third"), &json!(1)));
    assert_eq!(neon.json(&format!("projects delete {id}"))["id"], json!(id));
    assert!(!neon.text("projects list").contains("third"));
}

fn branches(neon: &Neon<'_>) {
    let all = neon.json("branches list");
    assert_eq!((names(&all), &all[0]["default"]), (vec!["main"], &json!(true)));
    assert!(all[0].get("parent_id").is_none(), "{all}");
    assert!(neon.text("branches list").contains("main"));
    let made = neon.json("branches create --name dev");
    assert_eq!(made["branch"]["parent_id"], all[0]["id"]);
    assert_eq!(made["endpoints"][0]["type"], json!("read_write"));
    assert_eq!(made["connection_uris"].as_array().unwrap().len(), 1);
    neon.json("branches create --name no/compute --no-compute --parent dev");
    let got = neon.json("branches get no/compute");
    assert_eq!((&got["parent_id"], &got["init_source"]), (&made["branch"]["id"], &json!("parent-data")));
    assert_eq!(neon.json("branches rename no/compute bare")["name"], json!("bare"));
    assert!(neon.json("operations list").as_array().unwrap().len() > 3);
}

fn connection_strings(neon: &Neon<'_>) {
    let uri = neon.text("connection-string dev");
    assert!(uri.trim_end().ends_with("/neondb?sslmode=require&channel_binding=require"), "{uri}");
    let parts = neon.json("cs dev --pooled --extended");
    let parts = (&parts["role"], &parts["database"], parts["password"].is_string());
    assert_eq!(parts, (&json!("neondb_owner"), &json!("neondb"), true));
    assert!(neon.text("cs dev --prisma --ssl omit").contains("connect_timeout=30"));
}

fn data(neon: &Neon<'_>) {
    neon.psql("main", "create table t as select g as id, 'm' as v from generate_series(1, 1000) g");
    neon.text("branches create --name d2 --parent main");
    neon.psql("d2", "update t set v = 'd' where id <= 10; delete from t where id > 500");
    neon.psql("main", "insert into t values (5000, 'late')");
    assert_eq!(neon.psql("main", "select count(*), count(*) filter (where v = 'd') from t"), "1001|0");
    assert_eq!(neon.psql("d2", "select count(*), count(*) filter (where id = 5000) from t"), "500|0");
    let by_hand = neon.run(
        &[neon.words("psql d2 --fallback"), vec!["--", "-Atc", "select current_user, count(*) from t"]]
            .concat(),
    );
    assert_eq!(text(&by_hand.stdout).trim(), "neondb_owner|500", "{}", text(&by_hand.stderr));
    let moment = neon.psql("main", "select pg_current_wal_flush_lsn()");
    neon.psql("main", "drop table t");
    neon.text(&format!("branches create --name past --parent {moment}"));
    assert_eq!(neon.psql("past", "select count(*) from t"), "1001");
    let differs = neon.text("branches schema-diff main past --no-color");
    assert!(differs.contains("+CREATE TABLE public.t"), "{differs}");
}

fn reset_and_restore(neon: &Neon<'_>) {
    let before = neon.json("branches get d2");
    let uri = neon.text("cs d2");
    let reset = neon.json("branches reset d2 --parent");
    assert_eq!((&reset["id"], reset["last_reset_at"].is_string()), (&before["id"], true));
    assert_eq!(neon.text("cs d2"), uri);
    assert_eq!(neon.psql("d2", "select to_regclass('t') is null"), "t");
    assert!(neon.refused("branches reset main --parent").contains("no parent"));
    neon.psql("d2", "create table kept()");
    let moment = neon.psql("d2", "select pg_current_wal_flush_lsn()");
    neon.psql("d2", "drop table kept");
    assert!(neon.refused(&format!("branches restore d2 ^self@{moment}")).contains("preserve_under_name"));
    let told = neon.text(&format!("branches restore d2 ^self@{moment} --preserve-under-name d2_old"));
    assert!(told.contains("d2_old"), "{told}");
    assert_eq!(neon.psql("d2", "select count(*) from kept"), "0");
    assert_eq!(neon.json("branches get d2_old")["name"], json!("d2_old"));
}

fn roles_and_databases(neon: &Neon<'_>) {
    let app = neon.json("databases create --name app --branch dev");
    assert_eq!((&app["name"], &app["owner_name"]), (&json!("app"), &json!("neondb_owner")));
    assert_eq!(names(&neon.json("databases list --branch dev")), ["app", "neondb"]);
    assert!(neon.refused("cs dev").contains("Multiple databases found"));
    assert_eq!(neon.json("roles create --name alice --branch dev")["name"], json!("alice"));
    let uri = neon.text("cs dev --role-name alice --database-name app");
    assert!(uri.starts_with("postgresql://alice:"), "{uri}");
}

/// Expiry, protection, the default branch, who may connect.
fn limits(neon: &Neon<'_>) {
    let soon = in_seconds(7200);
    let made = neon.json(&format!("branches create --name ttl --expires-at {soon} --no-compute"));
    assert!(made["expires_at"].is_string(), "{made}");
    assert!(neon.json("branches set-expiration ttl")["expires_at"].is_null());
    let made = neon.json("branches create --name prot --protected --no-compute");
    assert_eq!(made["protected"], json!(true));
    neon.json("branches create --name under --parent prot");
    let password = |uri: &str| uri.split('@').next().unwrap().to_owned();
    let (theirs, its) = (neon.text("cs main --database-name neondb"), neon.text("cs under"));
    assert_ne!(password(&its), password(&theirs), "a child of a protected branch has a password of its own");
    assert_eq!(neon.psql("under", "select current_user"), "neondb_owner");
    assert_eq!(neon.json("branches set-default ttl")["default"], json!(true));
    neon.json("branches set-default main");
    assert!(neon.refused("branches delete main").contains("ERROR: "));
    let allowed = neon.json("ip-allow add 203.0.113.1 203.0.113.0/24 --protected-only");
    assert_eq!(allowed["IP_addresses"], json!(["203.0.113.1", "203.0.113.0/24"]));
    let allowed = neon.json("ip-allow reset");
    assert_eq!(allowed["IP_addresses"], json!([]));
}

/// Snapshots of the head and of an LSN of the branch, by name, slug and id; restored in one step and in two.
fn snapshots(neon: &Neon<'_>) {
    neon.text("branches create --name shop --parent main");
    neon.psql("shop", "create table sold as select generate_series(1, 1000) as id");
    let moment = neon.psql("shop", "select pg_current_wal_flush_lsn()");
    neon.psql("shop", "delete from sold where id > 10");
    let made = neon.json("snapshots create --branch shop --name few --expires-at 2099-01-01T00:00:00Z");
    assert_eq!((&made["name"], &made["expires_at"]), (&json!("few"), &json!("2099-01-01T00:00:00Z")));
    let all = neon.json(&format!("snapshots create --branch shop --slug all-sold --lsn {moment}"));
    assert_eq!((&all["slug"], &all["lsn"]), (&json!("all-sold"), &json!(moment)));
    assert_eq!(neon.json("snapshots list").as_array().unwrap().len(), 2);
    assert!(neon.json("snapshots get all-sold")["full_size"].as_i64().unwrap() > 1 << 20);
    let changed = neon.json("snapshots update few --name ten --clear-expiration");
    assert_eq!((&changed["name"], changed["expires_at"].is_null()), (&json!("ten"), true));

    let restored = neon.json("snapshots restore all-sold --name look");
    assert_eq!(restored["restored_branch"]["name"], json!("look"), "{restored}");
    assert_eq!(neon.psql("look", "select count(*) from sold"), "1000");
    assert_eq!(neon.psql("shop", "select count(*) from sold"), "10");
    let uri = neon.text("cs shop");
    assert!(neon.json("snapshots finalize look").as_array().is_some_and(|done| !done.is_empty()));
    assert_eq!(neon.text("cs shop"), uri);
    assert_eq!(neon.psql("shop", "select count(*) from sold"), "1000");
    let restored = neon.json("snapshots restore ten --target-branch shop --finalize");
    assert_eq!(restored["restored_branch"]["name"], json!("shop"), "{restored}");
    assert_eq!(
        (neon.text("cs shop"), neon.psql("shop", "select count(*) from sold")),
        (uri, "10".to_owned())
    );

    let daily = "snapshots schedule set --branch shop --frequency daily --hour 3 --retention 604800";
    neon.json(daily);
    let planned = json!([{"frequency": "daily", "hour": 3, "retention_seconds": 604_800}]);
    assert_eq!(neon.json("snapshots schedule get --branch shop"), planned);
    assert!(neon.refused("snapshots create --branch shop --name ten").contains("already exists"));
    neon.json("snapshots delete ten");
    assert!(neon.refused("snapshots get ten").contains("not found"));
}

/// A directory works on a branch: what runs in it finds the branch's connection string in its environment.
fn checkout(neon: &Neon<'_>) {
    let told = neon.run(&["link", "--branch", "main", "--project-id", neon.scion.project()]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let told = neon.run(&["checkout", "shop"]);
    let said = text(&told.stderr);
    assert!(told.status.success() && !said.contains("WARNING"), "{said}");
    let environment = std::fs::read_to_string(neon.home.path().join(".env.local")).unwrap();
    let uri = neon.text("cs shop");
    let found = environment.lines().find_map(|line| line.strip_prefix("DATABASE_URL="));
    let found = found.map(|found| found.trim_matches('"').split('?').next().unwrap());
    assert_eq!(found, uri.split('?').next(), "{environment}");
}

#[test]
fn neons_javascript_packages_work_and_node_postgres_connects() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let api = scion.api();
    let mut node = Command::new("node");
    node.arg(script("sdk.mjs")).args([api.base(), api.key(), scion.project()]).current_dir(clients);
    let said = process::run(&mut node);
    let expected = [
        "created 201 create_branch,start_compute",
        "node-postgres neondb_owner",
        "listed 1",
        "deleted 200",
        "missing 404 string",
    ];
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.get(..expected.len()), Some(&expected[..]), "{said}");
    let uri = lines.last().unwrap().trim_start_matches("connects ");
    postgres::Client::connect(uri, postgres::NoTls).unwrap().query_one("select 1", &[]).unwrap();
}

/// Requests whose answers are kept beside the path that Neon's document has for them.
struct Recorder<'a> {
    scion: &'a Scion,
    answers: Vec<Value>,
}

impl Recorder<'_> {
    /// The answer to what must succeed.
    fn ask(&mut self, method: &str, path: &str, ids: &[&str], body: Value) -> Value {
        let (status, answer) = self.send(method, path, ids, body);
        assert!((200..300).contains(&status), "{method} {path} {ids:?}: {status} {answer}");
        answer
    }

    /// Sends what must be refused with this status.
    fn refused(&mut self, status: u16, method: &str, path: &str, ids: &[&str], body: Value) {
        let (said, answer) = self.send(method, path, ids, body);
        assert_eq!(said, status, "{method} {path} {ids:?}: {answer}");
    }

    /// `path` is one of the document, and may have a query.
    fn send(&mut self, method: &str, path: &str, ids: &[&str], body: Value) -> (u16, Value) {
        let mut ids = ids.iter();
        let filled = path.split('/').map(|part| match part.strip_prefix('{') {
            Some("project_id}") => self.scion.project().to_owned(),
            Some(_) => (*ids.next().unwrap()).to_owned(),
            None => part.to_owned(),
        });
        let filled = filled.collect::<Vec<_>>().join("/");
        let (status, answer) = self.scion.api().ask(method, &filled, &body);
        let path = path.split('?').next();
        self.answers.push(json!({"method": method, "path": path, "status": status, "body": answer}));
        (status, answer)
    }

    fn get(&mut self, path: &str, ids: &[&str]) -> Value {
        self.ask("get", path, ids, Value::Null)
    }
}

#[test]
fn what_is_answered_is_what_neons_document_allows() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let mut recorder = Recorder { scion: &scion, answers: Vec::new() };
    routes(&mut recorder);
    let mut node = Command::new("node");
    node.arg(script("validate.mjs")).current_dir(clients).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = node.spawn().unwrap();
    let answers = serde_json::to_vec(&recorder.answers).unwrap();
    child.stdin.take().unwrap().write_all(&answers).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).trim(), "");
}

fn routes(recorder: &mut Recorder<'_>) {
    const P: &str = "/projects/{project_id}";
    const B: &str = "/projects/{project_id}/branches/{branch_id}";
    const KEYS: &str = "/organizations/{org_id}/api_keys";
    let at = |rest: &str| format!("{P}{rest}");
    let root = recorder.scion.root_branch().to_owned();
    recorder.ask("post", "/projects", &[], json!({"project": {"name": "second"}}));
    let made = recorder.ask("post", "/api_keys", &[], json!({"key_name": "ci"}));
    for path in ["/projects", "/projects/shared", "/api_keys", "/users/me"] {
        recorder.get(path, &[]);
    }
    for path in ["/regions", "/auth", P] {
        recorder.get(path, &[]);
    }
    recorder.ask("delete", "/api_keys/{key_id}", &[&made["id"].to_string()], Value::Null);
    let team = text_of(&recorder.get("/users/me/organizations", &[])["organizations"][0]["id"]);
    let made = recorder.ask("post", KEYS, &[&team], json!({"key_name": "team"}));
    recorder.get(KEYS, &[&team]);
    recorder.ask("delete", &format!("{KEYS}/{{key_id}}"), &[&team, &made["id"].to_string()], Value::Null);
    let project = json!({"project": {"name": "new", "history_retention_seconds": 3600}});
    recorder.ask("patch", P, &[], project);
    let wanted = json!({"branch": {"name": "dev"}, "endpoints": [{"type": "read_write"}]});
    let made = recorder.ask("post", &at("/branches"), &[], wanted);
    let (id, endpoint) = (text_of(&made["branch"]["id"]), text_of(&made["endpoints"][0]["id"]));
    let (id, endpoint) = (id.as_str(), endpoint.as_str());
    for path in ["/branches", "/branches/count", "/endpoints", "/operations"] {
        recorder.get(&at(path), &[]);
    }
    for rest in ["", "/endpoints", "/roles", "/databases", "/buckets", "/functions", "/credentials"] {
        recorder.get(&format!("{B}{rest}"), &[id]);
    }
    recorder.ask("patch", B, &[id], json!({"branch": {"name": "dev2"}}));
    let role = recorder.ask("post", &format!("{B}/roles"), &[id], json!({"role": {"name": "alice"}}));
    assert_eq!(role["role"]["name"], json!("alice"));
    let database = json!({"database": {"name": "app", "owner_name": "alice"}});
    recorder.ask("post", &format!("{B}/databases"), &[id], database);
    recorder.get(&format!("{B}/roles/{{role_name}}"), &[id, "alice"]);
    recorder.get(&format!("{B}/roles/{{role_name}}/reveal_password"), &[id, "alice"]);
    recorder.ask("post", &format!("{B}/roles/{{role_name}}/reset_password"), &[id, "alice"], json!({}));
    recorder.get(&format!("{P}/connection_uri?branch_id={id}&database_name=app&role_name=alice"), &[]);
    recorder.get(&format!("{B}/schema?db_name=app"), &[id]);
    recorder.get(&format!("{B}/schema?db_name=app&format=json"), &[id]);
    recorder.get(&format!("{B}/compare_schema?db_name=neondb"), &[id]);
    recorder.get(&format!("{B}/databases/{{database_name}}"), &[id, "app"]);
    let renamed = json!({"database": {"name": "shop"}});
    recorder.ask("patch", &format!("{B}/databases/{{database_name}}"), &[id, "app"], renamed);
    recorder.ask("delete", &format!("{B}/databases/{{database_name}}"), &[id, "shop"], Value::Null);
    recorder.ask("delete", &format!("{B}/roles/{{role_name}}"), &[id, "alice"], Value::Null);
    let restore = json!({"source_branch_id": root});
    recorder.ask("post", &format!("{B}/restore"), &[id], restore);
    recorder.ask("post", &format!("{B}/set_as_default"), &[id], json!({}));
    recorder.ask("post", &format!("{B}/set_as_default"), &[&root], json!({}));
    recorder.get(&at("/endpoints/{endpoint_id}"), &[endpoint]);
    for verb in ["suspend", "start", "restart"] {
        recorder.ask("post", &at(&format!("/endpoints/{{endpoint_id}}/{verb}")), &[endpoint], json!({}));
    }
    let settings = json!({"endpoint": {"autoscaling_limit_max_cu": 1}});
    recorder.ask("patch", &at("/endpoints/{endpoint_id}"), &[endpoint], settings);
    recorder.ask("delete", &at("/endpoints/{endpoint_id}"), &[endpoint], Value::Null);
    let wanted = json!({"endpoint": {"branch_id": id, "type": "read_write"}});
    let made = recorder.ask("post", &at("/endpoints"), &[], wanted);
    recorder.get(&at("/operations/{operation_id}"), &[&text_of(&made["operations"][0]["id"])]);
    routes_of_snapshots(recorder, id);
    recorder.refused(404, "get", B, &["br-not-there-1"], Value::Null);
    recorder.refused(409, "post", &at("/branches"), &[], json!({"branch": {"name": "dev2"}}));
    recorder.ask("delete", B, &[id], Value::Null);
    recorder.ask("post", &format!("{B}/recover"), &[id], json!({}));
    recorder.ask("delete", P, &[], Value::Null);
    recorder.get("/projects", &[]);
    recorder.refused(404, "get", P, &[], Value::Null);
    let back = recorder.ask("post", &at("/recover"), &[], Value::Null);
    assert_eq!(back["branches"][0]["name"], json!("main"));
    recorder.refused(422, "post", &at("/recover"), &[], Value::Null);
}

fn routes_of_snapshots(recorder: &mut Recorder<'_>, branch: &str) {
    const B: &str = "/projects/{project_id}/branches/{branch_id}";
    const S: &str = "/projects/{project_id}/snapshots";
    let one = format!("{S}/{{snapshot_id}}");
    let made = recorder.ask("post", &format!("{B}/snapshot"), &[branch], Value::Null);
    let id = text_of(&made["snapshot"]["id"]);
    recorder.get(S, &[]);
    recorder.ask("patch", &one, &[&id], json!({"snapshot": {"name": "renamed"}}));
    let restored = recorder.ask("post", &format!("{one}/restore"), &[&id], json!({}));
    let restored = text_of(&restored["branch"]["id"]);
    recorder.ask("post", &format!("{B}/finalize_restore"), &[&restored], json!({}));
    let planned = json!({"schedule": [{"frequency": "weekly", "day": 7, "retention_seconds": 86_400}]});
    recorder.ask("put", &format!("{B}/backup_schedule"), &[branch], planned);
    recorder.get(&format!("{B}/backup_schedule"), &[branch]);
    recorder.ask("delete", &one, &[&id], Value::Null);
    recorder.refused(404, "delete", &one, &[&id], Value::Null);
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn no_request_makes_the_server_fail() {
    let Some(clients) = installed() else { return };
    let scion = Scion::start();
    let mut judge = Command::new(clients.join("python/bin/schemathesis"));
    judge.arg("run").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/openapi.json"));
    judge.args([
        "--url",
        scion.api().base(),
        "--checks",
        "not_a_server_error",
        "--phases",
        "examples,fuzzing",
    ]);
    judge.args(["--max-examples", "15", "--seed", "7", "--exclude-path", "/shutdown"]);
    judge.arg("--header").arg(format!("Authorization: Bearer {}", scion.api().key()));
    judge.current_dir(scion.data_dir());
    let output = process::output(&mut judge);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
