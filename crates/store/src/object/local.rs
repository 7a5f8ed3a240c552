//! Objects as files below a directory.
//!
//! A put writes a temporary file, syncs it, links it to its name (which fails if the name is taken) and syncs the
//! directory. A crash leaves at most a file in `tmp/`, removed at the next open. A link that returned an error is known by
//! the file it leads to.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open_files::OpenFiles;
use super::{ObjectStore, Put};
use crate::disk::{Disk, unused_name};
use crate::error::{Result, StoreError};

/// Objects as files below a directory.
pub(crate) struct Local {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    open: OpenFiles,
}

impl Local {
    /// Objects below `root`, which is created; leftovers of a crash are removed.
    pub(crate) fn new(root: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let tmp = root.join("tmp");
        disk.make_dirs(&tmp).map_err(StoreError::io(&tmp))?;
        for path in disk.list(&tmp).map_err(StoreError::io(&tmp))? {
            disk.discard(&path);
        }
        Ok(Self { root: root.to_owned(), disk, open: OpenFiles::default() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn publish(&self, name: &str, from: &Path) -> Result<Put> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root);
        self.disk.make_dirs(parent).map_err(StoreError::io(parent))?;
        let linked = self.disk.link(from, &path);
        if let Err(error) = linked
            // It may have taken place all the same, now or in an earlier call.
            && !is_same_file(from, &path)
        {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(StoreError::io(&path)(error));
            }
            self.disk.discard(from);
            return Ok(Put::Taken);
        }
        self.disk.sync(parent).map_err(StoreError::io(parent))?;
        self.disk.discard(from);
        Ok(Put::Stored)
    }
}

/// Whether two names are of one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

impl ObjectStore for Local {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        unless_absent(self.disk.read(&path)).map_err(StoreError::io(&path))
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        let path = self.path(name);
        let file = self.open.get(&*self.disk, name, &path).map_err(StoreError::io(&path))?;
        if at.checked_add(len as u64).is_none_or(|end| end > file.len) {
            let reason = format!("{len} bytes expected, the file ends at {}", file.len);
            return Err(StoreError::corrupt(name, at, reason));
        }
        let mut bytes = vec![0; len];
        match self.disk.read_exact_at(&file, at, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(StoreError::corrupt(name, at, format!("{len} bytes expected, the file is shorter")))
            }
            Err(error) => Err(StoreError::io(path)(error)),
        }
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        unless_absent(self.disk.len(&path)).map_err(StoreError::io(&path))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        let temporary = unused_name(&self.root.join("tmp"), "object");
        let write = || -> io::Result<()> {
            self.disk.create(&temporary)?;
            self.disk.write_at(&temporary, 0, bytes)?;
            self.disk.sync(&temporary)
        };
        let outcome = write().map_err(StoreError::io(self.path(name)));
        let outcome = outcome.and_then(|()| self.publish(name, &temporary));
        if outcome.is_err() {
            // If it was published, its other name keeps the content.
            self.disk.discard(&temporary);
        }
        outcome
    }

    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put> {
        self.disk.sync(file).map_err(StoreError::io(file))?;
        self.publish(name, file)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let path = self.path(dir);
        let entries = unless_absent(self.disk.list(&path)).map_err(StoreError::io(&path))?;
        let mut names = Vec::new();
        for entry in entries.unwrap_or_default() {
            let Some(file) = entry.file_name().and_then(|file| file.to_str()) else { continue };
            let name = if dir.is_empty() { file.to_owned() } else { format!("{dir}/{file}") };
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.open.forget(name);
        let path = self.path(name);
        unless_absent(self.disk.remove_file(&path)).map(|_| ()).map_err(StoreError::io(&path))
    }

    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.get(name)? else { return Ok(None) };
        let path = self.path(name);
        // Its bytes were synced before it was linked.
        let parent = path.parent().unwrap_or(&self.root);
        self.disk.sync(parent).and_then(|()| self.disk.settle_names(&path)).map_err(StoreError::io(&path))?;
        Ok(Some(bytes))
    }
}

/// `None` for what is not there.
fn unless_absent<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
