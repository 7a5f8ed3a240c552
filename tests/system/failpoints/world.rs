//! A server whose state can be looked at as a whole, and brought back to what it began with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use postgres::{Client, NoTls};
use rusqlite::{Connection, OpenFlags};
use scion_tests::server::{mounts_below, processes_in};
use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

/// How long a server that was started again may take to finish or undo what it finds.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// What there is beside what a test makes.
const BRANCHES: [&str; 2] = ["main", "child"];

/// A server with the branches `main` and `child`, both running.
pub struct World {
    pub scion: Scion,
    pub child: Endpoint,
}

impl World {
    pub fn new() -> Self {
        let steps = |dir: &std::path::Path| {
            vec![("SCION_FAILPOINTS".to_owned(), dir.join("steps").to_str().unwrap().to_owned())]
        };
        let scion = Scion::start_in(&[], json!({"name": "test"}), steps);
        scion.root().execute("create table mark(v text); insert into mark values ('main')");
        let child = scion.branch("child", json!({}));
        child.execute("insert into mark values ('child')");
        Self { scion, child }
    }

    pub fn has_failpoints(&self) -> bool {
        self.scion.data_dir().join("steps").exists()
    }

    /// The lines that the server wrote about its steps.
    pub fn steps(&self) -> Vec<String> {
        let text = fs::read_to_string(self.scion.data_dir().join("steps")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Where the server was killed last.
    pub fn last_kill(&self) -> String {
        self.steps().into_iter().rfind(|line| line.starts_with("killed")).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        self.scion.api().get(path).unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    fn listed(&self, path: &str, kind: &str) -> Vec<Value> {
        self.get(path)[kind].as_array().unwrap().clone()
    }

    pub fn post(&self, path: &str, body: Value) -> Value {
        self.scion.api().post(path, body).unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Makes a branch called `target` with data of its own, and an endpoint if `running`; its id.
    pub fn target(&self, running: bool) -> String {
        let made = self.scion.try_branch("target", json!({}), running).unwrap();
        if running {
            self.scion.endpoint_of(&made).execute("insert into mark values ('target')");
        }
        id_of(&made["branch"])
    }

    /// The metadata, while the server runs or not.
    pub fn metadata(&self) -> Connection {
        let file = self.scion.data_dir().join("scion.sqlite");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(file, flags).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }

    pub fn texts(&self, sql: &str) -> BTreeSet<String> {
        let connection = self.metadata();
        let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Everything that a user can see, without ids and times; `None` while something is under way.
    pub fn view(&self) -> Result<Value, String> {
        let branches = self.listed(&self.scion.path("/branches?include_deleted=true&limit=1000"), "branches");
        let names: BTreeMap<String, String> =
            branches.iter().map(|it| (id_of(it), timeless(it["name"].as_str().unwrap()))).collect();
        let name = |id: &Value| id.as_str().map(|id| names.get(id).map_or("?", String::as_str).to_owned());
        let mut seen: Vec<Value> = branches
            .iter()
            .map(|it| {
                json!([
                    name(&it["id"]),
                    name(&it["parent_id"]),
                    it["protected"],
                    it["default"],
                    it["init_source"],
                    it["recovery"].is_null(),
                    it["expires_at"].is_null(),
                    it["last_reset_at"].is_null(),
                    it["restore_status"],
                    name(&it["restored_as"])
                ])
            })
            .collect();
        seen.sort_by_key(Value::to_string);
        let mut running = BTreeMap::new();
        for it in self.listed(&self.scion.path("/endpoints"), "endpoints") {
            if !it["pending_state"].is_null() {
                return Err(format!("endpoint {} is not what it is to be", it["id"]));
            }
            let branch = name(&it["branch_id"]).unwrap();
            let data =
                if it["current_state"] == "active" { self.data(&it["branch_id"])? } else { json!(null) };
            running.insert(branch, json!([data, it["settings"]["pg_settings"]]));
        }
        Ok(json!({
            "branches": seen,
            "endpoints": running,
            "snapshots": named(&self.listed(&self.scion.path("/snapshots"), "snapshots")),
            "schedules": named(&self.listed(&self.scion.path("/branch_schedules"), "branch_schedules")),
            "backups": self.get(&self.scion.path(&format!("/branches/{}/backup_schedule", self.child.branch))),
            "keys": named(self.get("/api_keys").as_array().unwrap()),
            "projects": named(&self.listed(PROJECTS, "projects")),
            "deleted projects": named(&self.listed(DELETED_PROJECTS, "projects")),
            "history": self.get(&self.scion.path(""))["project"]["history_retention_seconds"],
            "catalog": self.catalog()?,
        }))
    }

    /// What a client of the owner finds on a branch.
    fn data(&self, branch: &Value) -> Result<Value, String> {
        let branch = branch.as_str().unwrap();
        let query = format!("/connection_uri?branch_id={branch}&database_name=neondb&role_name=neondb_owner");
        let found = self.scion.api().get(&self.scion.path(&query)).map_err(|error| error.message)?;
        let uri = found["uri"].as_str().unwrap().to_owned();
        let mut client = Client::connect(&uri, NoTls).map_err(|error| format!("{branch}: {error:?}"))?;
        let sql = "select coalesce(string_agg(v, ' ' order by v), '') from mark";
        let table = client.query_one("select to_regclass('mark') is not null", &[]);
        match table.map(|row| row.get::<_, bool>(0)) {
            Ok(true) => {}
            Ok(false) => return Ok(json!("no table")),
            Err(error) => return Err(error.to_string()),
        }
        client
            .query_one(sql, &[])
            .map(|row| json!(row.get::<_, String>(0)))
            .map_err(|error| error.to_string())
    }

    /// Roles of `child` and whether the password that is told opens it; its databases and their owners.
    fn catalog(&self) -> Result<Value, String> {
        let of = |rest: &str| self.scion.path(&format!("/branches/{}{rest}", self.child.branch));
        let mut roles = BTreeMap::new();
        for role in self.listed(&of("/roles"), "roles") {
            let name = role["name"].as_str().unwrap().to_owned();
            let told = self.scion.api().get(&of(&format!("/roles/{name}/reveal_password")));
            let told = told.map(|it| it["password"].as_str().unwrap().to_owned()).map_err(|it| it.message)?;
            let uri = format!("postgresql://{name}:{told}@127.0.0.1:{}/neondb", self.child.port());
            roles.insert(name, Client::connect(&uri, NoTls).is_ok());
        }
        let databases = self.listed(&of("/databases"), "databases");
        let databases: BTreeMap<String, Value> = databases
            .iter()
            .map(|it| (it["name"].as_str().unwrap().to_owned(), it["owner_name"].clone()))
            .collect();
        Ok(json!([roles, databases]))
    }

    /// Branches of stores and directories of WAL that no row names and on which nothing begins that a row names.
    ///
    /// When a branch that has a name begins to have WAL of its own is its server's affair, so those are not counted.
    fn stored_for_nobody(&self) -> Vec<String> {
        let named = self.texts("SELECT store_id FROM branch UNION SELECT store_id FROM snapshot");
        let mut found = Vec::new();
        for project in fs::read_dir(self.scion.data_dir().join("projects")).unwrap() {
            let project = project.unwrap().path();
            let Some(parents) = parents_in_store(&project) else {
                found.push(format!("no manifest in {}", project.display()));
                continue;
            };
            let mut needed = BTreeSet::new();
            for id in parents.keys().filter(|id| named.contains(*id)) {
                let mut line = Some(id);
                while let Some(id) = line.filter(|id| needed.insert((*id).clone())) {
                    line = parents.get(id).and_then(Option::as_ref);
                }
            }
            let stored = parents.keys().map(|id| ("branch", id.clone()));
            let wal = names_in(&project.join("wal")).into_iter().map(|id| ("WAL", id));
            let nobodys = stored.chain(wal).filter(|(_, id)| !needed.contains(id));
            found.extend(nobodys.map(|(kind, id)| format!("{kind} of {id} in {}", project.display())));
        }
        found
    }

    /// What belongs to nobody: rows, directories, processes, mounts, data.
    pub fn strays(&self) -> Vec<String> {
        let mut found: Vec<String> = STRAY_ROWS.iter().flat_map(|sql| self.texts(sql)).collect();
        found.extend(self.stored_for_nobody());
        for (kind, sql) in [
            ("endpoints", "SELECT id FROM endpoint"),
            ("projects", "SELECT id FROM project"),
            ("bootstrap", NOBODY),
        ] {
            let owned = self.texts(sql);
            let names = names_in(&self.scion.data_dir().join(kind)).into_iter();
            found.extend(names.filter(|it| !owned.contains(it)).map(|it| format!("directory {kind}/{it}")));
        }
        let running = self.texts("SELECT id FROM endpoint WHERE desired = 'active'");
        let owned = |text: &str| running.iter().any(|id| text.contains(&format!("endpoints/{id}/")));
        for pid in
            processes_in(self.scion.data_dir()).into_iter().filter(|pid| *pid != self.scion.serve_pid())
        {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            // Or it is gone by now.
            if !owned(&line) && !owned(&format!("{}/", cwd.display())) && !line.is_empty() {
                found.push(format!("process {pid} {line}in {}", cwd.display()));
            }
        }
        found.extend(mounts_below(self.scion.data_dir()).into_iter().filter(|at| !owned(at)));
        found
    }

    /// Waits until all is one of `states` and nothing is left that belongs to nobody; which one it is.
    pub fn settled(&self, states: &[&Value], when: &str) -> usize {
        let mut last = String::new();
        let began = std::time::Instant::now();
        while began.elapsed() < SETTLED_WITHIN {
            match self.view() {
                Err(error) => last = error,
                Ok(view) => {
                    let strays = self.strays();
                    match states.iter().position(|state| **state == view) {
                        Some(at) if strays.is_empty() => return at,
                        Some(_) => last = format!("left: {strays:?}"),
                        None => last = differences(&view, states),
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{when}: neither done nor undone: {last}");
    }

    /// The state now, once nothing is under way.
    pub fn now(&self) -> Value {
        let mut last = String::new();
        let began = std::time::Instant::now();
        while began.elapsed() < SETTLED_WITHIN {
            match (self.view(), self.strays()) {
                (Ok(view), strays) if strays.is_empty() => return view,
                (Ok(_), strays) => last = format!("left: {strays:?}"),
                (Err(error), _) => last = error,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("all is not what it is to be: {last}");
    }

    /// Removes all that tests made.
    pub fn clean(&self) {
        let (api, path) = (self.scion.api(), |rest: &str| self.scion.path(rest));
        let gone = |path: String| {
            let _ = api.delete(&path);
        };
        for it in self.listed(&path("/branch_schedules"), "branch_schedules") {
            gone(path(&format!("/branch_schedules/{}", id_of(&it))));
        }
        for it in self.listed(&path("/snapshots"), "snapshots") {
            gone(path(&format!("/snapshots/{}", id_of(&it))));
        }
        for it in self.get("/api_keys").as_array().unwrap() {
            gone(format!("/api_keys/{}", it["id"]));
        }
        for list in [PROJECTS, DELETED_PROJECTS] {
            for it in self.listed(list, "projects") {
                if it["name"] == SPARE {
                    let _ = api.post(&format!("/projects/{}/recover", id_of(&it)), json!({}));
                } else if id_of(&it) != self.scion.project() {
                    gone(format!("/projects/{}?hard_delete=true", id_of(&it)));
                }
            }
        }
        api.patch(&path(""), json!({"project": {"history_retention_seconds": 86_400}})).unwrap();
        let of_child = |rest: &str| path(&format!("/branches/{}{rest}", self.child.branch));
        let _ = api.put(&of_child("/backup_schedule"), json!({"schedule": []}));
        for (kind, own) in [("databases", "neondb"), ("roles", "neondb_owner")] {
            for it in self.listed(&of_child(&format!("/{kind}")), kind) {
                let name = it["name"].as_str().unwrap();
                if name != own {
                    gone(of_child(&format!("/{kind}/{name}")));
                }
            }
        }
        let branches = self.listed(&path("/branches?include_deleted=true&limit=1000"), "branches");
        for it in &branches {
            if it["protected"] == true {
                let body = json!({"branch": {"protected": false}});
                api.patch(&path(&format!("/branches/{}", id_of(it))), body).unwrap();
            }
            if it["default"] == true && it["name"] != "main" {
                let main = path(&format!("/branches/{}/set_as_default", self.scion.root_branch()));
                self.post(&main, json!({}));
            }
        }
        for it in branches.iter().filter(|it| !BRANCHES.contains(&it["name"].as_str().unwrap())) {
            gone(path(&format!("/branches/{}?recursive=true&hard_delete=true", id_of(it))));
        }
    }
}

/// A project that is brought back rather than made again.
pub const SPARE: &str = "spare";
const PROJECTS: &str = "/projects?limit=100";
const DELETED_PROJECTS: &str = "/projects?limit=100&recoverable=true";
const NOBODY: &str = "SELECT '' WHERE false";
const STRAY_ROWS: &[&str] = &[
    "SELECT 'running operation ' || action FROM operation WHERE status = 'running'",
    "SELECT 'endpoint to be removed ' || id FROM endpoint WHERE desired = 'gone'",
    "SELECT 'branch to be purged ' || id FROM branch WHERE purging",
    "SELECT 'project ' || state FROM project WHERE state IN ('creating', 'deleting')",
    "SELECT 'role of ' || branch_id FROM role WHERE branch_id NOT IN (SELECT id FROM branch UNION SELECT id FROM snapshot)",
    "SELECT 'database of ' || branch_id FROM database
        WHERE branch_id NOT IN (SELECT id FROM branch UNION SELECT id FROM snapshot)",
    "SELECT 'foreign passwords of ' || branch_id FROM foreign_password
        WHERE branch_id NOT IN (SELECT id FROM branch UNION SELECT id FROM snapshot)",
    "SELECT 'password due on running ' || branch_id FROM role_kept
        WHERE branch_id IN (SELECT branch_id FROM endpoint WHERE desired = 'active')",
];

pub fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned()
}

/// What a directory has in it; nothing if it is not there.
fn names_in(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).into_iter().flatten().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

/// The branches of a store and what each begins on, of its newest manifest; `None` while that is being replaced.
fn parents_in_store(project: &Path) -> Option<BTreeMap<String, Option<String>>> {
    let dir = project.join("manifest");
    let newest = fs::read(dir.join(names_in(&dir).into_iter().max()?)).ok()?;
    // The second line is its checksum.
    let manifest: Value = serde_json::from_slice(newest.split(|byte| *byte == b'\n').next()?).ok()?;
    let parent = |it: &Value| it["parent"].as_str().map(str::to_owned);
    Some(manifest["branches"].as_object()?.iter().map(|(id, it)| (id.clone(), parent(it))).collect())
}

fn named(list: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = list.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A name without the time in it.
fn timeless(name: &str) -> String {
    name.split_inclusive(" until ").next().unwrap_or_default().to_owned()
}

/// Where `view` is none of `states`.
fn differences(view: &Value, states: &[&Value]) -> String {
    let mut text = String::new();
    for (key, is) in view.as_object().unwrap() {
        if !states.iter().any(|state| state[key] == *is) {
            let could: Vec<String> = states.iter().map(|state| state[key].to_string()).collect();
            text.push_str(&format!("\n{key} is {is}\n  and not {}", could.join("\n       or ")));
        }
    }
    if text.is_empty() { format!("a mixture: {view}") } else { text }
}
