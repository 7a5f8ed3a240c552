//! Clauses of the README's rules, each on the smallest cluster in which it can be broken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use types::{BranchId, Fork, Lsn, RelFork, RelTag};

use crate::answer::{ClusterImport, StoreOptions};
use crate::crash::cluster::{self, Log, REL, import_end, try_value_in, value_of};
use crate::crash::fault::{Error, Fault, Faulty, When};
use crate::disk::System;
use crate::error::StoreError;
use crate::limits::{
    BRANCH_IDLE, CACHE_BYTES, CHAIN_MAX, FAILING_SHARE, FLUSH_WAIT, FREEZE_ABOVE, FROZEN_AT_OPEN_MAX,
    FROZEN_MAX, MEMORY_WAIT, MEMTABLES_BYTES, OPEN_BRANCHES_MAX, PIECE_BYTES, WAYPOINT_EVERY,
};
use crate::manifest::BranchEntry;
use crate::memory::{Memory, keeper};
use crate::project::Project;

fn root() -> BranchId {
    "br-root".parse().unwrap()
}

fn named(number: usize) -> BranchId {
    format!("br-{number}").parse().unwrap()
}

/// A project of its own, its directory, and the log that the root goes on with.
fn world() -> (Project, tempfile::TempDir, Log) {
    world_on(Arc::new(Faulty::new(Arc::new(System))), StoreOptions::default())
}

fn world_on(disk: Arc<Faulty>, options: StoreOptions) -> (Project, tempfile::TempDir, Log) {
    let top = tempfile::tempdir().unwrap();
    cluster::write_data_dir(&top.path().join("data"));
    let import = ClusterImport { data_dir: top.path().join("data"), root: root() };
    let project = Project::create_on(disk, &top.path().join("p"), &import, options).unwrap();
    (project, top, Log::imported())
}

fn send(project: &Project, log: &Log, from: Lsn) {
    project.append_wal(&root(), log.timeline, from, log.rest(from)).unwrap();
}

/// What `ask` says while everything is in memory, and the same again when it is in layers.
fn in_memory_and_in_layers(project: &Project, ask: impl Fn()) {
    ask();
    project.flush().unwrap();
    ask();
}

/// Siblings and children begin them in turn, one branch is deleted and made again, and the project is opened again.
/// Rule 5 of the crate's README.
#[test]
fn no_two_timelines_of_a_project_have_one_number() {
    let (mut project, top, log) = world();
    let mut numbers = BTreeSet::from([log.timeline]);
    for round in 0..3 {
        for number in 0..4 {
            let parent = if number == 3 { named(0) } else { root() };
            if project.head(&named(number)).is_err() {
                project.create_branch(&named(number), &parent, import_end()).unwrap();
            }
            let timeline = project.begin_timeline(&named(number)).unwrap().timeline;
            assert!(numbers.insert(timeline), "{timeline:?} was another's, in round {round}");
        }
        project.delete_branch(&named(2)).unwrap();
        drop(project);
        project = Project::open(&top.path().join("p")).unwrap();
    }
}

/// A file number is used again, and the fork grows past blocks that nobody writes.
/// Rule 7 of the crate's README.
#[test]
fn nothing_of_an_earlier_life_of_a_file_number_shows() {
    let (project, _top, mut log) = world();
    let number = REL.rel.relation;
    log.create_relation(number);
    (0..3).for_each(|block| log.write(block, 1, false));
    let earlier = log.end();
    send(&project, &log, log.from);
    project.flush().unwrap();
    log.commit_dropping(number..number + 1);
    let dropped = log.end();
    log.create_relation(number);
    log.write(2, 2, false);
    send(&project, &log, earlier);
    in_memory_and_in_layers(&project, || {
        let now = |block| value_of(&project, &root(), log.end(), block);
        assert_eq!([0, 1, 2].map(now), [0, 0, 2]);
        assert_eq!([0, 1, 2].map(|block| value_of(&project, &root(), earlier, block)), [1, 1, 1]);
        let gone = try_value_in(&project, &root(), dropped, REL, 0);
        assert!(matches!(gone, Err(StoreError::NoRelation { .. })), "{gone:?}");
    });
}

