//! Every request that changes something, and what it needs to be there.

use scion_tests::clock::in_seconds;
use serde_json::{Value, json};

use crate::failpoints::world::{SPARE, World, id_of};

/// A request, which can be sent more than once.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

/// Something that can be done.
pub struct Operation {
    pub name: &'static str,
    /// Makes what it needs. Nothing of it is left by `World::clean`.
    pub prepare: fn(&World) -> Request,
}

const fn operation(name: &'static str, prepare: fn(&World) -> Request) -> Operation {
    Operation { name, prepare }
}

fn request(method: &'static str, path: String, body: Value) -> Request {
    Request { method, path, headers: Vec::new(), body }
}

fn post(path: String, body: Value) -> Request {
    request("post", path, body)
}

fn delete(path: String) -> Request {
    request("delete", path, Value::Null)
}

fn endpoint_of(world: &World, branch: &str) -> String {
    id_of(&world.get(&world.scion.path(&format!("/branches/{branch}/endpoints")))["endpoints"][0])
}

fn create(world: &World, branch: Value, endpoints: Value) -> Request {
    post(world.scion.path("/branches"), json!({"branch": branch, "endpoints": endpoints}))
}

fn create_of_protected(world: &World, kind: &str) -> Request {
    let target = world.target(false);
    let body = json!({"branch": {"protected": true}});
    world.scion.api().patch(&of_branch(world, &target, ""), body).unwrap();
    create(world, json!({"name": "new", "parent_id": target}), json!([{"type": kind}]))
}

fn of_branch(world: &World, branch: &str, rest: &str) -> String {
    world.scion.path(&format!("/branches/{branch}{rest}"))
}

pub fn of_child(world: &World, rest: &str) -> String {
    of_branch(world, &world.child.branch, rest)
}

fn update(world: &World, branch: Value) -> Request {
    let target = world.target(false);
    request("patch", of_branch(world, &target, ""), json!({"branch": branch}))
}

fn restore(world: &World, running: bool, more: Value) -> Request {
    let target = world.target(running);
    let mut body = json!({"source_branch_id": world.scion.root_branch()});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(of_branch(world, &target, "/restore"), body)
}

pub fn snapshot(world: &World, branch: &str) -> String {
    id_of(&world.post(&of_branch(world, branch, "/snapshot?name=snap"), json!({}))["snapshot"])
}

fn restore_snapshot(world: &World, body: Value) -> Request {
    let target = world.target(true);
    let id = snapshot(world, &target);
    post(world.scion.path(&format!("/snapshots/{id}/restore")), body)
}

pub fn schedule(world: &World, template: Value) -> String {
    let body = json!({"branch_schedule": {"name": "nightly", "cron": "0 3 1 1 *", "template": template}});
    id_of(&world.post(&world.scion.path("/branch_schedules"), body)["branch_schedule"])
}

fn role(world: &World) {
    world.post(&of_child(world, "/roles"), json!({"role": {"name": "app"}}));
}

fn database(world: &World) {
    let body = json!({"database": {"name": "shop", "owner_name": "neondb_owner"}});
    world.post(&of_child(world, "/databases"), body);
}

fn second_project(world: &World) -> String {
    let made = world.post("/projects", json!({"project": {"name": "second"}}));
    format!("/projects/{}", id_of(&made["project"]))
}

/// A project that stays.
fn spare_project(world: &World) -> String {
    let listed = world.get("/projects?limit=100");
    let found = listed["projects"].as_array().unwrap().iter().find(|it| it["name"] == SPARE).map(id_of);
    let made = || id_of(&world.post("/projects", json!({"project": {"name": SPARE}}))["project"]);
    format!("/projects/{}", found.unwrap_or_else(made))
}

