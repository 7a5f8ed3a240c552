//! The store after a crash at every single change of its directory.
//!
//! A workload is recorded once, change by change, with what was acknowledged when. Then, for every prefix of the
//! changes and every way a machine stops, the directory that would be left is made, opened and judged: everything
//! acknowledged is read, nothing half-made remains, senders go on from where they were acknowledged, and the store
//! takes new work.

pub(crate) mod cluster;
pub(crate) mod fault;
mod faults;
mod recording;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{BranchId, Lsn};

use crate::answer::{ClusterImport, StoreOptions};
use crate::disk::{Disk, System};
use crate::error::StoreError;
use crate::project::Project;
use cluster::{FORMAT, Log, value_of};
use recording::{Crash, Files, Op, Recorder};

/// Bytes that are no WAL, as a killed server leaves behind its last record.
const GARBAGE: [u8; 300] = [0xA5; 300];

fn id(name: &str) -> BranchId {
    name.parse().unwrap()
}

fn root() -> BranchId {
    id("br-root")
}

/// Memtables of a few records: the workload fills several.
fn options() -> StoreOptions {
    StoreOptions { memtable_bytes: 9_000, ..StoreOptions::default() }
}

/// In memory where that can be had: what the disk does is not in question here.
fn scratch() -> tempfile::TempDir {
    let builder = || tempfile::Builder::new().prefix("store-crash-").to_owned();
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).unwrap()
}

/// A branch as its writer knows it.
#[derive(Clone)]
struct Known {
    start: Lsn,
    /// Every record it can read: its parent's up to its start, then its own.
    writes: Vec<cluster::Write>,
    /// What its endpoint has in `pg_wal`, and how much of that was acknowledged.
    log: Option<Log>,
    acknowledged: Lsn,
    /// The endpoint was killed: its log is followed by garbage.
    killed: bool,
}

type World = BTreeMap<BranchId, Known>;

/// A step of the workload: which changes of the directory it made and what it left.
#[derive(Clone)]
struct Step {
    name: &'static str,
    began: usize,
    ended: usize,
    world: World,
}

struct Recording {
    ops: Vec<Op>,
    steps: Vec<Step>,
}

/// Runs the workload, each step once.
struct Workload<'a> {
    project: Project,
    disk: &'a Recorder,
    world: World,
    steps: Vec<Step>,
    next_value: u64,
}

impl Workload<'_> {
    fn step(&mut self, name: &'static str, act: impl FnOnce(&Project, &mut World)) {
        let began = self.disk.count();
        act(&self.project, &mut self.world);
        self.steps.push(Step { name, began, ended: self.disk.count(), world: self.world.clone() });
    }

    /// Sends `count` records to a branch, in pieces that do not end where records do.
    fn append(&mut self, branch: &str, count: u64) {
        let branch = id(branch);
        let known = self.world.get_mut(&branch).unwrap();
        let log = known.log.as_mut().unwrap();
        let sent = log.end();
        for number in 0..count {
            self.next_value += 1;
            log.write((number * 5 % 7) as u32, self.next_value, number % 9 == 4);
        }
        let writes = log.writes.clone();
        known.writes.retain(|write| write.0 <= log.from);
        known.writes.extend(writes);
        let (log, mut at) = (log.clone(), sent);
        for piece in log.rest(sent).chunks(9_001) {
            self.step("append", |project, world| {
                let durable = project.append_wal(&branch, log.timeline, at, piece).unwrap();
                assert_eq!(durable, at.advanced(piece.len() as u64));
                world.get_mut(&branch).unwrap().acknowledged = durable;
            });
            at = at.advanced(piece.len() as u64);
        }
    }

    fn branch(&mut self, name: &str, parent: &str, back: usize) {
        self.step("create a branch", |project, world| {
            let parent_known = &world[&id(parent)];
            let writes = &parent_known.writes[..parent_known.writes.len() - back];
            let start = writes.last().unwrap().0;
            project.create_branch(&id(name), &id(parent), start).unwrap();
            let writes = writes.to_vec();
            let known = Known { start, writes, log: None, acknowledged: start, killed: false };
            world.insert(id(name), known);
        });
    }

    fn timeline(&mut self, branch: &str) {
        self.step("begin a timeline", |project, world| begin(project, &id(branch), world));
    }

    fn delete(&mut self, branch: &str) {
        self.step("delete a branch", |project, world| {
            project.delete_branch(&id(branch)).unwrap();
            world.remove(&id(branch));
        });
    }

    /// The branch's endpoint is killed after `count` more records: what it left is sent.
    fn tail(&mut self, branch: &str, count: u64) {
        let branch = id(branch);
        let known = self.world.get_mut(&branch).unwrap();
        for number in 0..count {
            self.next_value += 1;
            known.log.as_mut().unwrap().write(number as u32, self.next_value, false);
        }
        let log = known.log.clone().unwrap();
        known.writes.retain(|write| write.0 <= log.from);
        known.writes.extend(log.writes.clone());
        known.killed = true;
        self.step("append a tail", |project, world| {
            let known = world.get_mut(&branch).unwrap();
            send_tail(project, &branch, &log, known.acknowledged);
            known.acknowledged = log.end();
        });
    }
}

