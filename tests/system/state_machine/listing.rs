//! What the API, the processes and the files say, and where that is not what the model says.

use std::collections::BTreeSet;

use scion_tests::Scion;
use scion_tests::server::{mounts_below, processes_in};
use serde_json::Value;
use types::Lsn;

use crate::state_machine::model::{Branch, Deleted, Key, Model, Snapshot};

/// Everything that can be seen without connecting to a branch.
pub struct Listing {
    branches: Vec<Value>,
    endpoints: Vec<Value>,
    snapshots: Vec<Value>,
    schedules: Vec<Value>,
    operations: Vec<Value>,
    /// Ids of endpoints that have a directory, a process of `scion compute`, a mount.
    directories: BTreeSet<String>,
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    /// How many branches the store keeps a log of.
    logs: usize,
}

impl Listing {
    pub fn take(scion: &Scion) -> Self {
        let list = |rest: &str, of: &str| {
            let all = scion.api().get(&scion.path(rest)).unwrap_or_else(|error| panic!("{rest}: {error:?}"));
            all[of].as_array().unwrap().clone()
        };
        Self {
            branches: list("/branches?include_deleted=true", "branches"),
            endpoints: list("/endpoints", "endpoints"),
            snapshots: list("/snapshots", "snapshots"),
            schedules: list("/branch_schedules", "branch_schedules"),
            operations: list("/operations?limit=100", "operations"),
            directories: directories(scion),
            processes: processes(scion),
            mounts: mounts_below(scion.data_dir()).iter().filter_map(|at| endpoint_in(at)).collect(),
            logs: scion.stored(),
        }
    }

    /// Takes over ids, and what else the model leaves open.
    pub fn teach(&self, model: &mut Model) {
        let known: BTreeSet<String> = model.branches.values().map(|branch| branch.id.clone()).collect();
        for branch in model.branches.values_mut() {
            let named = |it: &&Value| it["name"] == *branch.name && it["recovery"].is_null();
            let of_id = |it: &&Value| it["id"] == *branch.id;
            let found = if branch.id.is_empty() {
                self.branches.iter().filter(|it| !known.contains(&text(&it["id"]))).find(named)
            } else {
                self.branches.iter().find(of_id)
            };
            let Some(found) = found else { continue };
            branch.id = text(&found["id"]);
            if branch.name_goes_on && text(&found["name"]).starts_with(&branch.name) {
                (branch.name, branch.name_goes_on) = (text(&found["name"]), false);
            }
            let reset_at = found["last_reset_at"].as_str().map(str::to_owned);
            if branch.was_reset && reset_at != branch.reset_at {
                (branch.was_reset, branch.reset_at) = (false, reset_at);
            }
            let data = model.data.get_mut(&branch.data).expect("a branch has data");
            if data.begin.is_none() && !branch.was_reset {
                data.begin = found["parent_lsn"].as_str().map(lsn);
            }
        }
        self.teach_endpoints(model);
        self.teach_snapshots(model);
        for schedule in model.schedules.values_mut().filter(|it| it.id.is_empty()) {
            let found = self.schedules.iter().find(|it| it["name"] == *schedule.name);
            schedule.id = found.map(|it| text(&it["id"])).unwrap_or_default();
        }
    }

    fn teach_endpoints(&self, model: &mut Model) {
        let of = |branch: &Branch| branch.endpoint.as_ref().map(|it| it.id.clone()).unwrap_or_default();
        let known: BTreeSet<String> = model.branches.values().map(of).collect();
        for branch in model.branches.values_mut() {
            let id = branch.id.clone();
            let Some(endpoint) = branch.endpoint.as_mut().filter(|it| it.id.is_empty()) else { continue };
            let new = |it: &&Value| it["branch_id"] == *id && !known.contains(&text(&it["id"]));
            endpoint.id = self.endpoints.iter().find(new).map(|it| text(&it["id"])).unwrap_or_default();
        }
    }

