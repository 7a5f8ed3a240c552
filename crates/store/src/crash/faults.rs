//! The store after an error at every single change and read of its directory.
//!
//! A workload runs on a disk on which one operation fails, or several in a row, with nothing done, half of it or all of
//! it. Whoever is refused asks again, as endpoints and people do. Judged is that
//!
//! - every refusal is "later", never "no", and what was refused has not been done;
//! - the next try succeeds, without the project being opened again;
//! - everything acknowledged is read, at once and after a power failure;
//! - the directory holds what the manifest lists and nothing else.

use super::cluster::try_value_of;
use super::fault::{Error, Fault, Faulty, When};
use super::*;
use crate::error::{ErrorKind, Result};

/// Failures of one operation that a caller puts up with; more than a disk here fails in a row.
const TRIES: u32 = 100;

const ONCE: Fault = Fault { error: Error::Io, when: When::Before, times: 1 };

/// A project on a disk that fails, and what is known of it.
struct Run {
    /// `None` while it is opened again.
    project: Option<Project>,
    disk: Arc<Faulty>,
    recorder: Arc<Recorder>,
    top: tempfile::TempDir,
    world: World,
    next_value: u64,
    /// What was known after the first step that an error had held up, and how many changes had been made by then.
    held_up: Option<(usize, World)>,
}

impl Run {
    fn new(data: &Path) -> Self {
        let top = scratch();
        let recorder = Arc::new(Recorder::new(top.path()));
        let disk = Arc::new(Faulty::new(recorder.clone()));
        let project = Some(create(disk.clone(), top.path(), data));
        disk.heal();
        Self { project, disk, recorder, top, world: imported(), next_value: 0, held_up: None }
    }

    /// A step was done.
    fn done(&mut self) {
        if self.held_up.is_none() && !self.disk.failed().is_empty() {
            self.held_up = Some((self.recorder.count(), self.world.clone()));
        }
    }

    fn project(&self) -> &Project {
        self.project.as_ref().unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.top.path().join("p")
    }

    /// Asks until it is done.
    fn insist<T>(&self, what: &str, act: impl Fn(&Project) -> Result<T>) -> T {
        self.insist_or(what, act, |_| {})
    }

