//! The bounds of filing, reached.

use types::{BlockNumber, BranchId, Key, Lsn};

use super::CHAIN_MAX;
use crate::answer::{ClusterImport, StoreOptions};
use crate::crash::cluster::{self, Log, REL};
use crate::project::Project;

fn root() -> BranchId {
    "br-root".parse().unwrap()
}

fn create(top: &std::path::Path, options: StoreOptions) -> Project {
    cluster::write_data_dir(&top.join("data"));
    let import = ClusterImport { data_dir: top.join("data"), root: root() };
    Project::create_with(&top.join("p"), &import, options).unwrap()
}

/// Nanoseconds that this thread was computing.
fn on_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// The time of one that drops as many as a schema of partitions once grew with their square.
#[test]
fn a_commit_that_drops_sixty_thousand_relations_is_filed_at_once() {
    const RELATIONS: std::ops::Range<u32> = 20_000..80_000;
    let top = tempfile::tempdir().unwrap();
    let project = create(top.path(), StoreOptions { memtable_bytes: 2 << 20, ..StoreOptions::default() });
    let mut log = Log::imported();
    RELATIONS.for_each(|relation| log.create_relation(relation));
    project.append_wal(&root(), log.timeline, log.from, &log.bytes).unwrap();
    let (end, before) = (log.end(), on_cpu());
    assert_eq!(project.state_at(&root(), end).unwrap().relations.len(), RELATIONS.len());
    log.commit_dropping(RELATIONS);
    project.append_wal(&root(), log.timeline, end, log.rest(end)).unwrap();
    let took_ms = (on_cpu() - before) / 1_000_000;
    assert_eq!(project.state_at(&root(), log.end()).unwrap().relations.len(), 0);
    assert!(took_ms < 3000, "{took_ms} ms");
}

/// However often the store is opened and however many pages are changed in turn.
/// Rule 9 of the crate's README.
#[test]
fn a_page_is_made_of_a_bounded_number_of_records() {
    const PAGES: u32 = 40;
    let top = tempfile::tempdir().unwrap();
    let options = StoreOptions { memtable_bytes: 64 << 20, ..StoreOptions::default() };
    let mut project = create(top.path(), options.clone());
    let mut log = Log::imported();
    (0..PAGES).for_each(|block| log.write(block, 1, false));
    let mut sent = log.from;
    let longest = |project: &Project, lsn: Lsn| {
        let chain = |block| project.chain_length(&root(), Key::RelBlock(REL, BlockNumber::new(block)), lsn);
        (0..PAGES).map(chain).max().unwrap()
    };
    let mut most = 0;
    for round in 0..12 {
        // Each round fewer than what is stored whole in memory, and far more in all.
        for _ in 0..CHAIN_MAX - 28 {
            (0..PAGES).for_each(|block| log.touch(block));
        }
        project.append_wal(&root(), log.timeline, sent, log.rest(sent)).unwrap();
        sent = log.end();
        most = most.max(longest(&project, sent));
        if round % 3 == 2 {
            drop(project);
            project = Project::open_with(&top.path().join("p"), options.clone()).unwrap();
        }
        project.flush().unwrap();
    }
    assert!(most > usize::from(CHAIN_MAX), "the bound was not reached: {most}");
    assert!(most <= 2 * usize::from(CHAIN_MAX), "{most} records make one page");
}

/// With no layer at all: what is in memory has the page whole again and again.
/// Rule 9 of the crate's README.
#[test]
fn in_memory_a_page_is_stored_whole_after_so_many_records() {
    let top = tempfile::tempdir().unwrap();
    let project = create(top.path(), StoreOptions { memtable_bytes: 64 << 20, ..StoreOptions::default() });
    let mut log = Log::imported();
    log.write(0, 1, false);
    let (mut sent, mut most) = (log.from, 0);
    for _ in 0..5 * u32::from(CHAIN_MAX) {
        log.touch(0);
        project.append_wal(&root(), log.timeline, sent, log.rest(sent)).unwrap();
        sent = log.end();
        most = most.max(project.chain_length(&root(), Key::RelBlock(REL, BlockNumber::new(0)), log.end()));
    }
    assert_eq!(most, usize::from(CHAIN_MAX));
}
