//! The stores of projects: open ones, and what nobody names any more.
//!
//! Not here: who decides what a store is to hold (`control`), the service by which endpoints reach one (`fleet`).

use std::sync::Arc;

use store::StoreOptions;

use crate::error::{Error, Result};
use crate::limits::{FULL_BELOW_BYTES, STORE_IDLE, STORE_LOOK, STORE_OPENED_WITHIN, TREE_WITHIN};
use crate::machine::data_dir::DataDir;
use crate::machine::life::Life;
use crate::metadata::Metadata;
use crate::storage::stores::Stores;
use crate::storage::unborn::Unborn;

pub(crate) mod stores;
pub(crate) mod sweep;
pub(crate) mod unborn;

/// The stores of all projects, and the rows that name what they hold.
pub struct Storage {
    /// The data directory.
    pub dir: Arc<DataDir>,
    /// The metadata.
    pub metadata: Arc<Metadata>,
    /// Sizes every project's store is opened with.
    pub options: StoreOptions,
    /// Branches of stores that no row names yet.
    pub unborn: Unborn,
    stores: Stores,
}

impl Storage {
    /// No store is open yet.
    pub fn new(dir: Arc<DataDir>, metadata: Arc<Metadata>, options: StoreOptions) -> Self {
        Self { dir, metadata, options, unborn: Unborn::default(), stores: Stores::default() }
    }

    /// The store of a project, opened if it is not.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be opened, or not soon.
    pub fn store(&self, project: &str) -> Result<Arc<store::Project>> {
        let (path, options, id) = (self.dir.project(project), self.options.clone(), project.to_owned());
        self.stores.open(project, STORE_OPENED_WITHIN, move || stores::open(path, options, &id))
    }

    /// The major version of Postgres of a project.
    ///
    /// # Errors
    /// Those of opening the store.
    pub fn major(&self, project: &str) -> Result<i32> {
        Ok(i32::try_from(self.store(project)?.format().major).unwrap_or_default())
    }

    /// Closes the stores of projects that nobody uses.
    pub fn close_idle(&self) {
        self.stores.close_idle(STORE_IDLE, |store| store.open_branches() == 0);
    }

    /// Closes idle stores until the process ends.
    pub fn close_idle_until_end(&self, life: &Life) {
        life.again_and_again(|| std::thread::sleep(STORE_LOOK), || self.close_idle());
    }

    /// Keeps a store that was just made.
    pub fn put(&self, project: &str, store: store::Project) {
        self.stores.put(project, store);
    }

    /// Forgets a store whose project is deleted.
    pub fn forget(&self, project: &str) {
        self.stores.forget(project);
    }

    /// Does `work` while nobody else makes or removes branches of a project, in its store or in its rows.
    ///
    /// # Errors
    /// `Busy` if somebody does so for too long; those of `work`.
    pub fn in_tree<T>(&self, project: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let tree = self.stores.tree(project);
        let _held = tree.try_lock_for(TREE_WITHIN).ok_or_else(|| {
            Error::busy(format!("branches of project {project} are being changed; try again")).again_after(5)
        })?;
        work()
    }

    /// Whether there is no space to grow in.
    pub fn is_full(&self) -> bool {
        let disk = rustix::fs::statvfs(self.dir.project(""));
        disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BELOW_BYTES)
    }
}