    fn teach_snapshots(&self, model: &mut Model) {
        let known: BTreeSet<String> = model.snapshots.values().map(|it| it.id.clone()).collect();
        for snapshot in model.snapshots.values_mut().filter(|it| it.id.is_empty()) {
            let new = |it: &&Value| named(snapshot, it) && !known.contains(&text(&it["id"]));
            let Some(found) = self.snapshots.iter().find(new) else { continue };
            (snapshot.id, snapshot.name, snapshot.name_goes_on) =
                (text(&found["id"]), text(&found["name"]), false);
            let at = lsn(found["lsn"].as_str().unwrap());
            model.data.get_mut(&snapshot.data).expect("a snapshot has data").begin = Some(at);
        }
    }

    /// Where the two disagree.
    pub fn differences(&self, model: &Model) -> Vec<String> {
        let mut found = Vec::new();
        same(&mut found, "branches", ids(&self.branches), of(model.branches.values().map(|it| &it.id)));
        for branch in model.branches.values() {
            if let Some(shown) = self.branches.iter().find(|it| it["id"] == *branch.id) {
                compare_branch(&mut found, model, branch, shown);
            }
        }
        self.compare_endpoints(&mut found, model);
        same(&mut found, "snapshots", ids(&self.snapshots), of(model.snapshots.values().map(|it| &it.id)));
        for snapshot in model.snapshots.values() {
            if let Some(shown) = self.snapshots.iter().find(|it| it["id"] == *snapshot.id) {
                let (name, id) = (&snapshot.name, &snapshot.id);
                same(&mut found, &format!("name of {id}"), text(&shown["name"]), name.clone());
                let source = text(&shown["source_branch_id"]);
                same(&mut found, &format!("source of {name}"), source, snapshot.source_id.clone());
                same(&mut found, &format!("manual of {name}"), shown["manual"] == true, snapshot.manual);
            }
        }
        self.compare_schedules(&mut found, model);
        let running = self.operations.iter().filter(|it| it["status"] == "running").count();
        same(&mut found, "operations under way", running, 0);
        same(&mut found, "logs in the store", self.logs, model.logs());
        found
    }

    fn compare_endpoints(&self, found: &mut Vec<String>, model: &Model) {
        let all =
            || model.branches.values().filter_map(|it| it.endpoint.as_ref().map(|endpoint| (it, endpoint)));
        let known = of(all().map(|(_, endpoint)| &endpoint.id));
        let running = of(all().filter(|(_, endpoint)| endpoint.runs).map(|(_, endpoint)| &endpoint.id));
        same(found, "endpoints", ids(&self.endpoints), known.clone());
        same(found, "directories of endpoints", self.directories.clone(), known);
        same(found, "processes of endpoints", self.processes.clone(), running.clone());
        same(found, "mounts of endpoints", self.mounts.clone(), running);
        for (branch, endpoint) in all() {
            let Some(shown) = self.endpoints.iter().find(|it| it["id"] == *endpoint.id) else { continue };
            let (id, state) = (&endpoint.id, if endpoint.runs { "active" } else { "idle" });
            same(found, &format!("branch of {id}"), text(&shown["branch_id"]), branch.id.clone());
            same(found, &format!("state of {id}"), text(&shown["current_state"]), state.to_owned());
            same(found, &format!("pending state of {id}"), text(&shown["pending_state"]), String::new());
        }
    }

    fn compare_schedules(&self, found: &mut Vec<String>, model: &Model) {
        same(found, "schedules", ids(&self.schedules), of(model.schedules.values().map(|it| &it.id)));
        for schedule in model.schedules.values() {
            let Some(shown) = self.schedules.iter().find(|it| it["id"] == *schedule.id) else { continue };
            let name = &schedule.name;
            // What it made may be gone for good since.
            if let Some(last) = schedule.last.filter(|last| model.branches.contains_key(last)) {
                same(
                    found,
                    &format!("last branch of {name}"),
                    text(&shown["branch_id"]),
                    model.branch_id(last),
                );
            }
            same(found, &format!("failure of {name}"), shown["last_error"].is_string(), schedule.failed);
            if let Some(parent) = schedule.parent.filter(|parent| model.branches.contains_key(parent)) {
                let id = text(&shown["template"]["parent_id"]);
                same(found, &format!("parent of {name}"), id, model.branch_id(parent));
            }
        }
    }
}

