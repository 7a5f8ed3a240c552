//! What callers hand in and get back. Values only.

use std::path::PathBuf;
use std::sync::Arc;

use types::{BranchId, Lsn, PgTime, RelFork, StateAt, TimelineId};

use crate::memory::Memory;

/// What a project is created from.
#[derive(Clone, Debug)]
pub struct ClusterImport {
    /// A data directory whose server was shut down cleanly. Only read.
    pub data_dir: PathBuf,
    /// The name of the root branch.
    pub root: BranchId,
}

/// Sizes that trade memory for speed.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// A branch's memtable is frozen and written as a layer at this many bytes.
    pub memtable_bytes: usize,
    /// What all projects share that are opened with clones of these options.
    pub memory: Arc<Memory>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { memtable_bytes: 32 << 20, memory: Arc::default() }
    }
}

/// One branch, as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BranchInfo {
    /// Its name.
    pub id: BranchId,
    /// The branch it was made from and where; `None` for the root.
    pub parent: Option<(BranchId, Lsn)>,
    /// Oldest position that can be read on this branch.
    pub start: Lsn,
    /// End of the last whole durable record.
    pub head: Lsn,
    /// Bytes on disk of this branch's own WAL and layers.
    pub own_bytes: u64,
    /// End of the first record of an extension's resource manager in its history, and that; see `Project::unreadable`.
    pub extension: Option<(Lsn, u8)>,
    /// Why no WAL above `head` can be taken.
    pub stuck: Option<String>,
}

/// What extensions' resource managers wrote, which cannot be replayed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unreadable {
    /// Each resource manager and the end of its first record. What that changed without naming a block is not known.
    pub managers: Vec<(u8, Lsn)>,
    /// Forks that such records changed blocks of, by which resource manager first, and from which position on. A block
    /// that was written anew by other records since can be read again.
    pub forks: Vec<(RelFork, u8, Lsn)>,
    /// How many more forks there are.
    pub more: usize,
}

/// WAL that is held and cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// End of the last record that could be read.
    pub at: Lsn,
    /// What was wrong with the next.
    pub reason: String,
    /// False if that passes by itself: the records are tried again with every question.
    pub lasting: bool,
    /// WAL is held up to here.
    pub held: Lsn,
    /// Whole records from `at` on.
    pub records: u64,
    /// How many of them ended a transaction.
    pub transactions: u64,
    /// When the latest of those ended.
    pub last_end: Option<PgTime>,
}

/// A record boundary at which a branch can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BranchPoint {
    /// The branch whose WAL holds it.
    pub branch: BranchId,
    /// The end of a record.
    pub lsn: Lsn,
    /// Time and end LSN of the last commit at or below it, if one is known.
    pub last_commit: Option<(PgTime, Lsn)>,
}

/// A timeline that an endpoint may write from now on.
#[derive(Clone, Debug)]
pub struct NewTimeline {
    /// Its number, unique in the project.
    pub timeline: TimelineId,
    /// Where it begins: the branch's head.
    pub start: Lsn,
    /// Everything but pages at `start`.
    pub state: StateAt,
    /// The timelines that led here, oldest first, and where each ended.
    pub history: Vec<(TimelineId, Lsn)>,
}

/// How far the tail of a crashed server's WAL was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TailProgress {
    /// End of the last whole record held.
    pub head: Lsn,
    /// The log ends there: what was sent contains no valid record after it.
    pub ended: bool,
}
