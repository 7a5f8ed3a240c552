//! The file system as its owner sees it: filled before the mount, watched after.

use crate::source::{FailureHook, PageSource};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::RelFork;

/// What a file system is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory, on a real disk, in which overlay files are made (they never have names there).
    pub overlay_dir: PathBuf,
    /// Owner of every file that exists at the start.
    pub uid: u32,
    /// Group of every file that exists at the start.
    pub gid: u32,
    /// `TABLESPACE_VERSION_DIRECTORY`: `PG_15_202209061`.
    pub version_dir: String,
}

/// Counters since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Bytes of disk the overlay takes now.
    pub overlay_bytes: u64,
    /// Overlay files open now.
    pub overlay_files: u64,
    /// Calls of the page source.
    pub source_reads: u64,
    /// Bytes read from the page source.
    pub source_bytes: u64,
    /// Bytes the kernel read.
    pub read_bytes: u64,
    /// Bytes the kernel wrote.
    pub written_bytes: u64,
}

/// A data directory, to be filled with `mkdir`, `write_file`, `symlink` and `add_relation` and then mounted.
///
/// Paths are relative to the data directory (`base/5/PG_VERSION`). Missing parent directories are made with mode
/// 0700. After `mount` the kernel caches names for an hour, so fill it before.
pub struct FileSystem {}

impl FileSystem {
    /// An empty data directory over `source`.
    pub fn new(_options: Options, _source: Arc<dyn PageSource>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where failures are reported; replaces an earlier hook.
    pub fn on_failure(&self, _hook: FailureHook) {}

    /// Makes a directory and its missing parents; `mode` is such as `0o700`. An existing directory is fine.
    pub fn mkdir(&self, _path: &str, _mode: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a file with these contents; fails if the name is taken.
    pub fn write_file(&self, _path: &str, _bytes: &[u8], _mode: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, _path: &str, _target: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the segment files of `rel`, `blocks` long, whose pages are those of `source` (the same fork, but the
    /// init fork for the main fork of an unlogged relation). Zero blocks make one empty file.
    pub fn add_relation(&self, _rel: RelFork, _blocks: u32, _source: RelFork) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The contents of a file as Postgres would read them, less what the kernel still holds back.
    pub fn read_file(&self, _path: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Counters; looks at every overlay file, so not for every second.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
