//! What the tests through a real mount share: a source with known bytes, a mounted file system, who may skip.

#![allow(dead_code, reason = "every test file uses its own part of this")]

use fs::{Failure, FileSystem, MountOptions, Mounted, Options, PageSource, mount};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use types::{BlockNumber, DEFAULT_TABLESPACE, Fork, RelFork, RelTag};

pub const VERSION_DIR: &str = "PG_15_202209061";

/// False, and said so, if this machine cannot mount; a panic where `SCION_REQUIRE` lists `fuse`.
pub fn fuse_is_here() -> bool {
    let missing = if !Path::new("/dev/fuse").exists() {
        "/dev/fuse is missing"
    } else if !rustix::process::geteuid().is_root() {
        "not running as root"
    } else {
        return true;
    };
    oracle::skips::skipped("fuse", missing);
    false
}

pub fn rel(relation: u32, fork: Fork) -> RelFork {
    RelFork { rel: RelTag { tablespace: DEFAULT_TABLESPACE, database: 5, relation }, fork }
}

/// The byte of a relation at an offset from its start: no two pages alike.
pub fn pattern(rel: RelFork, offset: u64) -> u8 {
    let word = (offset / 8 + u64::from(rel.rel.relation) * 1_000_003 + rel.fork as u64 * 77)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (word >> (offset % 8 * 8)) as u8
}

pub fn pattern_bytes(rel: RelFork, len: u64) -> Vec<u8> {
    (0..len).map(|at| pattern(rel, at)).collect()
}

/// Serves `pattern`.
pub struct Patterns;

impl PageSource for Patterns {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        assert!(!out.is_empty() && out.len().is_multiple_of(8192), "a source is asked for whole blocks");
        let start = u64::from(first.get()) * 8192;
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = pattern(rel, start + i as u64);
        }
        Ok(())
    }
}

/// A file system mounted in a temporary directory; unmounted when dropped.
pub struct Mount {
    pub mounted: Option<Mounted>,
    pub fs: Arc<FileSystem>,
    pub at: PathBuf,
    pub failures: Arc<Mutex<Vec<Failure>>>,
    pub dir: tempfile::TempDir,
}

impl Mount {
    /// Mounts what `fill` puts into a file system over `source`.
    pub fn new(source: Arc<dyn PageSource>, fill: impl FnOnce(&FileSystem)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        std::fs::create_dir(&overlay).unwrap();
        Self::with_overlay(dir, &overlay, source, fill)
    }

    pub fn with_overlay(
        dir: tempfile::TempDir,
        overlay: &Path,
        source: Arc<dyn PageSource>,
        fill: impl FnOnce(&FileSystem),
    ) -> Self {
        Self::owned((0, 0), dir, overlay, source, fill)
    }

    /// As `with_overlay`, with files that belong to `uid` and `gid`.
    pub fn owned(
        (uid, gid): (u32, u32),
        dir: tempfile::TempDir,
        overlay: &Path,
        source: Arc<dyn PageSource>,
        fill: impl FnOnce(&FileSystem),
    ) -> Self {
        let options =
            Options { overlay_dir: overlay.to_owned(), uid, gid, version_dir: VERSION_DIR.to_owned() };
        let fs = FileSystem::new(options, source).unwrap();
        let failures = Arc::new(Mutex::new(Vec::new()));
        let seen = failures.clone();
        fs.on_failure(Arc::new(move |failure: &Failure| seen.lock().unwrap().push(failure.clone())));
        fill(&fs);
        let (fs, at) = (Arc::new(fs), dir.path().join("mnt"));
        std::fs::create_dir(&at).unwrap();
        let mounted = Some(mount(fs.clone(), &at, MountOptions::default()).unwrap());
        Self { mounted, fs, at, failures, dir }
    }

    /// Writes back what the kernel holds, forgets its caches by unmounting, and mounts the same files again.
    pub fn remount(&mut self) {
        rustix::fs::syncfs(std::fs::File::open(&self.at).unwrap()).unwrap();
        self.mounted.take().unwrap().unmount().unwrap();
        self.mounted = Some(mount(self.fs.clone(), &self.at, MountOptions::default()).unwrap());
    }
}