    /// Asks until it is done; what `refused` says must hold after each refusal.
    fn insist_or<T>(&self, what: &str, act: impl Fn(&Project) -> Result<T>, refused: impl Fn(&Project)) -> T {
        for _ in 0..TRIES {
            match act(self.project()) {
                Ok(answer) => return answer,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Later, "{what}: {error:?}");
                    refused(self.project());
                }
            }
        }
        panic!("{what} is refused for ever");
    }

    fn append(&mut self, branch: &str, count: u64) {
        let branch = id(branch);
        let known = self.world.get_mut(&branch).unwrap();
        let log = known.log.as_mut().unwrap();
        let mut at = log.end();
        for number in 0..count {
            self.next_value += 1;
            log.write((number * 5 % 7) as u32, self.next_value, number % 5 == 3);
        }
        let log = log.clone();
        known.writes.retain(|write| write.0 <= log.from);
        known.writes.extend(log.writes.clone());
        for piece in log.rest(at).to_vec().chunks(9_001) {
            let durable =
                self.insist("append", |project| project.append_wal(&branch, log.timeline, at, piece));
            at = at.advanced(piece.len() as u64);
            assert_eq!(durable, at);
            self.world.get_mut(&branch).unwrap().acknowledged = at;
            self.done();
        }
    }

    fn lists(project: &Project, branch: &BranchId) -> Option<bool> {
        let branches = project.branches().ok()?;
        Some(branches.iter().any(|listed| listed.id == *branch))
    }

    fn branch(&mut self, name: &str, parent: &str, back: usize) {
        let (name, parent) = (id(name), id(parent));
        let writes = &self.world[&parent].writes;
        let writes = writes[..writes.len() - back].to_vec();
        let start = writes.last().unwrap().0;
        let made = |project: &Project| project.create_branch(&name, &parent, start);
        self.insist_or("create a branch", made, |project| {
            assert_ne!(Self::lists(project, &name), Some(true), "it was refused and made");
        });
        let known = Known { start, writes, log: None, acknowledged: start, killed: false };
        self.world.insert(name, known);
        self.done();
    }

    fn delete(&mut self, name: &str) {
        let name = id(name);
        self.insist_or(
            "delete a branch",
            |project| project.delete_branch(&name),
            |project| {
                assert_ne!(Self::lists(project, &name), Some(false), "it was refused and deleted");
            },
        );
        self.world.remove(&name);
        self.done();
    }

    fn timeline(&mut self, branch: &str) {
        let branch = id(branch);
        let before = self.world[&branch].log.clone();
        let new = self.insist_or(
            "begin a timeline",
            |project| project.begin_timeline(&branch),
            |project| {
                let Some(log) = &before else { return };
                let again = project.append_wal(&branch, log.timeline, log.end(), &[]);
                assert!(!matches!(again, Err(StoreError::Fenced { .. })), "it was refused and begun");
            },
        );
        let known = self.world.get_mut(&branch).unwrap();
        assert_eq!(new.start, known.acknowledged, "{branch} has nothing but whole records");
        known.log = Some(Log::new(new.timeline, new.start, new.state.cluster.last_record));
        self.done();
    }

    /// The branch's endpoint is killed after `count` more records: what it left is sent.
    fn tail(&mut self, branch: &str, count: u64) {
        let branch = id(branch);
        let known = self.world.get_mut(&branch).unwrap();
        let from = known.acknowledged;
        for number in 0..count {
            self.next_value += 1;
            known.log.as_mut().unwrap().write(number as u32, self.next_value, false);
        }
        let log = known.log.clone().unwrap();
        known.writes.retain(|write| write.0 <= log.from);
        known.writes.extend(log.writes.clone());
        let bytes = [log.rest(from), &GARBAGE].concat();
        let progress =
            self.insist("append a tail", |project| project.append_tail(&branch, log.timeline, from, &bytes));
        assert_eq!((progress.head, progress.ended), (log.end(), true));
        self.world.get_mut(&branch).unwrap().acknowledged = log.end();
        self.done();
    }

    fn read(&self) {
        for (branch, known) in &self.world {
            let head = self.insist("ask for the head", |project| project.head(branch));
            assert!(head <= known.acknowledged);
            for &(lsn, block, value) in known.writes.iter().filter(|write| write.0 >= known.start) {
                let read = |project: &Project| try_value_of(project, branch, lsn, block);
                assert_eq!(self.insist("read a page", read), value, "{branch}, block {block} at {lsn}");
            }
        }
    }

    fn reopen(&mut self) {
        drop(self.project.take());
        for _ in 0..TRIES {
            match Project::open_on(self.disk.clone(), &self.dir(), options()) {
                Ok(project) => {
                    self.project = Some(project);
                    return;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Later, "open: {error:?}"),
            }
        }
        panic!("the project is never opened");
    }

    fn work(&mut self) {
        self.append("br-root", 9);
        self.branch("br-a", "br-root", 3);
        self.timeline("br-a");
        self.append("br-a", 9);
        self.branch("br-b", "br-a", 0);
        self.read();
        self.timeline("br-b");
        self.append("br-b", 4);
        self.delete("br-b");
        self.tail("br-a", 3);
        self.timeline("br-a");
        // The last records are in no layer: they are taken again, and need what is in layers for it.
        self.append("br-a", 6);
        self.reopen();
        self.read();
        self.append("br-a", 4);
    }

    /// Judges what is there once the disk works again, and what a power failure then or earlier leaves.
    fn judge(self) {
        self.disk.heal();
        assert_tidy(self.project(), &self.dir());
        assert_all_there(&self.world, self.project());
        let Self { project, recorder, world, held_up, .. } = self;
        drop(project);
        let ops = recorder.ops();
        if let Some((done, world)) = held_up {
            power_lost(&ops[..done], |project, _| assert_all_there(&world, &project));
        }
        power_lost(&ops, |project, dir| {
            assert_all_there(&world, &project);
            work_on(project, world, dir);
        });
    }
}

/// Opens what a power failure after these changes leaves.
fn power_lost(ops: &[Op], judge: impl FnOnce(Project, &Path)) {
    let top = scratch();
    Files::default().after(ops).crashed(Crash::PowerLost).write(top.path());
    let dir = top.path().join("p");
    judge(Project::open_on(Arc::new(System), &dir, options()).unwrap(), &dir);
}

fn assert_all_there(world: &World, project: &Project) {
    let found: BTreeSet<BranchId> = project.branches().unwrap().into_iter().map(|branch| branch.id).collect();
    assert_eq!(found, world.keys().cloned().collect());
    for (branch, known) in world {
        let head = project.head(branch).unwrap();
        let last = known.writes.iter().rfind(|write| write.0 <= known.acknowledged);
        assert_eq!(head, last.map_or(known.start, |write| write.0), "{branch}");
        read_everything(project, branch, known, head);
    }
}

/// Runs the workload once for each operation that can fail.
fn survives_errors(what: &str, fail: impl Fn(&Faulty, u64)) {
    let data = data_dir();
    for first in 0.. {
        let mut run = Run::new(data.path());
        fail(&run.disk, first);
        run.work();
        let failed = run.disk.failed();
        eprintln!("{what} {first}: {failed:?}");
        run.judge();
        if failed.is_empty() {
            assert!(first > 50, "only {first} of {what} could fail");
            return;
        }
    }
}

