//! Objects as files below a directory.
//!
//! A put writes a temporary file, syncs it, links it to its name (which fails if the name is taken) and syncs the
//! directory. A crash leaves at most a file in `tmp/`, removed at the next open.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ObjectStore, Put};
use crate::disk::{Disk, unused_name};
use crate::error::{Result, StoreError};

/// Open files kept for reading.
const OPEN_FILES_MAX: usize = 128;

/// Objects as files below a directory.
pub(crate) struct Local {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl Local {
    /// Objects below `root`, which is created; leftovers of a crash are removed.
    pub(crate) fn new(root: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let tmp = root.join("tmp");
        disk.make_dirs(&tmp).map_err(StoreError::io(&tmp))?;
        for entry in fs::read_dir(&tmp).map_err(StoreError::io(&tmp))? {
            let path = entry.map_err(StoreError::io(&tmp))?.path();
            disk.remove_file(&path).map_err(StoreError::io(&path))?;
        }
        Ok(Self { root: root.to_owned(), disk, open: Mutex::new(HashMap::new()) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&self, name: &str) -> Result<Arc<File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(name) {
            return Ok(file.clone());
        }
        let path = self.path(name);
        let file = Arc::new(File::open(&path).map_err(StoreError::io(&path))?);
        if open.len() >= OPEN_FILES_MAX {
            open.clear();
        }
        open.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn publish(&self, name: &str, from: &Path) -> Result<Put> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root);
        self.disk.make_dirs(parent).map_err(StoreError::io(parent))?;
        let outcome = match self.disk.link(from, &path) {
            Ok(()) => {
                self.disk.sync(parent).map_err(StoreError::io(parent))?;
                Put::Stored
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::Taken,
            Err(error) => return Err(StoreError::io(&path)(error)),
        };
        self.disk.remove_file(from).map_err(StoreError::io(from))?;
        Ok(outcome)
    }
}

impl ObjectStore for Local {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        let file = self.file(name)?;
        let held = file.metadata().map_err(StoreError::io(self.path(name)))?.len();
        if at.checked_add(len as u64).is_none_or(|end| end > held) {
            return Err(StoreError::corrupt(
                name,
                at,
                format!("{len} bytes expected, the file ends at {held}"),
            ));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at).map_err(StoreError::io(self.path(name)))?;
        Ok(bytes)
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        let temporary = unused_name(&self.root.join("tmp"), "object");
        let write = || -> io::Result<()> {
            self.disk.create(&temporary)?;
            self.disk.write_at(&temporary, 0, bytes)?;
            self.disk.sync(&temporary)
        };
        if let Err(error) = write() {
            // The temporary file is worthless; if it cannot be removed the next open does it.
            let _ = self.disk.remove_file(&temporary);
            return Err(StoreError::io(self.path(name))(error));
        }
        self.publish(name, &temporary)
    }

    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put> {
        self.disk.sync(file).map_err(StoreError::io(file))?;
        self.publish(name, file)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let path = self.path(dir);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io(&path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io(&path))?;
            let Ok(file) = entry.file_name().into_string() else { continue };
            let name = if dir.is_empty() { file } else { format!("{dir}/{file}") };
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.open.lock().remove(name);
        let path = self.path(name);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(&path)(error)),
            _ => Ok(()),
        }
    }
}