fn begin(project: &Project, branch: &BranchId, world: &mut World) {
    let new = project.begin_timeline(branch).unwrap();
    let known = world.get_mut(branch).unwrap();
    assert_eq!(new.start, known.acknowledged, "{branch} has nothing but whole records");
    known.log = Some(Log::new(new.timeline, new.start, new.state.cluster.last_record));
    known.killed = false;
}

fn send_tail(project: &Project, branch: &BranchId, log: &Log, from: Lsn) {
    let send = |at| {
        let bytes = [log.rest(at), &GARBAGE].concat();
        project.append_tail(branch, log.timeline, at, &bytes)
    };
    let progress = match send(from) {
        Err(StoreError::Gap { expected, .. }) => send(expected),
        outcome => outcome,
    };
    let progress = progress.unwrap();
    assert_eq!((progress.head, progress.ended), (log.end(), true));
}

fn data_dir() -> tempfile::TempDir {
    let data = scratch();
    cluster::write_data_dir(data.path());
    data
}

fn create(disk: Arc<dyn Disk>, top: &Path, data: &Path) -> Project {
    let import = ClusterImport { data_dir: data.to_owned(), root: root() };
    Project::create_on(disk, &top.join("p"), &import, options()).unwrap()
}

fn imported() -> World {
    let log = Log::imported();
    let known =
        Known { start: log.from, writes: Vec::new(), acknowledged: log.from, log: Some(log), killed: false };
    World::from([(root(), known)])
}

