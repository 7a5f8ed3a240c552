//! Every change the store makes to its directory goes through here, and so does every read, so that a test can record
//! all changes in order and ask what a crash after each would have left, and can let any change or read fail.
//!
//! What a caller may rely on, as on any file system:
//! - bytes written are lost in a power failure unless `sync` of that file, or `write_durably`, has returned;
//! - names made, linked or removed in a directory may be undone by one unless `sync` of that directory has returned;
//! - if only the process dies, everything done stays done;
//! - what returned an error may have taken place all the same.
//!
//! Not here: the lock, how much the files of a branch take (`project::listing`); reading the cluster that is imported
//! (`ingest::import`); what the files hold.

mod careful;

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use careful::Careful;

/// A file opened for reading, and how long it was then.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) len: u64,
}

/// How files are changed and read.
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

    /// Makes durable the names that lead to `path`, if an earlier error left any of them in doubt.
    fn settle_names(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Removes a file or a directory that nothing refers to, now or when that is possible; fine if it is absent.
    fn discard(&self, path: &Path) {
        let _ = self.reclaim(path);
    }

    /// Removes a file, or a directory and everything below it, and forgets that it was discarded: its name is to be
    /// used again. Fine if it is absent.
    fn reclaim(&self, path: &Path) -> io::Result<()> {
        let outcome = if path.is_dir() { remove_tree(self, path) } else { self.remove_file(path) };
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// True if something was discarded and could not be removed yet.
    fn has_leftovers(&self) -> bool {
        false
    }

    /// Tries again to remove everything that was discarded.
    fn sweep(&self) -> io::Result<()> {
        Ok(())
    }

    /// All bytes of a file.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        fs::read(file)
    }

    /// Length of a file.
    fn len(&self, file: &Path) -> io::Result<u64> {
        fs::metadata(file).map(|meta| meta.len())
    }

    /// What is in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    /// Opens a file for reading.
    fn open(&self, file: &Path) -> io::Result<Opened> {
        let file = File::open(file)?;
        let len = file.metadata()?.len();
        Ok(Opened { file, len })
    }

    /// Reads some bytes at `at`, none only at the end.
    fn read_at(&self, file: &Opened, at: u64, out: &mut [u8]) -> io::Result<usize> {
        file.file.read_at(out, at)
    }
}

impl dyn Disk {
    /// Makes `dir` and the directories above it that are missing; each is durable in its parent on return.
    pub(crate) fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return self.settle_names(dir);
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.make_dirs(parent)?;
        match self.make_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync(parent)
    }

    /// Fills `out` with the bytes at `at`; fewer is `UnexpectedEof`.
    pub(crate) fn read_exact_at(&self, file: &Opened, at: u64, out: &mut [u8]) -> io::Result<()> {
        if self.read_upto_at(file, at, out)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Fills `out` with the bytes at `at` as far as there are any; gives how many there are.
    pub(crate) fn read_upto_at(&self, file: &Opened, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(left) = out.get_mut(done..).filter(|left| !left.is_empty()) {
            match self.read_at(file, at.saturating_add(done as u64), left) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

fn remove_tree<D: Disk + ?Sized>(disk: &D, dir: &Path) -> io::Result<()> {
    for path in disk.list(dir)? {
        if path.is_dir() {
            remove_tree(disk, &path)?;
        } else {
            disk.remove_file(&path)?;
        }
    }
    disk.remove_dir(dir)
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
