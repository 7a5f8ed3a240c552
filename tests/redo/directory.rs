//! A whole directory at an LSN: what the store gives against what stock recovery leaves, byte for byte.
//!
//! ```text
//!  cluster before the load --import--> store <--append-- WAL of the load
//!           |                            |
//!           +--stock recovery to L       +-- state and every page at L
//!                      |                            |
//!                      +----------- equal? ---------+
//! ```
//!
//! Nothing is masked but one flag that minors differ in, checksums included: nobody connects to the recovered server, so its pages have no hints of
//! their own. Left out are free space maps, which the store does not keep, and what a promotion changes in `pg_control`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use oracle::minors::take_tuples_deleted;
use oracle::recovery::recover;
use oracle::replay::control;
use oracle::results::{self, Run};
use oracle::server::{Postgres, record};
use oracle::suites::{Plan, Suite};
use redo::page::PageBytes;
use store::Project;
use types::{BLOCK_SIZE, BlockNumber, Fork, Lsn, RelFork, RelTag, SlruKind, StateAt};

use crate::log::Log;
use crate::{SETTINGS, feed};

/// Pages asked of the store at once.
const AT_ONCE: u32 = 64;
/// Small, so that a page comes out of many layers.
const MEMTABLE_BYTES: usize = 2 << 20;

/// What to compare.
pub struct Options {
    /// PostgreSQL's major version.
    pub major: u32,
    /// The load.
    pub suite: Suite,
    /// How many LSNs.
    pub points: usize,
    /// How long the load runs if it has no end, and the random numbers of load and LSNs.
    pub plan: Plan,
    /// Whether the report shall have what was found.
    pub keep: bool,
}

/// What was compared.
#[derive(Default)]
struct Compared {
    pages: u64,
    slrus: u64,
    faults: Vec<String>,
}

/// Compares at random LSNs; true if nothing differs, and if a flipped bit does.
pub fn run(options: &Options) -> bool {
    let postgres = Postgres::of(options.major)
        .unwrap_or_else(|| panic!("PostgreSQL {} is not here: scripts/postgres-majors", options.major));
    let recorded = record(&postgres, SETTINGS, |server| {
        println!("{}: {}", options.suite.name(), options.suite.load(server, options.plan).said);
    });
    let log = Log::read(&recorded.base, &recorded.after);
    let ends: Vec<Lsn> = log.records().map(|raw| raw.end).collect();
    let dir = tempfile::tempdir().unwrap();
    let project = feed::stored(&recorded, &dir.path().join("project"), MEMTABLE_BYTES);
    let mut random = Rng::with_seed(0x5DEE_CE66_D1CE_4E5B ^ options.plan.seed);
    let mut total = Compared::default();
    for point in 0..options.points {
        let lsn = ends[random.usize(..ends.len())];
        let recovered = recover(&postgres, &recorded, Some(lsn));
        let compared = compare(&project, lsn, &recovered, None);
        println!(
            "point {point}, {lsn}: {} pages, {} SLRU pages, {} differences",
            compared.pages,
            compared.slrus,
            compared.faults.len()
        );
        compared.faults.iter().take(20).for_each(|fault| println!("  {fault}"));
        if point == 0 {
            one_bit_is_noticed(&project, lsn, &recovered, compared.faults.len());
        }
        total.pages += compared.pages;
        total.slrus += compared.slrus;
        total.faults.extend(compared.faults);
    }
    let version = postgres.version();
    let (suite, load) = (options.suite.name(), options.suite.described(&postgres, options.plan));
    let run = Run { judge: "directory", suite, load, major: postgres.major(), version };
    let counts = [options.points as u64, total.pages, total.slrus, total.faults.len() as u64];
    if options.keep {
        results::keep_directory(&run, log.len() as u64, counts);
    }
    total.faults.is_empty()
}

/// A page of the store with one wrong bit is one difference more.
fn one_bit_is_noticed(project: &Project, lsn: Lsn, recovered: &Path, before: usize) {
    let state = project.state_at(&feed::root(), lsn).unwrap();
    let (rel, blocks) = state.relations.iter().max_by_key(|(_, blocks)| *blocks).unwrap();
    let wrong = compare(project, lsn, recovered, Some((*rel, blocks / 2)));
    assert_eq!(wrong.faults.len(), before + 1, "one flipped bit in block {} of {rel}", blocks / 2);
    println!("a flipped bit was found");
}

