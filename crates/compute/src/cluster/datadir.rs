//! The data directory of a branch at one LSN: small files written here, relations promised to the file system.
//!
//! Invariants
//! - Relation sizes are exact; a block too few loses rows silently.
//! - Free space maps are left out (Postgres makes them anew), and so is every fork of an unlogged relation but its
//!   init fork, which its main fork starts as: the directory claims a clean shutdown, so Postgres does not reset it.
//! - Slots, statistics and other state that is not in WAL start empty; progress of replication origins is in WAL.
//!
//! Not here: the control file's bytes (`wal::control`), WAL (`segment`), settings (`config`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use fs::FileSystem;
use types::path::{self, database_directory};
use types::{BLOCK_SIZE, Fork, RelFork, SLRU_PAGES_PER_SEGMENT, SlruKind, SlruRun, StateAt};
use wal::Major;

use crate::cluster::major::two_phase_names_have_epoch;
use crate::error::{Error, While};

/// Directories that must exist, even if empty (`initdb`'s list, less `pg_wal`, which is a link).
const DIRECTORIES: &[&str] = &[
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_xact",
];

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Name of the directory of a major version's files in a tablespace (`TABLESPACE_VERSION_DIRECTORY`).
pub fn version_directory(major: &Major) -> String {
    path::version_directory(major.number, major.catalog_version)
}

/// Fills an empty file system with the state of a branch.
///
/// # Errors
/// `Io` if a name is taken twice or the overlay's disk is full.
pub fn fill(fs: &FileSystem, state: &StateAt, major: &Major) -> Result<(), Error> {
    let version_directory = version_directory(major);
    let version_file = format!("{}\n", major.number);
    let place = |tablespace, database| database_directory(tablespace, database, &version_directory);
    for path in DIRECTORIES {
        fs.mkdir(path, DIRECTORY_MODE).while_(|| format!("make {path}"))?;
    }
    write(fs, "PG_VERSION", version_file.as_bytes())?;
    for tablespace in &state.tablespaces {
        let path = format!("pg_tblspc/{tablespace}/{version_directory}");
        fs.mkdir(&path, DIRECTORY_MODE).while_(|| format!("make {path}"))?;
    }
    for &(tablespace, database) in &state.databases {
        let path = place(tablespace, database);
        fs.mkdir(&path, DIRECTORY_MODE).while_(|| format!("make {path}"))?;
        write(fs, &format!("{path}/PG_VERSION"), version_file.as_bytes())?;
    }
    for (tablespace, database, map) in &state.relmaps {
        write(fs, &format!("{}/pg_filenode.map", place(*tablespace, *database)), map)?;
    }
    for (xid, data) in &state.two_phase {
        let crc = crc32c::crc32c(data).to_le_bytes();
        let name = two_phase_name(major, *xid as u32, state.cluster.next_xid);
        write(fs, &format!("pg_twophase/{name}"), &[data, &crc[..]].concat())?;
    }
    write(fs, "pg_logical/replorigin_checkpoint", &origins_file(&state.origins))?;
    for (path, bytes) in slru_segments(&state.slru) {
        write(fs, &path, &bytes)?;
    }
    for ((kind, segment), pages) in slru_lengths(&state.slru_runs) {
        let added = fs.add_slru_segment(kind, segment, pages);
        added.while_(|| format!("add segment {segment:X} of {}", kind.directory()))?;
    }
    for (fork, blocks, source) in relation_files(&state.relations) {
        fs.add_relation(fork, blocks, source).while_(|| format!("add relation {fork}"))?;
    }
    Ok(())
}

/// Name of a prepared transaction's file (`TwoPhaseFilePath`): from 17 on with its epoch, which is that of the next
/// transaction, or the one before if that one began an epoch since (`AdjustToFullTransactionId`).
fn two_phase_name(major: &Major, xid: u32, next_xid: u64) -> String {
    if !two_phase_names_have_epoch(major) {
        return format!("{xid:08X}");
    }
    let epoch = (next_xid >> 32) as u32;
    let epoch = if xid > next_xid as u32 { epoch.wrapping_sub(1) } else { epoch };
    format!("{epoch:08X}{xid:08X}")
}

/// Writes one small file.
///
/// # Errors
/// `Io` if the name is taken.
pub fn write(fs: &FileSystem, path: &str, bytes: &[u8]) -> Result<(), Error> {
    let done: io::Result<()> = fs.write_file(path, bytes, FILE_MODE);
    done.while_(|| format!("write {path}"))
}

/// Progress of replication origins as a checkpoint leaves it (`CheckPointReplicationOrigin`).
fn origins_file(origins: &[(u16, u64)]) -> Vec<u8> {
    /// `REPLICATION_STATE_MAGIC`
    const MAGIC: u32 = 0x1257_DADE;
    let mut file = MAGIC.to_le_bytes().to_vec();
    for (origin, upto) in origins {
        file.extend(u64::from(*origin).to_le_bytes());
        file.extend(upto.to_le_bytes());
    }
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    file
}

