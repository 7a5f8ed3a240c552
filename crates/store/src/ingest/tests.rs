//! Faults while WAL is taken: where the log ends stays right, and what was acknowledged is there when they are gone.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use types::{BranchId, Lsn};
use wal::WalError;
use wal::segment::segment_name;

use crate::answer::{ClusterImport, StoreOptions};
use crate::crash::cluster::{self, Log, SEGMENT, value_of};
use crate::error::StoreError;
use crate::object::memory::readable_if;
use crate::project::Project;

thread_local! {
    static UPGRADED: Cell<bool> = const { Cell::new(false) };
}

/// On a thread that was upgraded, records of an unknown type do nothing.
pub(crate) fn upgraded(interpreted: Result<(), WalError>) -> Result<(), WalError> {
    match interpreted {
        Err(WalError::Unknown { .. }) if UPGRADED.get() => Ok(()),
        outcome => outcome,
    }
}

/// Bytes that are no WAL, as a recycled segment holds behind the last record.
static GARBAGE: [u8; 20_000] = [0xA5; 20_000];

fn root() -> BranchId {
    "br-root".parse().unwrap()
}

struct World {
    top: tempfile::TempDir,
    log: Log,
    next: u64,
}

impl World {
    /// A project with some pages in a layer, closed.
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        cluster::write_data_dir(&top.path().join("data"));
        let import = ClusterImport { data_dir: top.path().join("data"), root: root() };
        let project = Project::create(&top.path().join("p"), &import).unwrap();
        let mut world = Self { top, log: Log::imported(), next: 0 };
        world.write(12);
        project.append_wal(&root(), world.log.timeline, world.log.from, &world.log.bytes).unwrap();
        project.flush().unwrap();
        world
    }

    fn dir(&self) -> PathBuf {
        self.top.path().join("p")
    }

    fn open(&self) -> Project {
        Project::open_with(&self.dir(), StoreOptions::default()).unwrap()
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.next += 1;
            self.log.write((self.next % 5) as u32, self.next, false);
        }
    }

    fn send(&self, project: &Project, from: Lsn) -> Lsn {
        project.append_wal(&root(), self.log.timeline, from, self.log.rest(from)).unwrap()
    }

    /// What a killed endpoint's directory holds: its log, and what its segment held before.
    fn send_tail(&self, project: &Project, from: Lsn) -> (Lsn, bool) {
        let bytes = [self.log.rest(from), &GARBAGE[..]].concat();
        let progress = project.append_tail(&root(), self.log.timeline, from, &bytes).unwrap();
        (progress.head, progress.ended)
    }

    fn wal_file(&self, at: Lsn) -> PathBuf {
        let name = segment_name(self.log.timeline, at.segment(SEGMENT), SEGMENT);
        self.dir().join("wal/br-root/00000001").join(name)
    }

    /// Every page at every record up to the end.
    fn assert_all_there(&self, project: &Project) {
        assert_eq!(project.head(&root()).unwrap(), self.log.end());
        for &(lsn, block, value) in &self.log.writes {
            assert_eq!(value_of(project, &root(), lsn, block), value, "block {block} at {lsn}");
        }
    }
}

fn stuck(project: &Project) -> Option<String> {
    project.branches().unwrap().into_iter().find(|info| info.id == root()).unwrap().stuck
}

/// Rule 2 of the crate's README.
#[test]
fn what_a_passing_fault_held_up_is_taken_with_the_next_append_or_question() {
    let mut world = World::new();
    let readable = readable_if();
    let project = world.open();
    let before = project.head(&root()).unwrap();
    readable.store(false, Ordering::SeqCst);
    let end = world.log.end();
    world.write(3);
    assert_eq!(world.send(&project, end), world.log.end(), "WAL is taken whatever cannot be read");
    assert_eq!(
        (project.head(&root()).unwrap(), project.log_end(&root()).unwrap()),
        (before, world.log.end())
    );
    assert!(stuck(&project).is_some());
    let unread = project.unread(&root()).unwrap().unwrap();
    assert_eq!((unread.at, unread.records, unread.lasting), (before, 3, false));
    let refused = project.resolve_lsn(&root(), world.log.end());
    assert!(matches!(refused, Err(StoreError::Behind { .. })), "{refused:?}");
    let refused = project.begin_timeline(&root()).map(|_| ());
    assert!(matches!(refused, Err(StoreError::Behind { .. })), "{refused:?}");

    readable.store(true, Ordering::SeqCst);
    assert_eq!(project.resolve_lsn(&root(), world.log.end()).unwrap().lsn, world.log.end());
    assert_eq!((stuck(&project), project.unread(&root()).unwrap()), (None, None));
    world.assert_all_there(&project);

    drop(project);
    let project = world.open();
    project.head(&root()).unwrap();
    readable.store(false, Ordering::SeqCst);
    let end = world.log.end();
    world.write(2);
    world.send(&project, end);
    readable.store(true, Ordering::SeqCst);
    let end = world.log.end();
    world.write(2);
    world.send(&project, end);
    assert_eq!(stuck(&project), None);
    world.assert_all_there(&project);
}

