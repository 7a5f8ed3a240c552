//! Memory runs out, is given back, and nobody waits for ever; branches are closed under the hands of readers and writers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use types::{BranchId, Lsn, PgTime};

use super::{Holder, Memory, room};
use crate::answer::{ClusterImport, StoreOptions};
use crate::crash::cluster::{self, Log, import_end, value_of};
use crate::crash::fault::{Error, Fault, Faulty, When};
use crate::disk::{Disk, System};
use crate::error::{ErrorKind, StoreError};
use crate::limits::{BRANCH_IDLE, FLUSH_WAIT};
use crate::manifest::BranchEntry;
use crate::memory::keeper;
use crate::project::Project;

/// Set in a process that writes and measures itself.
const IS_WRITER: &str = "SCION_STORE_WRITER";

fn root() -> BranchId {
    "br-root".parse().unwrap()
}

fn named(number: usize) -> BranchId {
    format!("br-{number}").parse().unwrap()
}

fn scratch() -> tempfile::TempDir {
    let builder = || tempfile::Builder::new().prefix("store-memory-").to_owned();
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).unwrap()
}

fn options(memtables: usize) -> StoreOptions {
    let memory = Arc::new(Memory::with_cache(memtables, 4 << 20));
    StoreOptions { memtable_bytes: 32 << 20, memory }
}

fn create(disk: Arc<dyn Disk>, top: &Path, name: &str, options: &StoreOptions) -> Project {
    let data = top.join(format!("{name}-data"));
    cluster::write_data_dir(&data);
    let import = ClusterImport { data_dir: data, root: root() };
    Project::create_on(disk, &top.join(name), &import, options.clone()).unwrap()
}

/// A branch on the root, and the log that is to be written to it.
fn branch(project: &Project, id: &BranchId) -> Log {
    project.create_branch(id, &root(), import_end()).unwrap();
    let new = project.begin_timeline(id).unwrap();
    Log::new(new.timeline, new.start, new.state.cluster.last_record)
}

/// Writes whole pages until there are `bytes` of them; every page of a number says it.
fn fill(log: &mut Log, bytes: usize, value: u64) {
    let until = log.bytes.len() + bytes;
    let mut block = 0;
    while log.bytes.len() < until {
        log.write(block % 100, value, true);
        block += 1;
    }
}

fn send(project: &Project, id: &BranchId, log: &Log, from: Lsn) -> Result<Lsn, StoreError> {
    let mut at = from;
    for piece in log.rest(from).chunks(128 << 10) {
        at = project.append_wal(id, log.timeline, at, piece)?;
    }
    Ok(at)
}

/// As an endpoint does.
fn insist(project: &Project, id: &BranchId, log: &Log, from: Lsn) {
    let mut at = from;
    while at < log.end() {
        let rest = log.rest(at);
        match project.append_wal(id, log.timeline, at, &rest[..rest.len().min(128 << 10)]) {
            Ok(durable) => at = durable,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Later, "{error}"),
        }
    }
}

fn waited_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The flusher may hold what it wrote for a moment longer.
fn all_is_given_back(options: &StoreOptions) {
    waited_for("all is given back", || options.memory.used() == 0);
}