/// A database is dropped, and its OID given to a copy of another, which then changes on both sides.
/// Rule 8 of the crate's README.
#[test]
fn a_copy_with_the_oid_of_an_earlier_database_reads_its_source_at_the_copy() {
    const COPY: u32 = 6;
    let in_copy = RelFork { rel: RelTag { database: COPY, ..REL.rel }, ..REL };
    let (project, _top, mut log) = world();
    // The earlier one: a copy too, with blocks of its own.
    (0..3).for_each(|block| log.write(block, 1, false));
    log.copy_database(COPY, REL.rel.database);
    (0..3).for_each(|block| log.write_to(in_copy, block, 7, false));
    let earlier = log.end();
    log.drop_database(COPY);
    (0..3).for_each(|block| log.write(block, 2, false));
    log.copy_database(COPY, REL.rel.database);
    let copied = log.end();
    // Later versions of the source are not the copy's, nor the other way round.
    log.write(0, 3, false);
    log.write_to(in_copy, 1, 4, false);
    // A record on the source's page, which the copy has none of yet.
    log.overwrite(in_copy, 2, 24, 5);
    (32..64).step_by(8).for_each(|at| log.overwrite(in_copy, 2, at, 5));
    send(&project, &log, log.from);
    in_memory_and_in_layers(&project, || {
        let read =
            |lsn, rel| [0, 1, 2].map(|block| try_value_in(&project, &root(), lsn, rel, block).unwrap());
        assert_eq!(read(earlier, in_copy), [7, 7, 7]);
        assert_eq!(read(copied, in_copy), [2, 2, 2]);
        assert_eq!(read(log.end(), in_copy), [2, 4, 5]);
        assert_eq!(read(log.end(), REL), [3, 2, 2]);
    });
}

/// The same record on a page of the main fork is an error.
/// Rule 10 of the crate's README.
#[test]
fn a_map_page_that_cannot_be_made_is_zeros() {
    const BEYOND_THE_PAGE: u16 = 8190;
    let map = RelFork { fork: Fork::Visibility, ..REL };
    let (project, _top, mut log) = world();
    log.write_to(map, 0, 9, false);
    log.write(0, 9, false);
    let sound = log.end();
    log.overwrite(map, 0, BEYOND_THE_PAGE, 1);
    log.overwrite(REL, 0, BEYOND_THE_PAGE, 1);
    send(&project, &log, log.from);
    in_memory_and_in_layers(&project, || {
        let read = |lsn, rel| try_value_in(&project, &root(), lsn, rel, 0);
        assert_eq!(read(sound, map).unwrap(), 9);
        assert_eq!(read(log.end(), map).unwrap(), 0);
        let refused = read(log.end(), REL);
        assert!(matches!(refused, Err(StoreError::Redo(_))), "{refused:?}");
    });
}

/// Rule 9 of the crate's README.
/// Rule 12 of the crate's README.
/// Rule 13 of the crate's README.
/// Rule 14 of the crate's README.
/// Rule 15 of the crate's README.
/// Rule 16 of the crate's README.
#[test]
fn the_numbers_that_the_rules_name_are_those_of_the_code() {
    let readme = include_str!("../README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let rule = |number: u32| {
        let from = readme.find(&format!(" {number}. ")).unwrap();
        let rest = &readme[from..];
        &rest[..rest.find(&format!(" {}. ", number + 1)).or(rest.find(" ## ")).unwrap()]
    };
    let says = |number: u32, words: String| assert!(rule(number).contains(&words), "rule {number}: {words}");
    let mb = |bytes: usize| format!("{} MB", bytes >> 20);
    says(9, format!("After {CHAIN_MAX} records"));
    says(9, format!("more than {} records", 2 * u32::from(CHAIN_MAX)));
    says(12, format!("hold together ({})", mb(MEMTABLES_BYTES)));
    says(12, format!("decompressed blocks ({})", mb(CACHE_BYTES as usize)));
    says(12, format!("one memtable ({})", mb(StoreOptions::default().memtable_bytes)));
    says(12, format!("at most {FROZEN_MAX} frozen ones"));
    says(12, format!("{FROZEN_AT_OPEN_MAX} while it is opened"));
    says(12, format!("waits {} s", MEMORY_WAIT.as_secs()));
    says(13, format!("taking one for {} s", FLUSH_WAIT.as_secs()));
    says(14, format!("for {} minutes", BRANCH_IDLE.as_secs() / 60));
    says(14, format!("more than {OPEN_BRANCHES_MAX} are"));
    says(15, format!("at most {} KB", WAYPOINT_EVERY >> 10));
    says(16, format!("more than {}", mb(PIECE_BYTES)));
    assert_eq!((FREEZE_ABOVE, FAILING_SHARE), ((3, 4), 2), "three quarters and half");
}