/// SLRU pages as segment files; pages between known ones are zeros.
fn slru_segments(pages: &[(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)]) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (kind, page, bytes) in pages {
        let name = path::slru_path(*kind, page / SLRU_PAGES_PER_SEGMENT);
        let file = files.entry(name).or_default();
        let at = (page % SLRU_PAGES_PER_SEGMENT) as usize * BLOCK_SIZE;
        if file.len() < at + BLOCK_SIZE {
            file.resize(at + BLOCK_SIZE, 0);
        }
        for (slot, byte) in file.iter_mut().skip(at).zip(bytes.iter()) {
            *slot = *byte;
        }
    }
    files
}

/// How many pages each segment of an SLRU has; those before the last that are in no run read as zeros.
fn slru_lengths(runs: &[SlruRun]) -> BTreeMap<(SlruKind, u32), u32> {
    let mut lengths: BTreeMap<_, u32> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.pages > 0) {
        let last = run.first.saturating_add(run.pages - 1);
        for segment in run.first / SLRU_PAGES_PER_SEGMENT..=last / SLRU_PAGES_PER_SEGMENT {
            let end = last.min(segment * SLRU_PAGES_PER_SEGMENT + (SLRU_PAGES_PER_SEGMENT - 1));
            let length = lengths.entry((run.kind, segment)).or_default();
            *length = (*length).max(end % SLRU_PAGES_PER_SEGMENT + 1);
        }
    }
    lengths
}

/// Which forks get files, how long they are, and whose pages they hold.
fn relation_files(relations: &[(RelFork, u32)]) -> Vec<(RelFork, u32, RelFork)> {
    let unlogged: BTreeSet<_> =
        relations.iter().filter(|(fork, _)| fork.fork == Fork::Init).map(|(fork, _)| fork.rel).collect();
    let mut files = Vec::with_capacity(relations.len());
    for &(fork, blocks) in relations {
        match fork.fork {
            Fork::FreeSpace => {}
            Fork::Init => {
                files.push((fork, blocks, fork));
                files.push((RelFork { rel: fork.rel, fork: Fork::Main }, blocks, fork));
            }
            Fork::Main | Fork::Visibility if unlogged.contains(&fork.rel) => {}
            Fork::Main | Fork::Visibility => files.push((fork, blocks, fork)),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::RelTag;

    #[test]
    fn an_unlogged_relation_starts_as_its_init_fork() {
        let fork = |relation, fork| RelFork { rel: RelTag { tablespace: 1663, database: 5, relation }, fork };
        let relations = [
            (fork(1, Fork::Main), 10),
            (fork(1, Fork::FreeSpace), 3),
            (fork(1, Fork::Visibility), 1),
            (fork(2, Fork::Main), 99),
            (fork(2, Fork::Visibility), 1),
            (fork(2, Fork::Init), 0),
        ];
        let files = relation_files(&relations);
        let expected = [
            (fork(1, Fork::Main), 10, fork(1, Fork::Main)),
            (fork(1, Fork::Visibility), 1, fork(1, Fork::Visibility)),
            (fork(2, Fork::Init), 0, fork(2, Fork::Init)),
            (fork(2, Fork::Main), 0, fork(2, Fork::Init)),
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn a_prepared_transaction_of_the_last_epoch_is_named_by_it_from_17_on() {
        let (pg15, pg17) = (wal::major::of(15).unwrap(), wal::major::of(17).unwrap());
        assert_eq!(two_phase_name(pg15, 0x2E9, 7 << 32 | 0x300), "000002E9");
        assert_eq!(two_phase_name(pg17, 0x2E9, 7 << 32 | 0x300), "00000007000002E9");
        assert_eq!(two_phase_name(pg17, 0xFFFF_FFF0, 7 << 32 | 3), "00000006FFFFFFF0");
    }

    #[test]
    fn a_segment_of_an_slru_is_as_long_as_its_last_page_says() {
        let run = |kind, first, pages| SlruRun { kind, first, pages };
        let (clog, members) = (SlruKind::Clog, SlruKind::MultiXactMembers);
        let runs = [run(clog, 30, 3), run(clog, 40, 1), run(members, 134_217_726, 2), run(clog, 7, 0)];
        let lengths: Vec<_> = slru_lengths(&runs).into_iter().collect();
        assert_eq!(lengths, [((clog, 0), 32), ((clog, 1), 9), ((members, 4_194_303), 32)]);
        assert_eq!(slru_lengths(&[run(members, u32::MAX, 9)]).len(), 1);
    }

    #[test]
    fn slru_pages_land_in_their_segment() {
        let page = |kind, number, byte| (kind, number, Box::new([byte; BLOCK_SIZE]));
        let files = slru_segments(&[page(SlruKind::Clog, 33, 7), page(SlruKind::MultiXactMembers, 0, 9)]);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["pg_multixact/members/0000", "pg_xact/0001"]);
        let clog = &files["pg_xact/0001"];
        assert_eq!((clog.len(), clog[BLOCK_SIZE - 1], clog[BLOCK_SIZE]), (2 * BLOCK_SIZE, 0, 7));
    }
}