fn compare(project: &Project, lsn: Lsn, theirs: &Path, flipped: Option<(RelFork, u32)>) -> Compared {
    let mut compared = Compared::default();
    let state = project.state_at(&feed::root(), lsn).unwrap();
    let files = relation_files(theirs);
    let sizes: BTreeMap<RelFork, u32> = state.relations.iter().copied().collect();
    for rel in sizes.keys().filter(|rel| !files.contains_key(rel)) {
        compared.faults.push(format!("{rel}: only in the store"));
    }
    for (rel, files) in &files {
        match sizes.get(rel) {
            None => compared.faults.push(format!("{rel}: not in the store")),
            Some(blocks) => relation(project, lsn, (*rel, *blocks), files, flipped, &mut compared),
        }
    }
    slrus(&state, theirs, &mut compared);
    others(&state, theirs, &mut compared);
    compared
}

fn relation(
    project: &Project,
    lsn: Lsn,
    (rel, blocks): (RelFork, u32),
    files: &[PathBuf],
    flipped: Option<(RelFork, u32)>,
    compared: &mut Compared,
) {
    let theirs: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    if theirs.len() != blocks as usize * BLOCK_SIZE {
        let size = theirs.len() / BLOCK_SIZE;
        compared.faults.push(format!("{rel}: {blocks} blocks in the store, should be {size}"));
        return;
    }
    for first in (0..blocks).step_by(AT_ONCE as usize) {
        let mut ours = vec![0; (blocks - first).min(AT_ONCE) as usize * BLOCK_SIZE];
        if let Err(error) = project.read_pages(&feed::root(), lsn, rel, BlockNumber::new(first), &mut ours) {
            compared.faults.push(format!("{rel} from block {first}: {error}"));
            continue;
        }
        let theirs = theirs[first as usize * BLOCK_SIZE..].chunks(BLOCK_SIZE);
        for (block, (ours, theirs)) in (first..).zip(ours.chunks_mut(BLOCK_SIZE).zip(theirs)) {
            if flipped == Some((rel, block)) {
                ours[BLOCK_SIZE / 2] ^= 1;
            }
            compared.pages += 1;
            take_from_the_minor(ours, theirs, block);
            compared.faults.extend(difference(&format!("{rel} block {block}"), ours, theirs));
        }
    }
}

/// The page as this server's redo leaves it where minors differ, with the checksum that it has then: that it had the
/// right one before is looked at first.
fn take_from_the_minor(ours: &mut [u8], theirs: &[u8], block: u32) {
    let block = BlockNumber::new(block);
    let (Ok(ours), Ok(theirs)) = (<&mut PageBytes>::try_from(ours), <&PageBytes>::try_from(theirs)) else {
        return;
    };
    let is_right = redo::checksum(ours, block) == redo::page::stored_checksum(ours);
    if is_right && take_tuples_deleted(ours, theirs) {
        redo::set_checksum(ours, block);
    }
}

fn slrus(state: &StateAt, theirs: &Path, compared: &mut Compared) {
    let mut ours: BTreeMap<(SlruKind, u32), &[u8]> =
        state.slru.iter().map(|(kind, number, page)| ((*kind, *number), &page[..])).collect();
    for kind in SlruKind::ALL {
        for entry in fs::read_dir(theirs.join(kind.directory())).unwrap() {
            let path = entry.unwrap().path();
            let segment = u32::from_str_radix(path.file_name().unwrap().to_str().unwrap(), 16).unwrap();
            let first = segment * types::SLRU_PAGES_PER_SEGMENT;
            for (number, theirs) in (first..).zip(fs::read(&path).unwrap().chunks(BLOCK_SIZE)) {
                let name = format!("{} page {number}", kind.directory());
                compared.slrus += 1;
                match ours.remove(&(kind, number)) {
                    Some(ours) => compared.faults.extend(difference(&name, ours, theirs)),
                    None => compared.faults.push(format!("{name}: not in the store")),
                }
            }
        }
    }
    compared.faults.extend(
        ours.keys().map(|(kind, number)| format!("{} page {number}: only in the store", kind.directory())),
    );
}