#[test]
fn a_log_ends_where_its_last_record_does_though_its_branch_cannot_be_read() {
    let mut world = World::new();
    let readable = readable_if();
    let project = world.open();
    project.head(&root()).unwrap();
    readable.store(false, Ordering::SeqCst);
    let end = world.log.end();
    world.write(2);
    world.send(&project, end);
    let end = world.log.end();
    world.write(3);
    assert_eq!(world.send_tail(&project, end), (world.log.end(), true));
    drop(project);

    readable.store(true, Ordering::SeqCst);
    let project = world.open();
    assert_eq!(project.begin_timeline(&root()).unwrap().start, world.log.end());
    world.assert_all_there(&project);
}

/// Rule 2 of the crate's README.
#[test]
fn a_record_of_an_unknown_type_is_kept_and_read_after_an_upgrade() {
    let mut world = World::new();
    let project = world.open();
    let end = world.log.end();
    world.write(1);
    let before = world.log.end();
    world.log.write_unknown();
    world.write(4);
    world.send(&project, end);
    assert!(stuck(&project).unwrap().contains("unknown record type"), "{:?}", stuck(&project));
    let end = world.log.end();
    world.write(2);
    assert_eq!(world.send_tail(&project, end), (world.log.end(), true));
    drop(project);

    let project = world.open();
    let unread = project.unread(&root()).unwrap().unwrap();
    assert_eq!((unread.at, unread.held, unread.records), (before, world.log.end(), 7));
    assert!(unread.lasting && unread.reason.contains("unknown record type"), "{unread:?}");
    for refused in [project.begin_timeline(&root()).map(|_| ()), project.retry_unread(&root()).map(|_| ())] {
        assert!(matches!(refused, Err(StoreError::Stuck { .. })), "{refused:?}");
    }
    let refused = project.resolve_lsn(&root(), world.log.end());
    assert!(matches!(refused, Err(StoreError::Stuck { .. })), "{refused:?}");
    UPGRADED.set(true);
    assert_eq!(project.retry_unread(&root()).unwrap(), world.log.end());
    world.assert_all_there(&project);
    drop(project);
    let project = world.open();
    assert_eq!(project.begin_timeline(&root()).unwrap().start, world.log.end());
    world.assert_all_there(&project);
}

/// Rule 5 of the crate's README.
#[test]
fn a_log_that_is_stuck_can_be_ended_there() {
    let mut world = World::new();
    let project = world.open();
    let end = world.log.end();
    world.log.write_unknown();
    world.write(4);
    world.send(&project, end);
    let elsewhere = project.end_log(&root(), world.log.end());
    assert!(matches!(elsewhere, Err(StoreError::NotStuck { .. })), "{elsewhere:?}");
    project.end_log(&root(), end).unwrap();
    assert!(matches!(project.end_log(&root(), end), Err(StoreError::NotStuck { .. })));
    let fenced = project.append_wal(&root(), world.log.timeline, world.log.end(), b"x");
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "{fenced:?}");
    drop(project);

    let project = world.open();
    assert_eq!((stuck(&project), project.log_end(&root()).unwrap()), (None, end));
    let new = project.begin_timeline(&root()).unwrap();
    assert_eq!(new.start, end);
    let mut log = Log::new(new.timeline, end, new.state.cluster.last_record);
    log.write(3, 4711, false);
    project.append_wal(&root(), new.timeline, end, &log.bytes).unwrap();
    assert_eq!(value_of(&project, &root(), log.end(), 3), 4711);
    assert!(world.wal_file(end).exists(), "what was given up is still in its file");
}

