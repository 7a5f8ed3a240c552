//! Object files kept open for reading.
//!
//! Descriptors are a limit of the process, so all projects of a process share a budget, a part of what the process may
//! have; a project at its limit, or one that finds none left, closes the file it has not read for longest. Files are opened
//! outside the lock: one slow open holds up only who asked.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::disk::{Disk, Opened};
use crate::limits::{OPEN_FILES_MAX, OPEN_FILES_SHARE};

/// Files that all projects of the process keep open now.
static KEPT: AtomicUsize = AtomicUsize::new(0);

struct Kept {
    file: Arc<Opened>,
    read: u64,
}

#[derive(Default)]
struct Files {
    kept: HashMap<String, Kept>,
    clock: u64,
}

impl Files {
    fn remove(&mut self, name: &str) -> bool {
        let removed = self.kept.remove(name).is_some();
        if removed {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.read).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.remove(&name))
    }
}

/// The files that one project keeps open.
#[derive(Default)]
pub(super) struct OpenFiles {
    files: Mutex<Files>,
}

impl OpenFiles {
    /// The file of an object, opened if it is not.
    pub(super) fn get(&self, disk: &dyn Disk, name: &str, path: &Path) -> io::Result<Arc<Opened>> {
        if let Some(file) = self.kept(name) {
            return Ok(file);
        }
        let file = loop {
            match disk.open(path) {
                // Some file that is kept may go for it.
                Err(error) if is_exhausted(&error) && self.files.lock().remove_oldest() => {}
                outcome => break Arc::new(outcome?),
            }
        };
        self.keep(name, &file);
        Ok(file)
    }

    fn kept(&self, name: &str) -> Option<Arc<Opened>> {
        let mut files = self.files.lock();
        files.clock += 1;
        let now = files.clock;
        let kept = files.kept.get_mut(name)?;
        kept.read = now;
        Some(Arc::clone(&kept.file))
    }

    fn keep(&self, name: &str, file: &Arc<Opened>) {
        let mut files = self.files.lock();
        files.remove(name);
        let is_full = |files: &Files| {
            files.kept.len() >= OPEN_FILES_MAX || KEPT.load(Ordering::Relaxed) >= process_max()
        };
        if is_full(&files) && !files.remove_oldest() {
            return;
        }
        files.clock += 1;
        let read = files.clock;
        files.kept.insert(name.to_owned(), Kept { file: Arc::clone(file), read });
        KEPT.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes a file that is to be deleted.
    pub(super) fn forget(&self, name: &str) {
        self.files.lock().remove(name);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.files.lock().kept.len()
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.files.get_mut().kept.len(), Ordering::Relaxed);
    }
}

/// Files that all projects of the process may keep open.
fn process_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / OPEN_FILES_SHARE).unwrap_or(usize::MAX)
}

fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::System;

    #[test]
    fn at_the_limit_the_file_that_was_not_read_for_longest_is_closed_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let files = OpenFiles::default();
        let path = |number: usize| dir.path().join(number.to_string());
        let get = |number: usize| files.get(&System, &number.to_string(), &path(number)).unwrap();
        for number in 0..=OPEN_FILES_MAX {
            std::fs::write(path(number), number.to_string()).unwrap();
        }
        let first = get(0);
        (1..OPEN_FILES_MAX).for_each(|number| drop(get(number)));
        assert!(Arc::ptr_eq(&first, &get(0)), "all fit");
        drop(get(OPEN_FILES_MAX));
        assert_eq!(files.count(), OPEN_FILES_MAX);
        assert!(Arc::ptr_eq(&first, &get(0)), "it was read just now");
        assert!(files.kept("1").is_none(), "nobody had read it for longest");
        assert!(files.kept("2").is_some());
    }

    /// Another project may hold all that the process may have.
    #[test]
    fn a_file_is_read_when_the_process_may_keep_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1");
        std::fs::write(&path, "x").unwrap();
        let files = OpenFiles::default();
        let others = process_max();
        KEPT.fetch_add(others, Ordering::Relaxed);
        assert_eq!(files.get(&System, "1", &path).unwrap().len, 1);
        assert_eq!(files.count(), 0);
        KEPT.fetch_sub(others, Ordering::Relaxed);
    }
}