/// What is done to branches and their endpoints.
pub const BRANCHES: &[Operation] = &[
    operation("create a branch", |w| create(w, json!({"name": "new"}), json!([]))),
    operation("create a branch that runs", |w| {
        create(w, json!({"name": "new"}), json!([{"type": "read_write"}]))
    }),
    operation("create a branch with a key", |w| {
        let headers = vec![("Idempotency-Key", format!("key {}", w.steps().len()))];
        Request { headers, ..create(w, json!({"name": "keyed"}), json!([])) }
    }),
    operation("create a branch of a protected one", |w| create_of_protected(w, "read_write")),
    operation("create a branch of a protected one that only reads", |w| create_of_protected(w, "read_only")),
    operation("create a branch of a schema", |w| {
        create(w, json!({"name": "new", "init_source": "schema-only"}), json!([]))
    }),
    operation("delete a branch", |w| delete(of_branch(w, &w.target(true), ""))),
    operation("delete a branch for good", |w| delete(of_branch(w, &w.target(true), "?hard_delete=true"))),
    operation("delete a branch with its child", |w| {
        let target = w.target(false);
        w.scion.try_branch("kid", json!({"parent_id": target}), true).unwrap();
        delete(of_branch(w, &target, "?recursive=true"))
    }),
    operation("delete a branch with its child for good", |w| {
        let target = w.target(false);
        w.scion.try_branch("kid", json!({"parent_id": target}), false).unwrap();
        delete(of_branch(w, &target, "?recursive=true&hard_delete=true"))
    }),
    operation("recover a branch", |w| {
        let target = w.target(false);
        w.scion.api().delete(&of_branch(w, &target, "")).unwrap();
        post(of_branch(w, &target, "/recover"), json!({}))
    }),
    operation("rename a branch", |w| update(w, json!({"name": "other"}))),
    operation("protect a branch", |w| update(w, json!({"protected": true}))),
    operation("let a branch expire", |w| update(w, json!({"expires_at": in_seconds(7200)}))),
    operation("make a branch the default", |w| {
        post(of_branch(w, &w.target(false), "/set_as_default"), json!({}))
    }),
    operation("reset a branch that runs", |w| restore(w, true, json!({}))),
    operation("reset a branch that does not run", |w| restore(w, false, json!({}))),
    operation("restore a branch and keep what it was", |w| {
        restore(w, true, json!({"preserve_under_name": "kept"}))
    }),
    operation("create an endpoint", |w| {
        let body = json!({"endpoint": {"branch_id": w.target(false), "type": "read_write"}});
        post(w.scion.path("/endpoints"), body)
    }),
    operation("delete an endpoint", |w| {
        let target = w.target(true);
        delete(w.scion.path(&format!("/endpoints/{}", endpoint_of(w, &target))))
    }),
    operation("suspend an endpoint", |w| {
        let target = w.target(true);
        post(w.scion.path(&format!("/endpoints/{}/suspend", endpoint_of(w, &target))), json!({}))
    }),
    operation("give an endpoint other settings", |w| {
        let target = w.target(true);
        let settings = json!({"settings": {"pg_settings": {"work_mem": "5MB"}}});
        let path = w.scion.path(&format!("/endpoints/{}", endpoint_of(w, &target)));
        request("patch", path, json!({"endpoint": settings}))
    }),
    operation("restart an endpoint", |w| {
        let target = w.target(true);
        post(w.scion.path(&format!("/endpoints/{}/restart", endpoint_of(w, &target))), json!({}))
    }),
    operation("start an endpoint", |w| {
        let target = w.target(true);
        let path = |verb: &str| w.scion.path(&format!("/endpoints/{}/{verb}", endpoint_of(w, &target)));
        w.post(&path("suspend"), json!({}));
        post(path("start"), json!({}))
    }),
];

/// What is done to all else.
pub const OTHERS: &[Operation] = &[
    operation("create a snapshot", |w| post(of_child(w, "/snapshot?name=snap"), json!({}))),
    operation("rename a snapshot", |w| {
        let id = snapshot(w, &w.child.branch);
        request("patch", w.scion.path(&format!("/snapshots/{id}")), json!({"snapshot": {"name": "other"}}))
    }),
    operation("delete a snapshot", |w| {
        delete(w.scion.path(&format!("/snapshots/{}", snapshot(w, &w.child.branch))))
    }),
    operation("restore a snapshot", |w| restore_snapshot(w, json!({"name": "look"}))),
    operation("restore a snapshot in the place of its branch", |w| {
        restore_snapshot(w, json!({"name": "look", "finalize_restore": true}))
    }),
    operation("finalize a restore", |w| {
        let made = restore_snapshot(w, json!({"name": "look"}));
        let look = id_of(&w.post(&made.path, made.body)["branch"]);
        post(of_branch(w, &look, "/finalize_restore"), json!({"name": "before"}))
    }),
    operation("create a schedule", |w| {
        let body = json!({"branch_schedule": {"name": "nightly", "cron": "0 3 1 1 *", "template": {}}});
        post(w.scion.path("/branch_schedules"), body)
    }),
    operation("delete a schedule", |w| {
        delete(w.scion.path(&format!("/branch_schedules/{}", schedule(w, json!({})))))
    }),
    operation("run a schedule", |w| {
        let id = schedule(w, json!({"sql": "insert into mark values ('made')"}));
        post(w.scion.path(&format!("/branch_schedules/{id}/run")), json!({}))
    }),
    operation("plan backups", |w| {
        let body = json!({"schedule": [{"frequency": "yearly", "hour": 3, "day": 1, "month": 1}]});
        request("put", of_child(w, "/backup_schedule"), body)
    }),
    operation("create a role", |w| post(of_child(w, "/roles"), json!({"role": {"name": "app"}}))),
    operation("give a role a password", |w| {
        role(w);
        post(of_child(w, "/roles/app/reset_password"), json!({}))
    }),
    operation("delete a role", |w| {
        role(w);
        delete(of_child(w, "/roles/app"))
    }),
    operation("create a database", |w| {
        let body = json!({"database": {"name": "shop", "owner_name": "neondb_owner"}});
        post(of_child(w, "/databases"), body)
    }),
    operation("change a database", |w| {
        role(w);
        database(w);
        let body = json!({"database": {"name": "store", "owner_name": "app"}});
        request("patch", of_child(w, "/databases/shop"), body)
    }),
    operation("delete a database", |w| {
        database(w);
        delete(of_child(w, "/databases/shop"))
    }),
    operation("create a key", |_| post("/api_keys".to_owned(), json!({"key_name": "ci"}))),
    operation("revoke a key", |w| {
        let made = w.post("/api_keys", json!({"key_name": "ci"}));
        delete(format!("/api_keys/{}", made["id"]))
    }),
    operation("create a project", |_| post("/projects".to_owned(), json!({"project": {"name": "second"}}))),
    operation("change a project", |w| {
        request("patch", w.scion.path(""), json!({"project": {"history_retention_seconds": 3600}}))
    }),
    operation("delete a project for good", |w| delete(format!("{}?hard_delete=true", second_project(w)))),
    operation("delete a project", |w| delete(spare_project(w))),
    operation("recover a project", |w| {
        let path = spare_project(w);
        w.scion.api().delete(&path).unwrap();
        post(format!("{path}/recover"), json!({}))
    }),
];
