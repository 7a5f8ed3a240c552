//! The seam to where pages come from, and how failures leave the file system.

use std::fmt;
use std::io;
use std::sync::Arc;
use types::{BlockNumber, RelFork, SlruKind};

/// Reads pages of relations as they were at the constant LSN this file system started from.
///
/// Contract: the same range always gives the same bytes; calls come from several threads at once; a call blocks
/// while the store is away and fails only for what will not get better (`EIO` is what Postgres then sees).
pub trait PageSource: Send + Sync {
    /// Fills `out`, a multiple of 8192 bytes, with the blocks of `rel` from `first` on.
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()>;

    /// The same for pages of an SLRU from `first` on. A source without has none in its file system either.
    fn read_slru(&self, kind: SlruKind, first: u32, out: &mut [u8]) -> io::Result<()> {
        let _ = (first, out);
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("no pages of {}", kind.directory())))
    }
}

/// Whose pages a file shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Relation(RelFork),
    Slru(SlruKind),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relation(rel) => write!(f, "{rel} block"),
            Self::Slru(kind) => write!(f, "{} page", kind.directory()),
        }
    }
}

/// What went wrong below Postgres.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The overlay could not take a write (disk full, I/O error). Postgres has been told at most by a failed
    /// `fsync`, so the server must be killed: its data files are no longer what it believes.
    OverlayWrite,
    /// The page source refused a read. Postgres reports an I/O error to the one query that asked.
    Source,
}

/// A failure, in words for the log.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whose failure it is; decides what the supervisor does.
    pub kind: FailureKind,
    /// What was being done to which file, and the error.
    pub text: String,
}

/// Called on a file system thread: for the first overlay failure, and for every source failure. Must not touch the
/// mount, or it waits for itself.
pub type FailureHook = Arc<dyn Fn(&Failure) + Send + Sync>;