fn record(data: &Path) -> Recording {
    let top = scratch();
    let disk = Arc::new(Recorder::new(top.path()));
    let project = create(disk.clone(), top.path(), data);
    assert_eq!(project.format(), FORMAT);
    let created = Step { name: "create the project", began: 0, ended: disk.count(), world: imported() };
    let mut work = Workload { project, disk: &disk, world: imported(), steps: vec![created], next_value: 0 };
    work.append("br-root", 40);
    work.branch("br-a", "br-root", 3);
    work.timeline("br-a");
    work.append("br-a", 22);
    work.append("br-root", 12);
    work.branch("br-b", "br-a", 0);
    work.timeline("br-b");
    work.append("br-b", 30);
    work.step("flush", |project, _| project.flush().unwrap());
    work.branch("br-c", "br-root", 30);
    work.delete("br-b");
    work.tail("br-a", 10);
    work.timeline("br-a");
    work.append("br-a", 12);
    work.delete("br-c");
    work.step("flush", |project, _| project.flush().unwrap());
    let Workload { project, steps, .. } = work;
    drop(project);
    let ops = disk.ops();

    // Nothing was changed behind the recorder's back.
    let recorded = Files::default().after(&ops).listing();
    let found = files_below(top.path());
    assert_eq!(recorded.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    assert!(recorded == found, "the bytes of some file were not recorded");
    let layers = ops.iter().filter(|op| matches!(op, Op::Link(_, name) if name.starts_with("p/layers")));
    let layers = layers.count();
    assert!(layers > 8, "only {layers} layers");
    Recording { ops, steps }
}

/// Every file below `top` and its bytes, without the locks.
fn files_below(top: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![top.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_owned();
            if path.is_dir() {
                dirs.push(path);
                found.insert(name, None);
            } else if !name.ends_with("lock") {
                found.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// What is known at a crash: what was acknowledged, and what the step it interrupted would have left.
struct Moment<'a> {
    before: Option<&'a Step>,
    during: Option<&'a Step>,
}

impl Recording {
    fn moment(&self, ops: usize) -> Moment<'_> {
        Moment {
            before: self.steps.iter().rfind(|step| step.ended <= ops),
            during: self.steps.iter().find(|step| step.began < ops && ops < step.ended),
        }
    }
}

impl Moment<'_> {
    fn world(&self) -> World {
        self.before.map_or_else(World::new, |step| step.world.clone())
    }

    fn during(&self, name: &str) -> bool {
        self.during.is_some_and(|step| step.name == name)
    }

    fn name(&self) -> &str {
        self.during.map_or("between two steps", |step| step.name)
    }

    /// Checks a project just opened and gives what its branches now are.
    fn judge(&self, project: &Project) -> World {
        let (before, after) =
            (self.world(), self.during.map_or_else(|| self.world(), |step| step.world.clone()));
        let found: BTreeSet<BranchId> =
            project.branches().unwrap().into_iter().map(|branch| branch.id).collect();
        let lists: [BTreeSet<_>; 2] = [before.keys().cloned().collect(), after.keys().cloned().collect()];
        assert!(lists.contains(&found), "{found:?} are none of {lists:?}");
        let mut world = World::new();
        for branch in found {
            let known = after.get(&branch).or(before.get(&branch)).unwrap();
            let acknowledged = before.get(&branch).map_or(known.start, |known| known.acknowledged);
            let head = project.head(&branch).unwrap();
            let last = known.writes.iter().rfind(|write| write.0 <= acknowledged);
            let last = last.map_or(known.start, |write| write.0);
            assert!(head >= last, "{branch} ends at {head}, acknowledged was {acknowledged}");
            read_everything(project, &branch, known, head);
            world.insert(branch, Known { acknowledged, ..known.clone() });
        }
        world
    }

    /// Every writer goes on where it was.
    fn resume(&self, project: &Project, world: &mut World) {
        for (branch, known) in world.iter_mut() {
            let Some(log) = known.log.clone() else { continue };
            // Whoever asked for a timeline and got no answer asks again; all before it was acknowledged.
            if self.during("begin a timeline") && log.bytes.is_empty() {
                continue;
            }
            if known.killed {
                send_tail(project, branch, &log, known.acknowledged);
            } else {
                let send = |at| project.append_wal(branch, log.timeline, at, log.rest(at));
                let durable = match send(known.acknowledged) {
                    // A record that was not whole is sent again from its beginning.
                    Err(StoreError::Gap { expected, .. }) if expected == project.head(branch).unwrap() => {
                        send(expected)
                    }
                    outcome => outcome,
                };
                assert_eq!(durable.unwrap(), log.end());
            }
            known.acknowledged = log.end();
            assert_eq!(project.head(branch).unwrap(), log.end());
            read_everything(project, branch, known, log.end());
        }
    }
}

/// Reads, at every record up to `head`, the block it wrote, and at `head` all of them.
fn read_everything(project: &Project, branch: &BranchId, known: &Known, head: Lsn) {
    let mut newest = BTreeMap::new();
    for &(lsn, block, value) in known.writes.iter().filter(|write| write.0 <= head) {
        newest.insert(block, value);
        if lsn >= known.start {
            assert_eq!(value_of(project, branch, lsn, block), value, "{branch}, block {block} at {lsn}");
        }
    }
    for (block, value) in newest {
        assert_eq!(value_of(project, branch, head, block), value, "{branch}, block {block} at {head}");
    }
}

/// What an open project's directory may hold is what its manifest lists.
fn assert_tidy(project: &Project, dir: &Path) {
    project.flush().unwrap();
    let names = |below: &str| -> BTreeSet<String> {
        let entries =
            fs::read_dir(dir.join(below)).map(|entries| entries.collect::<Vec<_>>()).unwrap_or_default();
        entries.into_iter().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let manifests = names("manifest");
    assert_eq!(manifests.len(), 1, "{manifests:?}");
    let newest = fs::read(dir.join("manifest").join(manifests.first().unwrap())).unwrap();
    let json = newest.split(|&byte| byte == b'\n').next().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(json).unwrap();
    let branches = manifest["branches"].as_object().unwrap();
    let layers = branches.values().flat_map(|entry| entry["layers"].as_array().unwrap());
    let layers: BTreeSet<String> = layers.map(|id| format!("{:016x}.layer", id.as_u64().unwrap())).collect();
    assert_eq!(names("layers"), layers);
    assert!(names("wal").iter().all(|name| branches.contains_key(name)), "{:?}", names("wal"));
    assert_eq!(names("tmp"), BTreeSet::new());
}

/// New work of every kind, then a restart.
fn work_on(project: Project, mut world: World, dir: &Path) {
    let late = id("br-late");
    let known = world[&root()].clone();
    project.create_branch(&late, &root(), known.acknowledged).unwrap();
    world.insert(late, Known { start: known.acknowledged, ..known });
    let branches: Vec<_> = world.keys().cloned().collect();
    for branch in &branches {
        begin(&project, branch, &mut world);
        let known = world.get_mut(branch).unwrap();
        let log = known.log.as_mut().unwrap();
        (0..12).for_each(|number| log.write(number, 1_000_000 + u64::from(number), false));
        known.acknowledged = project.append_wal(branch, log.timeline, log.from, &log.bytes).unwrap();
        known.writes.extend(log.writes.clone());
    }
    assert_tidy(&project, dir);
    drop(project);
    let project = Project::open_on(Arc::new(System), dir, options()).unwrap();
    for (branch, known) in &world {
        assert_eq!(project.head(branch).unwrap(), known.acknowledged);
        read_everything(&project, branch, known, known.acknowledged);
    }
}

/// Opens what a crash left; a project whose creation was not acknowledged is made again.
fn open(moment: &Moment<'_>, disk: Arc<dyn Disk>, top: &Path, data: &Path) -> Option<Project> {
    match Project::open_on(disk.clone(), &top.join("p"), options()) {
        Ok(project) => Some(project),
        Err(StoreError::Corrupt { reason, .. }) if moment.before.is_none() => {
            assert!(reason.contains("no project") || reason.contains("no manifest"), "{reason}");
            work_on(create(disk, top, data), imported(), &top.join("p"));
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Crashes after every change and judges what is left.
fn survives(recording: &Recording, data: &Path, crash: impl Fn(usize) -> Crash) {
    let mut files = Files::default();
    for ops in 0..=recording.ops.len() {
        let top = scratch();
        let moment = recording.moment(ops);
        eprintln!("crash after {ops} of {} changes: {}", recording.ops.len(), moment.name());
        files.crashed(crash(ops)).write(top.path());
        if let Some(project) = open(&moment, Arc::new(System), top.path(), data) {
            let mut world = moment.judge(&project);
            moment.resume(&project, &mut world);
            work_on(project, world, &top.path().join("p"));
        }
        if let Some(op) = recording.ops.get(ops) {
            files.apply(op);
        }
    }
}

fn survives_every(crash: impl Fn(usize) -> Crash) {
    let data = data_dir();
    survives(&record(data.path()), data.path(), crash);
}

/// Rule 4 of the crate's README.
#[test]
fn survives_a_kill_after_every_change() {
    survives_every(|_| Crash::Killed);
}

/// Rule 3 of the crate's README.
#[test]
fn survives_a_power_failure_after_every_change() {
    survives_every(|_| Crash::PowerLost);
}

#[test]
fn survives_a_power_failure_that_leaves_zeros_after_every_change() {
    survives_every(|_| Crash::Zeroed);
}

#[test]
fn survives_a_power_failure_that_keeps_some_of_what_was_not_synced() {
    for round in 0..3 {
        survives_every(|ops| Crash::Chance(round * 1_000_000 + ops as u64));
    }
}

/// The judge is no good if it does not notice a store that forgets to sync.
#[test]
fn a_store_that_leaves_out_any_kind_of_sync_does_not_survive() {
    let data = data_dir();
    let recording = record(data.path());
    let depth = |path: &Path| path.components().count();
    type Chosen<'a> = &'a dyn Fn(&str) -> bool;
    let kinds: [(&str, Chosen<'_>); 7] = [
        ("WAL", &|path| path.starts_with("wal/") && depth(path.as_ref()) == 4),
        ("the directories of WAL", &|path| path.starts_with("wal") && depth(path.as_ref()) < 4),
        ("layers", &|path| path.starts_with("tmp/layer")),
        ("the directory of layers", &|path| path == "layers"),
        ("manifests", &|path| path.starts_with("tmp/object")),
        ("the directory of manifests", &|path| path == "manifest"),
        ("the project's directory", &|path| path.is_empty()),
    ];
    for (what, left_out) in kinds {
        let kept = |op: &Op| match op {
            Op::Sync(path) if path.strip_prefix("p").is_ok_and(|path| left_out(path.to_str().unwrap())) => {
                Op::Nothing
            }
            op => op.clone(),
        };
        let forgetful =
            Recording { ops: recording.ops.iter().map(kept).collect(), steps: recording.steps.clone() };
        assert!(forgetful.ops.iter().any(|op| matches!(op, Op::Nothing)), "{what} is synced");
        let crashes = || survives(&forgetful, data.path(), |_| Crash::PowerLost);
        assert!(std::panic::catch_unwind(crashes).is_err(), "no sync of {what} is not noticed");
    }
}

/// What a store says after a kill is as durable as what it acknowledged: the sender goes on from there and forgets
/// what came before. So is a project made where a killed process had begun to make one.
#[test]
fn what_is_held_after_a_kill_outlasts_a_power_failure() {
    let data = data_dir();
    let recording = record(data.path());
    let mut files = Files::default();
    for ops in 0..=recording.ops.len() {
        eprintln!("crash after {ops} of {} changes: {}", recording.ops.len(), recording.moment(ops).name());
        let top = scratch();
        files.write(top.path());
        let disk = Arc::new(Recorder::new(top.path()));
        let project = Project::open_on(disk.clone(), &top.path().join("p"), options())
            .unwrap_or_else(|_| create(disk.clone(), top.path(), data.path()));
        let held = heads(&project);
        drop(project);

        let top = scratch();
        files.clone().after(&disk.ops()).crashed(Crash::PowerLost).write(top.path());
        let project = Project::open_on(Arc::new(System), &top.path().join("p"), options()).unwrap();
        let now = heads(&project);
        for (branch, head) in held {
            assert!(now[&branch] >= head, "{branch} said it holds {head}, now {}", now[&branch]);
        }
        if let Some(op) = recording.ops.get(ops) {
            files.apply(op);
        }
    }
}

fn heads(project: &Project) -> BTreeMap<BranchId, Lsn> {
    let branches = project.branches().unwrap().into_iter();
    branches.map(|branch| (branch.id.clone(), project.head(&branch.id).unwrap())).collect()
}