/// Relation maps, prepared transactions, and the counters of the cluster.
fn others(state: &StateAt, theirs: &Path, compared: &mut Compared) {
    for (tablespace, database, map) in &state.relmaps {
        let path = match database {
            0 => "global".to_owned(),
            _ if *tablespace == types::DEFAULT_TABLESPACE => format!("base/{database}"),
            _ => continue,
        };
        let file = fs::read(theirs.join(&path).join("pg_filenode.map")).unwrap_or_default();
        compared.faults.extend(difference(&format!("{path}/pg_filenode.map"), map, &file));
    }
    let prepared: BTreeSet<(u64, Vec<u8>)> = state.two_phase.iter().cloned().collect();
    let files = fs::read_dir(theirs.join("pg_twophase")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let xid = u64::from_str_radix(path.file_name().unwrap().to_str().unwrap(), 16).unwrap();
        let mut bytes = fs::read(path).unwrap();
        bytes.truncate(bytes.len() - 4);
        (xid, bytes)
    });
    if prepared != files.collect() {
        compared.faults.push("prepared transactions differ".to_owned());
    }
    let (ours, theirs) = (&state.cluster, control(theirs).cluster_state().unwrap());
    let counters = [
        ("next transaction", ours.next_xid, theirs.next_xid),
        ("next OID", ours.next_oid.into(), theirs.next_oid.into()),
        ("next multixact", ours.next_multi.into(), theirs.next_multi.into()),
        ("next multixact offset", ours.next_multi_offset.into(), theirs.next_multi_offset.into()),
        ("oldest transaction", ours.oldest_xid.into(), theirs.oldest_xid.into()),
        ("oldest multixact", ours.oldest_multi.into(), theirs.oldest_multi.into()),
    ];
    for (name, ours, theirs) in counters.into_iter().filter(|(_, ours, theirs)| ours != theirs) {
        compared.faults.push(format!("{name}: {ours}, should be {theirs}"));
    }
}

fn difference(name: &str, ours: &[u8], theirs: &[u8]) -> Option<String> {
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at))?;
    Some(format!("{name}: first at byte {at}: {:02x?}, should be {:02x?}", ours.get(at), theirs.get(at)))
}

/// The files of every permanent relation below `data`, in order of their segments.
fn relation_files(data: &Path) -> BTreeMap<RelFork, Vec<PathBuf>> {
    let mut found: BTreeMap<RelFork, BTreeMap<u32, PathBuf>> = BTreeMap::new();
    let mut add = |directory: &Path, tablespace: u32, database: u32| {
        for path in entries(directory) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (stem, segment) = name.split_once('.').unwrap_or((name, "0"));
            let (relation, suffix) = stem.split_at(stem.find('_').unwrap_or(stem.len()));
            let fork = Fork::ALL.into_iter().find(|fork| fork.suffix() == suffix);
            let (Ok(relation), Ok(segment), Some(fork)) = (relation.parse(), segment.parse(), fork) else {
                continue;
            };
            if fork != Fork::FreeSpace {
                let rel = RelFork { rel: RelTag { tablespace, database, relation }, fork };
                found.entry(rel).or_default().insert(segment, path.clone());
            }
        }
    };
    let number = |path: &Path| path.file_name().unwrap().to_str().unwrap().parse::<u32>().ok();
    add(&data.join("global"), types::GLOBAL_TABLESPACE, 0);
    for path in entries(&data.join("base")) {
        number(&path).into_iter().for_each(|database| add(&path, types::DEFAULT_TABLESPACE, database));
    }
    for tablespace in entries(&data.join("pg_tblspc")) {
        for path in entries(&tablespace).iter().flat_map(|version| entries(version)) {
            if let (Some(tablespace), Some(database)) = (number(&tablespace), number(&path)) {
                add(&path, tablespace, database);
            }
        }
    }
    let unlogged: BTreeSet<RelTag> =
        found.keys().filter(|rel| rel.fork == Fork::Init).map(|rel| rel.rel).collect();
    found.retain(|rel, _| rel.fork == Fork::Init || !unlogged.contains(&rel.rel));
    found.into_iter().map(|(rel, files)| (rel, files.into_values().collect())).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}
