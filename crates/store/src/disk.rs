//! Every change the store makes to its directory goes through here, so that a test can record all of them in order
//! and ask what a crash after each would have left.
//!
//! What a caller may rely on, as on any file system:
//! - bytes written are lost in a power failure unless `sync` of that file, or `write_durably`, has returned;
//! - names made, linked or removed in a directory may be undone by one unless `sync` of that directory has returned;
//! - if only the process dies, everything done stays done.
//!
//! Not here: reading, which changes nothing; what the files hold.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How files are changed.
pub(crate) trait Disk: Send + Sync {
    /// Makes a directory whose parent exists.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, file: &Path) -> io::Result<()>;
    /// Writes to a file that exists.
    fn write_at(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// `write_at` and `sync`.
    fn write_durably(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes of a file, or the names in a directory, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file off, or lengthens it with zeros.
    fn set_len(&self, file: &Path, len: u64) -> io::Result<()>;
    /// Gives a file a second name; fails if that name is taken.
    fn link(&self, file: &Path, name: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, file: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
}

impl dyn Disk {
    /// Makes `dir` and the directories above it that are missing; each is durable in its parent on return.
    pub(crate) fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.make_dirs(parent)?;
        match self.make_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync(parent)
    }

    /// Removes a directory and everything below it; fine if it is absent.
    pub(crate) fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.remove_tree(&entry.path())?;
            } else {
                self.remove_file(&entry.path())?;
            }
        }
        self.remove_dir(dir)
    }
}

/// A file name in `dir` that nobody else uses, in this process or another: two that wrote into one file would each
/// publish what the other wrote.
pub(crate) fn unused_name(dir: &Path, what: &str) -> PathBuf {
    dir.join(format!("{what}-{:016x}", RandomState::new().hash_one(what)))
}

/// The operating system's files.
pub(crate) struct System;

impl Disk for System {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn create(&self, file: &Path) -> io::Result<()> {
        File::create(file).map(|_| ())
    }

    fn write_at(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(file)?.write_all_at(bytes, at)
    }

    fn write_durably(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(file)?;
        file.write_all_at(bytes, at)?;
        file.sync_data()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn set_len(&self, file: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(file)?.set_len(len)
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        fs::hard_link(file, name)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }
}