fn compare_branch(found: &mut Vec<String>, model: &Model, branch: &Branch, shown: &Value) {
    let what = |field: &str| format!("{field} of {} ({})", branch.name, branch.id);
    let id_of = |key: Option<Key>| key.map(|key| model.branch_id(key)).unwrap_or_default();
    same(found, &what("name"), text(&shown["name"]), branch.name.clone());
    same(found, &what("parent"), text(&shown["parent_id"]), id_of(branch.parent));
    same(found, &what("default"), shown["default"] == true, branch.default);
    same(found, &what("protected"), shown["protected"] == true, branch.protected);
    if branch.live() {
        same(found, &what("expiry"), shown["expires_at"].is_string(), branch.expires);
    }
    let how = match branch.deleted {
        None => "",
        Some(Deleted::User) => "user",
        Some(Deleted::Ttl) => "ttl",
    };
    same(found, &what("deletion"), text(&shown["recovery"]["deletion_method"]), how.to_owned());
    same(
        found,
        &what("snapshot"),
        text(&shown["restored_from"]),
        branch.restored_from.clone().unwrap_or_default(),
    );
    // The branch whose place it takes may be gone for good since.
    if let Some(target) = branch.restored_as.filter(|target| model.branches.contains_key(target)) {
        same(found, &what("place"), text(&shown["restored_as"]), model.branch_id(target));
    }
    let status = match (&branch.restored_from, branch.finalized) {
        (None, _) => "",
        (Some(_), false) => "restored",
        (Some(_), true) => "finalized",
    };
    same(found, &what("restore status"), text(&shown["restore_status"]), status.to_owned());
    let source = if branch.schema_only { "schema-only" } else { "parent-data" };
    same(found, &what("init source"), text(&shown["init_source"]), source.to_owned());
    same(found, &what("state"), text(&shown["current_state"]), "ready".to_owned());
    same(found, &what("a reset that is missing"), branch.was_reset, false);
    let reset_at = shown["last_reset_at"].as_str().map(str::to_owned);
    same(found, &what("last reset"), reset_at, branch.reset_at.clone());
}

fn same<T: PartialEq + std::fmt::Debug>(found: &mut Vec<String>, what: &str, shown: T, model: T) {
    if shown != model {
        found.push(format!("{what}: {shown:?}, and {model:?} in the model"));
    }
}

fn ids(list: &[Value]) -> BTreeSet<String> {
    list.iter().map(|it| text(&it["id"])).collect()
}

fn of<'a>(ids: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    ids.cloned().collect()
}

fn named(snapshot: &Snapshot, shown: &Value) -> bool {
    let name = text(&shown["name"]);
    if snapshot.name_goes_on { name.starts_with(&snapshot.name) } else { name == snapshot.name }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

fn directories(scion: &Scion) -> BTreeSet<String> {
    let Ok(dir) = std::fs::read_dir(scion.data_dir().join("endpoints")) else { return BTreeSet::new() };
    dir.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn processes(scion: &Scion) -> BTreeSet<String> {
    let pids = processes_in(scion.data_dir());
    let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let lines = pids.into_iter().map(|pid| String::from_utf8_lossy(&line(pid)).into_owned());
    lines.filter_map(|line| endpoint_in(line.split_once("\0compute\0--spec\0")?.1)).collect()
}

/// The endpoint whose directory a path lies in.
fn endpoint_in(path: &str) -> Option<String> {
    path.split_once("/endpoints/")?.1.split('/').next().map(str::to_owned)
}
