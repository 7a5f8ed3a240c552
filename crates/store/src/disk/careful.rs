//! A disk that remembers what an error left undone.
//!
//! Two things must not be forgotten after an error. Names that were made but not synced: what is written below them later
//! is not durable, however well it is synced itself. And files that nothing refers to and that could not be removed: they
//! take room until the next open. Both are made up for as soon as the disk lets it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, Opened};
use crate::limits::LEFTOVERS_MAX;

/// Another disk, and what errors left undone on it.
pub(crate) struct Careful {
    disk: Arc<dyn Disk>,
    /// Directories in which a name may not be durable. Bounded by the directories of the project.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    leftovers: Mutex<BTreeSet<PathBuf>>,
}

impl Careful {
    /// A disk on which nothing has failed yet.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, unsynced: Mutex::default(), leftovers: Mutex::default() }
    }

    /// A name in the directory of `path` was made, or was not: after an error either may be.
    fn named(&self, path: &Path, outcome: io::Result<()>) -> io::Result<()> {
        let doubtful = |error: &io::Error| {
            !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
        };
        if outcome.as_ref().is_err_and(doubtful)
            && let Some(dir) = path.parent()
        {
            self.unsynced.lock().insert(dir.to_owned());
        }
        outcome
    }
}

impl Disk for Careful {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.named(dir, self.disk.make_dir(dir))
    }

    fn create(&self, file: &Path) -> io::Result<()> {
        self.named(file, self.disk.create(file))
    }

    fn write_at(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(file, at, bytes)
    }

    fn write_durably(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_durably(file, at, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let outcome = self.disk.sync(path);
        if outcome.is_ok() {
            self.unsynced.lock().remove(path);
        } else if path.is_dir() {
            self.unsynced.lock().insert(path.to_owned());
        }
        outcome
    }

    fn set_len(&self, file: &Path, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.named(name, self.disk.link(file, name))
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.disk.remove_file(file)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn settle_names(&self, path: &Path) -> io::Result<()> {
        let due: Vec<PathBuf> = {
            let unsynced = self.unsynced.lock();
            path.ancestors().filter(|dir| unsynced.contains(*dir)).map(Path::to_owned).collect()
        };
        due.iter().try_for_each(|dir| self.sync(dir))
    }

    fn discard(&self, path: &Path) {
        if self.reclaim(path).is_err() {
            let mut leftovers = self.leftovers.lock();
            if leftovers.len() < LEFTOVERS_MAX {
                leftovers.insert(path.to_owned());
            }
        }
    }

    fn reclaim(&self, path: &Path) -> io::Result<()> {
        self.disk.reclaim(path)?;
        self.leftovers.lock().remove(path);
        Ok(())
    }

    fn has_leftovers(&self) -> bool {
        !self.leftovers.lock().is_empty()
    }

    fn sweep(&self) -> io::Result<()> {
        let due: Vec<PathBuf> = self.leftovers.lock().iter().cloned().collect();
        due.iter().try_for_each(|path| self.reclaim(path))
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(file)
    }

    fn len(&self, file: &Path) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }

    fn open(&self, file: &Path) -> io::Result<Opened> {
        self.disk.open(file)
    }

    fn read_at(&self, file: &Opened, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, at, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::fault::{Error, Fault, Faulty, When};
    use crate::disk::System;

    fn failing() -> (Arc<Faulty>, Arc<dyn Disk>) {
        let faulty = Arc::new(Faulty::new(Arc::new(System)));
        (faulty.clone(), Arc::new(Careful::new(faulty)))
    }

    const ALWAYS: Fault = Fault { error: Error::Io, when: When::Before, times: u64::MAX };

    #[test]
    fn what_could_not_be_removed_is_removed_when_the_disk_lets_it() {
        let top = tempfile::tempdir().unwrap();
        let (faulty, disk) = failing();
        let (file, dir) = (top.path().join("file"), top.path().join("dir"));
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir_all(dir.join("below")).unwrap();
        faulty.fail_changes(0, ALWAYS);
        disk.discard(&file);
        disk.discard(&dir);
        assert!(disk.has_leftovers() && disk.sweep().is_err());
        faulty.heal();
        disk.sweep().unwrap();
        assert!(!disk.has_leftovers());
        assert!(!file.exists() && !dir.exists());
    }

    /// A directory that was made and not synced was once taken for durable by whoever found it there.
    #[test]
    fn a_directory_whose_name_could_not_be_synced_is_synced_before_it_is_used() {
        let top = tempfile::tempdir().unwrap();
        let (faulty, disk) = failing();
        let dir = top.path().join("made");
        faulty.fail_changes(1, ALWAYS);
        assert!(disk.make_dirs(&dir).is_err());
        assert!(dir.is_dir());
        assert!(disk.make_dirs(&dir).is_err(), "its name is not durable yet");
        assert!(disk.settle_names(&dir.join("file")).is_err());
        faulty.heal();
        disk.make_dirs(&dir).unwrap();
        faulty.fail_changes(0, ALWAYS);
        disk.make_dirs(&dir).unwrap();
    }
}