fn kilobytes(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// In a process of its own: what others of this one hold does not count.
#[test]
fn two_hundred_branches_with_two_megabytes_each_take_no_more_memory_than_one_server_may() {
    const BRANCHES: usize = 200;
    if std::env::var_os(IS_WRITER).is_none() {
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!(
            "{module}::two_hundred_branches_with_two_megabytes_each_take_no_more_memory_than_one_server_may"
        );
        let mut writer = Command::new(std::env::current_exe().unwrap());
        let writer = writer.args([&name, "--exact", "--nocapture"]).env(IS_WRITER, "1").output().unwrap();
        let said = String::from_utf8_lossy(&writer.stderr);
        assert!(writer.status.success() && said.contains("grown by"), "no test is {name}, or: {said}");
        return;
    }
    let top = scratch();
    let options = options(32 << 20);
    let project = create(Arc::new(System), top.path(), "p", &options);
    let before = kilobytes("VmRSS");
    for number in 0..BRANCHES {
        let mut log = branch(&project, &named(number));
        fill(&mut log, 2 << 20, number as u64);
        send(&project, &named(number), &log, log.from).unwrap();
    }
    let grown = kilobytes("VmHWM") - before;
    eprintln!("grown by {} MB", grown >> 10);
    assert!(grown < 160 << 10, "grown by {} MB", grown >> 10);
    for number in (0..BRANCHES).step_by(17) {
        let head = project.head(&named(number)).unwrap();
        assert_eq!(value_of(&project, &named(number), head, 3), number as u64);
    }
}

/// Rule 12 of the crate's README.
#[test]
fn writers_wait_for_memory_and_all_of_them_go_on() {
    const MEMTABLES: usize = 2 << 20;
    let (top, options) = (scratch(), options(MEMTABLES));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let logs: Vec<Log> = (0..12).map(|number| branch(&project, &named(number))).collect();
    let (most, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                most.fetch_max(options.memory.used(), Ordering::AcqRel);
                thread::yield_now();
            }
        });
        let writers: Vec<_> = logs
            .into_iter()
            .enumerate()
            .map(|(number, mut log)| {
                let project = &project;
                scope.spawn(move || {
                    fill(&mut log, 1 << 20, number as u64);
                    send(project, &named(number), &log, log.from).unwrap();
                    value_of(project, &named(number), log.end(), 5)
                })
            })
            .collect();
        for (number, writer) in writers.into_iter().enumerate() {
            assert_eq!(writer.join().unwrap(), number as u64);
        }
        ended.store(true, Ordering::Release);
    });
    let most = most.into_inner();
    assert!(most > MEMTABLES / 2, "the bound was not reached: {most}");
    // A piece of WAL may become somewhat more than was set aside for it.
    assert!(most < MEMTABLES * 5 / 4, "{most} bytes at once");
    project.flush().unwrap();
    all_is_given_back(&options);
}

#[test]
fn who_waits_in_vain_is_told_what_for_and_who_does_not_goes_on_at_once() {
    let (top, options) = (scratch(), options(8 << 20));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let core = &project.core;
    let root = project.open_branch(&root()).unwrap();
    let mut rooms: Vec<_> =
        std::iter::from_fn(|| room::take(&**core, &root.id, usize::MAX).unwrap()).collect();
    assert_eq!((rooms.len(), options.memory.used()), (8, 8 << 20));
    let refused = room::wait_within(&**core, &root.id, 1, Duration::from_millis(5)).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Later);
    let said = "all projects hold 8 MB of what is not, of at most 8 MB";
    assert!(refused.to_string().contains(said), "{refused}");
    thread::scope(|scope| {
        let waits = scope.spawn(|| room::wait_within(&**core, &root.id, 1, Duration::from_secs(60)));
        waited_for("it waits", || options.memory.waiting.load(Ordering::SeqCst) == 1);
        rooms.pop();
        assert!(waits.join().unwrap().is_ok());
    });
    rooms.clear();
    all_is_given_back(&options);
    assert_eq!(core.account.held(), 0);
}

