//! A disk on which chosen operations fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, Opened};

/// What the system says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Error {
    Io,
    NoSpace,
    TooManyFiles,
}

impl Error {
    fn raise<T>(self) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(match self {
            Self::Io => 5,
            Self::NoSpace => 28,
            Self::TooManyFiles => 24,
        }))
    }
}

/// What an operation has done when its error is returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Nothing.
    Before,
    /// Half of a write; of anything else nothing.
    Amid,
    /// All of it: only the answer is lost.
    After,
}

/// Failures in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) when: When,
    pub(crate) times: u64,
}

#[derive(Default)]
struct Plan {
    done: u64,
    fault: Option<(u64, Fault)>,
    /// How the operations that are counted end, if not all are.
    of: Option<&'static str>,
    /// What was done, for whoever wants to know what failed.
    failed: Vec<String>,
}

impl Plan {
    fn next(&mut self, what: &dyn Fn() -> String) -> Option<Fault> {
        if self.of.is_some_and(|of| !what().ends_with(of)) {
            return None;
        }
        let number = self.done;
        self.done += 1;
        let (first, fault) = self.fault?;
        if number < first || number - first >= fault.times {
            return None;
        }
        self.failed.push(what());
        Some(fault)
    }
}

/// How the changes end that hang, and the lock that they wait for.
type Hanging = (&'static str, Arc<Mutex<()>>);

/// Another disk, some of whose changes or reads fail.
pub(crate) struct Faulty {
    inner: Arc<dyn Disk>,
    changes: Mutex<Plan>,
    reads: Mutex<Plan>,
    hanging: Mutex<Option<Hanging>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, changes: Mutex::default(), reads: Mutex::default(), hanging: Mutex::default() }
    }

    /// Changes that end with this text are under way for as long as somebody holds the lock that is given.
    pub(crate) fn hang_changes_of(&self, of: &'static str) -> Arc<Mutex<()>> {
        let until = Arc::new(Mutex::new(()));
        *self.hanging.lock() = Some((of, until.clone()));
        until
    }

    /// Counted from now, changes from `first` on fail.
    pub(crate) fn fail_changes(&self, first: u64, fault: Fault) {
        *self.changes.lock() = Plan { fault: Some((first, fault)), ..Plan::default() };
    }

    /// Counted from now, reads from `first` on fail.
    pub(crate) fn fail_reads(&self, first: u64, fault: Fault) {
        *self.reads.lock() = Plan { fault: Some((first, fault)), ..Plan::default() };
    }

    /// Counted from now, changes that end with this text fail, as in `sync /project/manifest`.
    pub(crate) fn fail_changes_of(&self, of: &'static str, fault: Fault) {
        *self.changes.lock() = Plan { fault: Some((0, fault)), of: Some(of), ..Plan::default() };
    }

    /// Nothing fails any more; counts changes and reads from now.
    pub(crate) fn heal(&self) {
        *self.changes.lock() = Plan::default();
        *self.reads.lock() = Plan::default();
    }

    /// What failed.
    pub(crate) fn failed(&self) -> Vec<String> {
        [&self.changes, &self.reads].into_iter().flat_map(|plan| plan.lock().failed.clone()).collect()
    }

    fn change(
        &self,
        what: (&str, &Path),
        act: impl FnOnce() -> io::Result<()>,
        half: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let name = format!("{} {}", what.0, what.1.display());
        let hanging =
            self.hanging.lock().as_ref().filter(|(of, _)| name.ends_with(of)).map(|(_, until)| until.clone());
        if let Some(until) = hanging {
            drop(until.lock());
        }
        let fault = self.changes.lock().next(&|| name.clone());
        let Some(fault) = fault else { return act() };
        match fault.when {
            When::Before => {}
            When::Amid => half()?,
            When::After => act()?,
        }
        fault.error.raise()
    }

    fn whole(&self, what: (&str, &Path), act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.change(what, act, || Ok(()))
    }

    fn look<T>(&self, what: (&str, &Path), act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fault = self.reads.lock().next(&|| format!("{} {}", what.0, what.1.display()));
        fault.map_or_else(act, |fault| fault.error.raise())
    }
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

impl Disk for Faulty {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.whole(("make", dir), || self.inner.make_dir(dir))
    }

    fn create(&self, file: &Path) -> io::Result<()> {
        self.whole(("create", file), || self.inner.create(file))
    }

    fn write_at(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let write = |bytes: &[u8]| self.inner.write_at(file, at, bytes);
        self.change(("write", file), || write(bytes), || write(half(bytes)))
    }

    fn write_durably(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let part = || self.inner.write_at(file, at, half(bytes));
        self.change(("write", file), || self.inner.write_durably(file, at, bytes), part)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.whole(("sync", path), || self.inner.sync(path))
    }

    fn set_len(&self, file: &Path, len: u64) -> io::Result<()> {
        self.whole(("cut", file), || self.inner.set_len(file, len))
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.whole(("link", name), || self.inner.link(file, name))
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.whole(("remove", file), || self.inner.remove_file(file))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.whole(("remove", dir), || self.inner.remove_dir(dir))
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.look(("read", file), || self.inner.read(file))
    }

    fn len(&self, file: &Path) -> io::Result<u64> {
        self.look(("measure", file), || self.inner.len(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(("list", dir), || self.inner.list(dir))
    }

    fn open(&self, file: &Path) -> io::Result<Opened> {
        self.look(("open", file), || self.inner.open(file))
    }

    fn read_at(&self, file: &Opened, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.look(("read", Path::new("an open file")), || self.inner.read_at(file, at, out))
    }
}