/// While its disk takes no layer a branch is written to until it is refused.
/// Rule 12 of the crate's README.
#[test]
fn few_memtables_of_a_branch_wait_for_the_disk() {
    let disk = Arc::new(Faulty::new(Arc::new(System)));
    let (project, _top, mut log) =
        world_on(disk.clone(), StoreOptions { memtable_bytes: 64 << 10, ..StoreOptions::default() });
    disk.fail_changes_of(".layer", Fault { error: Error::Io, when: When::Before, times: u64::MAX });
    let frozen = || project.open_branch(&root()).unwrap().view.read().frozen.len();
    let mut most = 0;
    for value in 0..200 {
        let from = log.end();
        log.write(0, value, true);
        let outcome = project.append_wal(&root(), log.timeline, from, log.rest(from));
        most = most.max(frozen());
        match outcome {
            Ok(_) => {}
            Err(StoreError::FlushFailing { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(most, FROZEN_MAX);
}

/// Those that were used last stay open.
/// Rule 14 of the crate's README.
#[test]
fn of_many_open_branches_those_not_used_for_longest_are_closed() {
    const OPEN: usize = 1000;
    const USED_LAST: usize = 10;
    let memory = Arc::new(Memory::default());
    let options = StoreOptions { memory: memory.clone(), ..StoreOptions::default() };
    let (project, top, _) = world_on(Arc::new(Faulty::new(Arc::new(System))), options.clone());
    let make = |manifest: &mut crate::manifest::Manifest| {
        for number in 0..OPEN + 50 {
            manifest.add(&named(number), BranchEntry::new(Some(&root()), import_end()));
        }
        Ok(())
    };
    project.core.manifests.commit(make).unwrap();
    drop(project);
    let project = Project::open_with(&top.path().join("p"), options).unwrap();
    (0..OPEN + 50).for_each(|number| drop(project.open_branch(&named(number)).unwrap()));
    let began = Instant::now();
    let tend_after = |seconds| keeper::tend(&memory, began + Duration::from_secs(seconds));
    tend_after(100);
    (0..USED_LAST).for_each(|number| drop(project.open_branch(&named(number)).unwrap()));
    // The flusher may hold some for a moment.
    let mut seconds = 101;
    while project.open_branches() > OPEN && seconds < 250 {
        tend_after(seconds);
        seconds += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(project.open_branches(), OPEN);
    let is_open = |number: usize| project.core.branch(&named(number)).unwrap().is_open();
    assert!((0..USED_LAST).all(is_open), "one that was just used was closed");
}

/// Rule 15 of the crate's README.
#[test]
fn from_every_record_the_nearest_waypoint_is_near() {
    const FAR: u64 = 256 << 10;
    let (project, _top, mut log) = world();
    let mut ends = Vec::new();
    for value in 0..600 {
        log.write(value % 7, u64::from(value), value % 3 == 0);
        ends.push(log.end());
    }
    assert!(log.bytes.len() as u64 > 5 * FAR, "there is more than one between");
    send(&project, &log, log.from);
    in_memory_and_in_layers(&project, || {
        let branch = project.open_branch(&root()).unwrap();
        let view = branch.view.read();
        let mut waypoints: Vec<Lsn> = view.active.waypoints.iter().map(|state| state.lsn).collect();
        for layer in view.layers.iter() {
            waypoints.extend(layer.waypoints().unwrap().iter().map(|state| state.lsn));
        }
        for end in &ends {
            let nearest = waypoints.iter().filter_map(|waypoint| end.bytes_since(*waypoint)).min();
            assert!(nearest.is_some_and(|bytes| bytes < FAR), "{end} is {nearest:?} behind one");
        }
    });
}