/// Its layers cannot be written for long; its WAL is taken for as long as there is memory.
/// Rule 4 of the crate's README.
/// Rule 13 of the crate's README.
#[test]
fn a_project_whose_layers_cannot_be_written_holds_up_no_other() {
    const MEMTABLES: usize = 4 << 20;
    const FOR_LONG: Fault = Fault { error: Error::Io, when: When::Before, times: u64::MAX };
    let (top, options) = (scratch(), options(MEMTABLES));
    let disk = Arc::new(Faulty::new(Arc::new(System)));
    let sick = create(disk.clone(), top.path(), "sick", &options);
    let well = create(Arc::new(System), top.path(), "well", &options);
    let mut logs: Vec<Log> = (0..6).map(|number| branch(&sick, &named(number))).collect();
    // It has nearly all memory when its disk begins to fail.
    for (number, log) in logs.iter_mut().enumerate() {
        fill(log, 450 << 10, number as u64);
        send(&sick, &named(number), log, log.from).unwrap();
    }
    disk.fail_changes_of(".layer", FOR_LONG);
    let mut refused = None;
    waited_for("it is refused", || {
        for (number, log) in logs.iter_mut().enumerate() {
            let sent = sick.log_end(&named(number)).unwrap();
            if log.end() < sent.advanced(64 << 10) {
                fill(log, 64 << 10, 100 + number as u64);
            }
            refused = send(&sick, &named(number), log, sent).err().or(refused.take());
        }
        refused.is_some()
    });
    let error = refused.unwrap();
    assert!(matches!(error, StoreError::FlushFailing { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Later);
    let half = options.memory.failing_max();
    waited_for("it gives back what is more than half", || sick.core.account.held() <= half);

    let mut log = branch(&well, &named(0));
    fill(&mut log, 6 << 20, 7);
    insist(&well, &named(0), &log, log.from);
    assert_eq!(value_of(&well, &named(0), log.end(), 5), 7);
    assert!(sick.core.account.held() <= half);

    // What was dropped is read from the WAL again.
    disk.heal();
    for (number, log) in logs.iter().enumerate() {
        insist(&sick, &named(number), log, sick.log_end(&named(number)).unwrap());
        waited_for("all is filed", || sick.retry_unread(&named(number)).is_ok());
        for &(lsn, block, value) in log.writes.iter().step_by(7).chain(log.writes.last()) {
            assert_eq!(value_of(&sick, &named(number), lsn, block), value, "branch {number} at {lsn}");
        }
    }
    drop(sick);
    let sick = Project::open_with(&top.path().join("sick"), options.clone()).unwrap();
    for (number, log) in logs.iter().enumerate() {
        assert_eq!(sick.head(&named(number)).unwrap(), log.end());
    }
    let layers = fs::read_dir(top.path().join("sick/layers")).unwrap().count();
    let listed = sick.core.manifests.get().branches.values().map(|entry| entry.layers.len()).sum::<usize>();
    assert_eq!(layers, listed, "no layer of what was dropped is left");
}

/// The flusher never comes back, so that somebody else must see to it.
/// Rule 13 of the crate's README.
#[test]
fn a_project_whose_disk_hangs_holds_up_no_other() {
    let (top, options) = (scratch(), options(4 << 20));
    let disk = Arc::new(Faulty::new(Arc::new(System)));
    let sick = create(disk.clone(), top.path(), "sick", &options);
    let well = create(Arc::new(System), top.path(), "well", &options);
    let mut logs: Vec<Log> = (0..6).map(|number| branch(&sick, &named(number))).collect();
    for (number, log) in logs.iter_mut().enumerate() {
        fill(log, 450 << 10, number as u64);
        send(&sick, &named(number), log, log.from).unwrap();
    }
    let until = disk.hang_changes_of(".layer");
    let hangs = until.lock();
    let half = options.memory.failing_max();
    assert!(sick.core.account.held() > half);
    let first = sick.open_branch(&named(0)).unwrap();
    waited_for("it is frozen", || sick.core.freeze(&first.id));
    drop(first);
    waited_for("it gives back what is more than half", || {
        keeper::tend(&options.memory, Instant::now() + FLUSH_WAIT * 2);
        sick.core.account.held() <= half
    });
    let mut log = branch(&well, &named(0));
    fill(&mut log, 6 << 20, 7);
    insist(&well, &named(0), &log, log.from);
    assert_eq!(value_of(&well, &named(0), log.end(), 5), 7);

    drop(hangs);
    for (number, log) in logs.iter().enumerate() {
        assert_eq!(sick.head(&named(number)).unwrap(), log.end());
        for &(lsn, block, value) in log.writes.iter().step_by(7).chain(log.writes.last()) {
            assert_eq!(value_of(&sick, &named(number), lsn, block), value, "branch {number} at {lsn}");
        }
    }
}

/// Lets the keeper believe again and again that nobody used anything for long.
#[derive(Default)]
struct LongAfter(u32);

impl LongAfter {
    fn tend(&mut self, memory: &Memory) {
        self.0 += 1;
        keeper::tend(memory, Instant::now() + BRANCH_IDLE * 2 * self.0);
    }

    fn all_are_closed(&mut self, project: &Project) {
        waited_for("all are closed", || {
            self.tend(project.core.account.memory());
            project.open_branches() == 0
        });
    }
}

/// Rule 14 of the crate's README.
#[test]
fn a_branch_that_nobody_uses_is_written_closed_and_opened_again_on_demand() {
    let (top, options) = (scratch(), options(64 << 20));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let mut log = branch(&project, &named(0));
    fill(&mut log, 1 << 20, 1);
    send(&project, &named(0), &log, log.from).unwrap();
    let sent = log.end();
    assert!(options.memory.used() > 1 << 20);
    let mut later = LongAfter::default();
    later.all_are_closed(&project);
    all_is_given_back(&options);
    assert_eq!(value_of(&project, &named(0), sent, 3), 1);
    assert_eq!(project.open_branches(), 2, "it and its parent");
    fill(&mut log, 100 << 10, 2);
    send(&project, &named(0), &log, sent).unwrap();
    assert_eq!(value_of(&project, &named(0), log.end(), 3), 2);

    // What is held is never closed, and what it begins on is held.
    let held = project.open_branch(&named(0)).unwrap();
    project.flush().unwrap();
    (0..3).for_each(|_| later.tend(&options.memory));
    assert_eq!(project.open_branches(), 2);
    drop(held);
    later.all_are_closed(&project);
}

#[test]
fn closing_is_not_noticed_by_those_who_read_write_and_branch_just_then() {
    const TIMES: usize = 60;
    let (top, options) = (scratch(), options(64 << 20));
    let project = &create(Arc::new(System), top.path(), "p", &options);
    let (closed, ended) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let deadline = Instant::now() + Duration::from_secs(120);
    let write = |number: usize| {
        let (id, child) = (named(number), named(100 + number));
        let mut log = branch(project, &id);
        // Block 0 says how many writes there were, so that whoever reads meanwhile can judge it.
        for value in 1.. {
            if closed.load(Ordering::Acquire) >= TIMES {
                break;
            }
            assert!(Instant::now() < deadline, "closed only {} times", closed.load(Ordering::Acquire));
            let from = log.end();
            log.write(0, value, false);
            log.write(1 + value as u32 % 5, value, true);
            send(project, &id, &log, from).unwrap();
            let (lsn, block, expected) = log.writes[log.writes.len() / 2];
            assert_eq!(value_of(project, &id, lsn, block), expected);
            assert_eq!(project.state_at(&id, log.end()).unwrap().cluster.lsn, log.end());
            if value % 10 == 0 {
                project.create_branch(&child, &id, log.end()).unwrap();
                assert_eq!(value_of(project, &child, log.end(), 0), value);
                project.delete_branch(&child).unwrap();
            }
        }
        log
    };
    let read = |number: usize| {
        let mut newest = 0;
        while !ended.load(Ordering::Acquire) {
            let Ok(head) = project.head(&named(number)) else { continue };
            if head > import_end() {
                let value = value_of(project, &named(number), head, 0);
                assert!(value >= newest, "{value} was read after {newest}");
                newest = value;
            }
            thread::sleep(Duration::from_micros(200));
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3).map(|number| scope.spawn(move || write(number))).collect();
        let readers: Vec<_> = (0..3).map(|number| scope.spawn(move || read(number))).collect();
        let (mut later, mut seen) = (LongAfter::default(), vec![std::ptr::null(); 3]);
        while !writers.iter().all(|writer| writer.is_finished()) {
            later.tend(&options.memory);
            for (number, seen) in seen.iter_mut().enumerate() {
                let now = project.core.branch(&named(number)).map_or(*seen, |branch| Arc::as_ptr(&branch));
                let was_closed = std::mem::replace(seen, now) != now;
                closed.fetch_add(usize::from(was_closed), Ordering::AcqRel);
            }
        }
        ended.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        for (number, writer) in writers.into_iter().enumerate() {
            for (lsn, block, value) in writer.join().unwrap().writes {
                assert_eq!(value_of(project, &named(number), lsn, block), value, "{number} at {lsn}");
            }
        }
    });
}

/// Rule 15 of the crate's README.
#[test]
fn however_long_the_history_of_a_branch_few_of_its_waypoints_are_in_memory() {
    let (top, options) = (scratch(), options(64 << 20));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let mut log = Log::imported();
    for round in 0..6 {
        let from = log.end();
        fill(&mut log, 2 << 20, round);
        send(&project, &root(), &log, from).unwrap();
        project.flush().unwrap();
    }
    let in_memory = || {
        let branch = project.open_branch(&root()).unwrap();
        let view = branch.view.read();
        let tables = view.frozen.iter().map(|table| table.waypoints.len()).sum::<usize>();
        tables + view.active.waypoints.len() + view.layers.len()
    };
    assert!(log.bytes.len() >> 18 >= 48, "waypoints there are");
    assert!(in_memory() <= 8, "{} in memory", in_memory());
    for &(lsn, ..) in log.writes.iter().step_by(11) {
        assert_eq!(project.resolve_lsn(&root(), lsn).unwrap().lsn, lsn);
        assert_eq!(project.state_at(&root(), lsn).unwrap().cluster.lsn, lsn);
    }
    assert!(in_memory() <= 8, "{} in memory", in_memory());
}

/// Rule 12 of the crate's README.
#[test]
fn remembered_lengths_count_and_go_with_the_memtable() {
    let (top, options) = (scratch(), options(64 << 20));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let mut log = Log::imported();
    (20_000..25_000).for_each(|relation| log.create_relation(relation));
    send(&project, &root(), &log, log.from).unwrap();
    let table = project.open_branch(&root()).unwrap().view.read().active.bytes();
    assert!(options.memory.used() >= table + 5_000 * 40, "{} for {table}", options.memory.used());
    project.flush().unwrap();
    all_is_given_back(&options);
}

/// Rule 12 of the crate's README.
#[test]
fn projects_share_one_cache() {
    let (top, options) = (scratch(), options(64 << 20));
    let projects: Vec<Project> =
        (0..4).map(|number| create(Arc::new(System), top.path(), &number.to_string(), &options)).collect();
    let mut log = Log::imported();
    // Every block of pages is another.
    (0..400).for_each(|block| log.write(block, u64::from(block), true));
    for project in &projects {
        send(project, &root(), &log, log.from).unwrap();
        project.flush().unwrap();
    }
    for project in &projects {
        for &(lsn, block, value) in &log.writes {
            assert_eq!(value_of(project, &root(), lsn, block), value);
        }
    }
    let (held, most) = (options.memory.cache.bytes(), 4 << 20);
    assert!(held > most / 2 && held <= most, "{held} bytes of blocks");
}

/// More generations than a stack takes.
#[test]
fn a_branch_ten_thousand_generations_deep_is_read_written_and_dropped() {
    const DEPTH: usize = 10_000;
    let (top, options) = (scratch(), options(64 << 20));
    let project = create(Arc::new(System), top.path(), "p", &options);
    let mut log = Log::imported();
    fill(&mut log, 64 << 10, 3);
    send(&project, &root(), &log, log.from).unwrap();
    let end = log.end();
    let name = |number: usize| if number == 0 { root() } else { named(number) };
    project
        .core
        .manifests
        .commit(|manifest| {
            for number in 1..=DEPTH {
                manifest.add(&name(number), BranchEntry::new(Some(&name(number - 1)), end));
            }
            Ok(())
        })
        .unwrap();
    drop(project);
    let dir: PathBuf = top.path().join("p");
    let small_stack = thread::Builder::new().stack_size(512 << 10);
    let life = move || {
        let project = Project::open_with(&dir, options.clone()).unwrap();
        let deepest = named(DEPTH);
        assert_eq!(value_of(&project, &deepest, end, 3), 3);
        assert_eq!(project.open_branches(), DEPTH + 1);
        assert_eq!(project.ancestors(&deepest).unwrap().len(), DEPTH);
        assert_eq!(project.branches().unwrap().len(), DEPTH + 1);
        let new = project.begin_timeline(&deepest).unwrap();
        assert_eq!(new.history, [(log.timeline, end)]);
        assert_eq!(project.resolve_lsn(&deepest, log.from).unwrap().branch, root());
        let late = PgTime::from_pg_us(i64::MAX >> 2);
        assert_eq!(project.resolve_time(&deepest, late).unwrap().branch, root());
        let prefix = project.wal_segment_prefix(&deepest, end).unwrap();
        assert!(log.bytes.ends_with(&prefix[prefix.len() - 8192..]));
        // All go at once, the deepest first.
        LongAfter::default().all_are_closed(&project);
        assert_eq!(value_of(&project, &deepest, end, 3), 3);
    };
    small_stack.spawn(life).unwrap().join().unwrap();
}