/// Puts `bytes` where the log ends, as a process that was killed then, or a failing disk, leaves them.
fn leave(world: &World, bytes: &[u8]) {
    let end = world.log.end();
    let mut held = fs::read(world.wal_file(end)).unwrap();
    held.truncate(end.offset_in_segment(SEGMENT) as usize);
    held.extend(bytes);
    fs::write(world.wal_file(end), held).unwrap();
}

#[test]
fn what_cannot_be_wal_behind_the_last_record_is_cut_when_nobody_sends_it_again() {
    for zeros_to_the_end_of_the_page in [false, true] {
        let world = World::new();
        let zeros = if zeros_to_the_end_of_the_page { 8192 - world.log.end().raw() % 8192 } else { 0 };
        leave(&world, &[vec![0; zeros as usize], GARBAGE.to_vec()].concat());
        let project = world.open();
        assert_eq!(project.begin_timeline(&root()).unwrap().start, world.log.end());
        world.assert_all_there(&project);
    }
}

#[test]
fn what_may_have_been_wal_is_kept_until_somebody_says_otherwise() {
    let mut world = World::new();
    let (end, log) = (world.log.end(), world.log.clone());
    world.write(2);
    let mut damaged = world.log.rest(end).to_vec();
    damaged[40] ^= 1;
    world.log = log;
    for bytes in [damaged, vec![0; 12_000]] {
        leave(&world, &bytes);
        let project = world.open();
        let refused = project.begin_timeline(&root()).map(|_| ());
        assert!(matches!(refused, Err(StoreError::Stuck { .. })), "{refused:?}");
        let unread = project.unread(&root()).unwrap().unwrap();
        assert_eq!((unread.at, unread.held), (end, end.advanced(bytes.len() as u64)));
        assert_eq!((unread.records, unread.lasting), (0, true));
    }
    let project = world.open();
    project.end_log(&root(), end).unwrap();
    assert_eq!(project.begin_timeline(&root()).unwrap().start, end);
}

/// It once read as zeros: the log ended there, and what followed was cut off when more was sent.
/// Rule 16 of the crate's README.
#[test]
fn a_segment_that_is_missing_is_named_and_what_follows_it_stays() {
    let mut world = World::new();
    let project = world.open();
    let sent = world.log.end();
    while world.log.end() < sent.advanced(8 * SEGMENT) {
        world.next += 1;
        world.log.write((world.next % 5) as u32, world.next, true);
    }
    world.send(&project, sent);
    let (lost, last) = (world.wal_file(sent.advanced(2 * SEGMENT)), world.wal_file(world.log.end()));
    // Known to be there while the branch is open, and needed by who asks for a position in it.
    let kept = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let name = lost.display().to_string();
    let refused = |error: &StoreError| matches!(error, StoreError::Corrupt { object, .. } if *object == name);
    let prefix = project.wal_segment_prefix(&root(), sent.advanced(2 * SEGMENT));
    assert!(refused(prefix.as_ref().unwrap_err()), "{prefix:?}");
    drop(project);

    let project = world.open();
    for _ in 0..2 {
        let outcome = project.append_wal(&root(), world.log.timeline, world.log.end(), b"x");
        assert!(refused(outcome.as_ref().unwrap_err()), "{outcome:?}");
    }
    assert!(last.exists());
    fs::write(&lost, kept).unwrap();
    world.assert_all_there(&project);
}

#[test]
fn a_record_that_could_not_be_filed_leaves_nothing_behind() {
    let mut world = World::new();
    let readable = readable_if();
    let project = world.open();
    project.head(&root()).unwrap();
    for round in 0..3 {
        readable.store(false, Ordering::SeqCst);
        let end = world.log.end();
        world.log.write(9 + round, 100 + u64::from(round), true);
        world.send(&project, end);
        readable.store(true, Ordering::SeqCst);
        assert_eq!(project.retry_unread(&root()).unwrap(), world.log.end());
        world.assert_all_there(&project);
        project.flush().unwrap();
    }
}
