//! Objects in memory, for tests; and a wrapper that fails on demand.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{ObjectStore, Put};
use crate::error::{Result, StoreError};

/// Objects in a map.
#[derive(Default)]
pub(crate) struct Memory {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Memory {
    /// Overwrites an object behind the contract's back.
    pub(crate) fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        self.objects.lock().insert(name.to_owned(), bytes);
    }
}

impl ObjectStore for Memory {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects.lock().get(name).cloned())
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        let objects = self.objects.lock();
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        objects
            .get(name)
            .and_then(|bytes| bytes.get(from..from.checked_add(len)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| StoreError::corrupt(name, at, "too short"))
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.objects.lock().get(name).map(|bytes| bytes.len() as u64))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        let mut objects = self.objects.lock();
        if objects.contains_key(name) {
            return Ok(Put::Taken);
        }
        objects.insert(name.to_owned(), bytes.to_vec());
        Ok(Put::Stored)
    }

    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put> {
        let bytes = fs::read(file).map_err(StoreError::io(file))?;
        let outcome = self.put_if_absent(name, &bytes)?;
        fs::remove_file(file).map_err(StoreError::io(file))?;
        Ok(outcome)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.objects.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects.lock().remove(name);
        Ok(())
    }

    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.get(name)
    }
}

thread_local! {
    static READABLE: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// From now on, projects opened on this thread read nothing of their layers while this is false.
pub(crate) fn readable_if() -> Arc<AtomicBool> {
    let switch = Arc::new(AtomicBool::new(true));
    READABLE.set(Some(switch.clone()));
    switch
}

/// `inner`, or what reads from it only when the test lets it.
pub(crate) fn as_the_test_wants(inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    READABLE.with_borrow(|readable| match readable {
        Some(readable) => Arc::new(Unreadable { inner, readable: readable.clone() }),
        None => inner,
    })
}

struct Unreadable {
    inner: Arc<dyn ObjectStore>,
    readable: Arc<AtomicBool>,
}

impl Unreadable {
    fn check(&self, name: &str) -> Result<()> {
        if self.readable.load(Ordering::SeqCst) || !name.starts_with("layers/") {
            return Ok(());
        }
        // EMFILE and EIO are all the same here.
        Err(StoreError::Io { path: name.into(), source: std::io::Error::from_raw_os_error(24) })
    }
}

impl ObjectStore for Unreadable {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.check(name)?;
        self.inner.get(name)
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        self.check(name)?;
        self.inner.get_range(name, at, len)
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.check(name)?;
        self.inner.len(name)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        self.inner.put_if_absent(name, bytes)
    }

    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put> {
        self.inner.put_file_if_absent(name, file)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name)
    }

    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.inner.settle(name)
    }
}

/// Fails every change after the first `allowed`, as a process killed there would never have made it.
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    left: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, allowed: usize) -> Self {
        Self { inner, left: AtomicUsize::new(allowed) }
    }

    /// Changes that were made of `allowed`.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    fn spend(&self, name: &str) -> Result<()> {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        spent.map(|_| ()).map_err(|_| StoreError::Full { path: name.into() })
    }
}

impl ObjectStore for Faulty {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.get_range(name, at, len)
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.inner.len(name)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        self.spend(name)?;
        self.inner.put_if_absent(name, bytes)
    }

    fn put_file_if_absent(&self, name: &str, file: &Path) -> Result<Put> {
        self.spend(name)?;
        self.inner.put_file_if_absent(name, file)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.spend(name)?;
        self.inner.delete(name)
    }

    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.inner.settle(name)
    }
}
