//! Why the store could not do what was asked, split by what the caller does next.
//!
//! Every variant names its object. `StoreError::kind` sorts them, without a wildcard: who adds a variant decides what its
//! caller does. Not here: which HTTP status or errno that becomes (`server`, `fs`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use types::{BlockNumber, BranchId, Lsn, PgTime, RelFork, TimelineId};

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What the caller of a failed operation does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Ask again later: the same call can succeed once the disk, or another process, lets it.
    Later,
    /// Stop writing: a newer timeline of the branch has begun.
    Fenced,
    /// There is no such branch, relation or block.
    Absent,
    /// The call makes no sense here, and will not later.
    Refused,
    /// The store holds what it cannot understand or replay.
    Unsupported,
    /// Stored bytes are damaged.
    Corrupt,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such branch.
    #[error("branch {branch} does not exist")]
    NotFound {
        /// The branch asked for.
        branch: BranchId,
    },
    /// A branch of that name exists already.
    #[error("branch {branch} already exists")]
    Exists {
        /// The branch to be created.
        branch: BranchId,
    },
    /// The branch cannot be deleted while others start from it.
    #[error("branch {branch} has child branches, the first is {child}")]
    HasChildren {
        /// The branch to be deleted.
        branch: BranchId,
        /// One of its children.
        child: BranchId,
    },
    /// The position lies after what the branch holds; ask again later.
    #[error("{asked} is ahead of branch {branch}, which ends at {head}")]
    Ahead {
        /// The branch.
        branch: BranchId,
        /// The position asked for.
        asked: Lsn,
        /// Where the branch ends.
        head: Lsn,
    },
    /// The position lies before the branch's own start: ask its parent.
    #[error("{asked} is before the start {start} of branch {branch}{}", ask_parent(.parent))]
    BeforeStart {
        /// The branch.
        branch: BranchId,
        /// The position asked for.
        asked: Lsn,
        /// Where the branch starts.
        start: Lsn,
        /// The branch to ask instead; `None` for the root.
        parent: Option<BranchId>,
    },
    /// The time lies before the oldest state kept.
    #[error("time is before the history of branch {branch}, which begins at {} us after 2000-01-01 UTC", first.pg_us())]
    BeforeHistory {
        /// The branch.
        branch: BranchId,
        /// The oldest time that can be answered.
        first: PgTime,
    },
    /// The position is inside a record; `resolve_lsn` gives the boundary below it.
    #[error("{asked} is not the end of a record on branch {branch}; the one below it is {boundary}")]
    NotBoundary {
        /// The branch.
        branch: BranchId,
        /// The position asked for.
        asked: Lsn,
        /// The boundary below.
        boundary: Lsn,
    },
    /// A newer timeline has begun on the branch; the writer must stop.
    #[error("timeline {} of branch {branch} is fenced{}", timeline.get(), current_is(.current))]
    Fenced {
        /// The branch.
        branch: BranchId,
        /// The writer's timeline.
        timeline: TimelineId,
        /// The timeline that may write; `None` before the first.
        current: Option<TimelineId>,
    },
    /// WAL bytes between what is held and what was sent are missing.
    #[error("WAL for branch {branch} must continue at {expected}, got {at}")]
    Gap {
        /// The branch.
        branch: BranchId,
        /// Where the next byte must go.
        expected: Lsn,
        /// Where the bytes sent begin.
        at: Lsn,
    },
    /// The relation fork does not exist at that position.
    #[error("relation {rel} does not exist at {lsn} on branch {branch}")]
    NoRelation {
        /// The branch.
        branch: BranchId,
        /// The fork.
        rel: RelFork,
        /// The position.
        lsn: Lsn,
    },
    /// The block lies behind the end of the fork at that position.
    #[error("relation {rel} has {blocks} blocks at {lsn} on branch {branch}, block {block} was asked for")]
    BeyondEnd {
        /// The branch.
        branch: BranchId,
        /// The fork.
        rel: RelFork,
        /// The first block that is not there.
        block: BlockNumber,
        /// Length of the fork.
        blocks: u32,
        /// The position.
        lsn: Lsn,
    },
    /// An extension's resource manager wrote the block; no content can be given.
    #[error("block {block} of relation {rel} was written by {}", of_extension(*.rmgr))]
    Unreadable {
        /// The fork.
        rel: RelFork,
        /// The block.
        block: BlockNumber,
        /// The extension's resource manager.
        rmgr: u8,
    },
    /// WAL from this position on could not be understood; it is kept, but nothing above can be read.
    #[error("branch {branch} cannot be read above {at}: {reason}")]
    Stuck {
        /// The branch.
        branch: BranchId,
        /// End of the last record understood.
        at: Lsn,
        /// What was wrong with the next.
        reason: String,
    },
    /// The log of the branch cannot be ended there: it is not stuck, or elsewhere.
    #[error("the log of branch {branch} is not stuck at {at}; it can be read up to {head}")]
    NotStuck {
        /// The branch.
        branch: BranchId,
        /// Where it was thought to be stuck.
        at: Lsn,
        /// End of the last record taken.
        head: Lsn,
    },
    /// What was being read or written to take WAL from this position on could not be, for now; it is kept, and taken
    /// once that can be done again.
    #[error("branch {branch} can be read up to {at} for now: {reason}")]
    Behind {
        /// The branch.
        branch: BranchId,
        /// End of the last record taken.
        at: Lsn,
        /// What could not be done.
        reason: String,
    },
    /// Stored bytes are not what was written. Never retried, never served.
    #[error("{object} is corrupt at byte {at}: {reason}")]
    Corrupt {
        /// The layer, manifest or WAL file.
        object: String,
        /// Offset in it.
        at: u64,
        /// What was found.
        reason: String,
    },
    /// A page has no version it could be built from.
    #[error("block {block} of relation {rel} has no base version at {lsn}")]
    NoBase {
        /// The fork.
        rel: RelFork,
        /// The block.
        block: BlockNumber,
        /// The position.
        lsn: Lsn,
    },
    /// A record could not be applied to a page.
    #[error("apply WAL to a page")]
    Redo(#[from] redo::RedoError),
    /// Layers cannot be written, so no more WAL is taken; nothing was acknowledged.
    #[error("branch {branch} takes no WAL until its layers can be written: {reason}")]
    FlushFailing {
        /// The branch.
        branch: BranchId,
        /// Why the last layer could not be written.
        reason: String,
    },
    /// The memtables of all projects hold as much as they may; nothing was acknowledged.
    #[error(
        "branch {branch} takes no WAL until layers are written: all projects hold {} MB of what is not, of at most {} \
         MB, and the disk took too little of it within {} s", .held >> 20, .max >> 20, .waited.as_secs()
    )]
    MemoryFull {
        /// The branch.
        branch: BranchId,
        /// Bytes held.
        held: usize,
        /// Bytes that may be.
        max: usize,
        /// How long that was waited for.
        waited: Duration,
    },
    /// WAL or a control file could not be read.
    #[error("read WAL")]
    Wal(#[from] wal::WalError),
    /// The cluster cannot be imported.
    #[error("cannot import {path}: {reason}")]
    Import {
        /// The data directory or a file in it.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process has this project open.
    #[error("project {path} is in use by another process")]
    Locked {
        /// The project directory.
        path: PathBuf,
    },
    /// Another process has taken over the project.
    #[error("manifest {sequence} of the project was written by someone else")]
    Superseded {
        /// The manifest this process wanted to write.
        sequence: u64,
    },
    /// No space; nothing was acknowledged, and the same call can be made again.
    #[error("no space left for {path}")]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// `wait_durable` gave up.
    #[error("branch {branch} did not reach {upto} in time, it is at {durable}")]
    Timeout {
        /// The branch.
        branch: BranchId,
        /// The position waited for.
        upto: Lsn,
        /// The position reached.
        durable: Lsn,
    },
    /// Reading or writing a file failed.
    #[error("access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// `resource manager 138 of an extension (PGroonga)`: who wrote what cannot be replayed.
pub fn of_extension(rmgr: u8) -> String {
    let name = wal::RmgrId(rmgr).extension().map_or_else(String::new, |name| format!(" ({name})"));
    format!("resource manager {rmgr} of an extension{name}")
}

fn ask_parent(parent: &Option<BranchId>) -> String {
    parent.as_ref().map_or_else(String::new, |parent| format!("; ask its parent {parent}"))
}

fn current_is(current: &Option<TimelineId>) -> String {
    current.map_or_else(|| ": none has begun".to_owned(), |id| format!(" by timeline {}", id.get()))
}

impl StoreError {
    /// What the caller does next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. }
            | Self::Io { .. }
            | Self::FlushFailing { .. }
            | Self::MemoryFull { .. }
            | Self::Behind { .. }
            | Self::Locked { .. }
            | Self::Superseded { .. }
            | Self::Timeout { .. } => ErrorKind::Later,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::NotFound { .. } | Self::NoRelation { .. } | Self::BeyondEnd { .. } => ErrorKind::Absent,
            Self::Exists { .. }
            | Self::HasChildren { .. }
            | Self::Ahead { .. }
            | Self::BeforeStart { .. }
            | Self::BeforeHistory { .. }
            | Self::NotBoundary { .. }
            | Self::Gap { .. }
            | Self::NotStuck { .. }
            | Self::Import { .. } => ErrorKind::Refused,
            Self::Unreadable { .. } | Self::Stuck { .. } | Self::Redo(_) | Self::Wal(_) => {
                ErrorKind::Unsupported
            }
            Self::Corrupt { .. } | Self::NoBase { .. } => ErrorKind::Corrupt,
        }
    }

    /// True if doing the same again ends in the same until a program, a file or a log is another.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Wal(_)
            | Self::Corrupt { .. }
            | Self::Redo(_)
            | Self::NoBase { .. }
            | Self::Unreadable { .. }
            | Self::NoRelation { .. }
            | Self::BeyondEnd { .. }
            | Self::Stuck { .. }
            | Self::BeforeStart { .. }
            | Self::BeforeHistory { .. }
            | Self::NotBoundary { .. }
            | Self::Ahead { .. }
            | Self::NotStuck { .. }
            | Self::Import { .. } => true,
            Self::Io { .. }
            | Self::Full { .. }
            | Self::FlushFailing { .. }
            | Self::MemoryFull { .. }
            | Self::Behind { .. }
            | Self::Timeout { .. }
            | Self::Locked { .. }
            | Self::Superseded { .. }
            | Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::HasChildren { .. }
            | Self::Fenced { .. }
            | Self::Gap { .. } => false,
        }
    }

    /// Wraps an I/O error with the file it is about; a full disk has its own variant.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }

    /// Stored bytes that are not what was written.
    pub(crate) fn corrupt(object: impl Into<String>, at: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { object: object.into(), at, reason: reason.into() }
    }
}

/// An error and its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