fn survives_errors_of_changes(fault: Fault) {
    survives_errors("change", |disk, first| disk.fail_changes(first, fault));
}

/// Rule 3 of the crate's README.
#[test]
fn survives_an_error_at_every_change() {
    survives_errors_of_changes(ONCE);
}

#[test]
fn survives_a_lost_answer_at_every_change() {
    survives_errors_of_changes(Fault { when: When::After, ..ONCE });
}

#[test]
fn survives_a_full_disk_from_the_middle_of_every_change_on() {
    survives_errors_of_changes(Fault { error: Error::NoSpace, when: When::Amid, times: 7 });
}

#[test]
fn survives_lost_answers_from_every_change_on() {
    survives_errors_of_changes(Fault { when: When::After, times: 5, ..ONCE });
}

#[test]
fn survives_an_error_at_every_read() {
    survives_errors("read", |disk, first| disk.fail_reads(first, ONCE));
}

#[test]
fn survives_a_lack_of_descriptors_from_every_read_on() {
    let fault = Fault { error: Error::TooManyFiles, when: When::Before, times: 9 };
    survives_errors("read", |disk, first| disk.fail_reads(first, fault));
}

/// Creates a project on a disk on which something fails, until it is done.
fn create_insisting(disk: &Arc<Faulty>, top: &Path, data: &Path) -> Project {
    let import = ClusterImport { data_dir: data.to_owned(), root: root() };
    for _ in 0..TRIES {
        match Project::create_on(disk.clone(), &top.join("p"), &import, options()) {
            Ok(project) => return project,
            Err(error) => {
                assert!(!matches!(error, StoreError::Superseded { .. }), "it was refused and made");
                assert_eq!(error.kind(), ErrorKind::Later, "create: {error:?}");
            }
        }
    }
    panic!("the project is never made");
}

#[test]
fn a_project_is_made_after_an_error_at_any_change_or_read_of_its_creation() {
    let data = data_dir();
    let faults = [
        ONCE,
        Fault { when: When::After, ..ONCE },
        Fault { error: Error::NoSpace, when: When::Amid, times: 3 },
    ];
    for (reads, fault) in [(false, faults[0]), (false, faults[1]), (false, faults[2]), (true, faults[0])] {
        for first in 0.. {
            let top = scratch();
            let disk = Arc::new(Faulty::new(Arc::new(System)));
            if reads {
                disk.fail_reads(first, fault)
            } else {
                disk.fail_changes(first, fault)
            }
            let project = create_insisting(&disk, top.path(), data.path());
            let failed = disk.failed();
            eprintln!("{fault:?} {first}: {failed:?}");
            disk.heal();
            work_on(project, imported(), &top.path().join("p"));
            if failed.is_empty() {
                break;
            }
        }
    }
}

/// Names and files of a directory below the project's.
fn count(run: &Run, below: &str) -> usize {
    fs::read_dir(run.dir().join(below)).map_or(0, Iterator::count)
}

/// A manifest whose name could not be synced was once taken for one that is not there. Nobody could write the next, and
/// each attempt left a layer behind.
#[test]
fn a_manifest_of_which_it_is_not_known_whether_it_is_durable_is_looked_for() {
    let data = data_dir();
    let mut run = Run::new(data.path());
    run.disk.fail_changes_of("p/manifest", ONCE);
    run.append("br-root", 9);
    run.project().flush().unwrap();
    assert_eq!(run.disk.failed().len(), 1);
    run.branch("br-a", "br-root", 0);
    run.judge();
}

#[test]
fn a_disk_on_which_no_layer_can_be_listed_is_not_filled_with_layers() {
    let data = data_dir();
    let mut run = Run::new(data.path());
    run.append("br-root", 9);
    let project = run.project();
    project.flush().unwrap();
    let (layers, files) = (count(&run, "layers"), count(&run, "tmp"));
    let mut log = run.world[&root()].log.clone().unwrap();
    let at = log.end();
    (0..12).for_each(|number| log.write(number, 77, true));
    run.disk.fail_changes_of("p/manifest", Fault { times: u64::MAX, ..ONCE });
    let send = || project.append_wal(&root(), log.timeline, at, log.rest(at));
    let refusals = (0..20).filter(|_| send().is_err() || project.flush().is_err()).count();
    assert!(refusals >= 18, "{refusals}");
    assert!(count(&run, "layers") <= layers + 1, "{} layers", count(&run, "layers"));
    assert!(count(&run, "tmp") <= files + 2, "{} files", count(&run, "tmp"));
    run.disk.heal();
    send().unwrap();
    let known = run.world.get_mut(&root()).unwrap();
    (known.acknowledged, known.writes) = (log.end(), log.writes.clone());
    known.log = Some(log);
    run.judge();
}
