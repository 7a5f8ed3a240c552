//! What readers of a branch see: its tables from newest to oldest, and how far they go.
//!
//! Not here: the ancestors' tables, which come after (`branch`).

use std::collections::VecDeque;
use std::sync::Arc;

use types::{BranchId, ClusterState, Lsn};

use crate::error::{StoreError, error_chain};
use crate::memory::Account;
use crate::table::layer::Layer;
use crate::table::memtable::Memtable;

/// What readers see.
pub(crate) struct View {
    pub(crate) active: Memtable,
    /// Oldest first.
    pub(crate) frozen: VecDeque<Arc<Memtable>>,
    /// Oldest first.
    pub(crate) layers: Arc<Vec<Arc<Layer>>>,
    /// The state at the branch's start, which is its parent's.
    pub(crate) start: Option<ClusterState>,
    /// End of the last record taken.
    pub(crate) head: Lsn,
    /// Why no record after `head` can be taken.
    pub(crate) stuck: Option<Stuck>,
}

impl View {
    /// Of a branch that is not open and is known up to `head`.
    pub(crate) fn closed(account: &Arc<Account>, head: Lsn) -> Self {
        Self {
            active: Memtable::new(account),
            frozen: VecDeque::new(),
            layers: Arc::default(),
            start: None,
            head,
            stuck: None,
        }
    }
}

/// Why no record after the head of a branch is filed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// What went wrong with the next record.
    pub(crate) reason: String,
    /// True if trying again is of no use until something is changed: the program, a damaged file, the log itself.
    pub(crate) lasting: bool,
}

impl Stuck {
    /// That error happened to the next record.
    pub(crate) fn on(error: &StoreError) -> Self {
        Self { reason: error_chain(error), lasting: error.is_lasting() }
    }

    /// What a question is answered that needs what is beyond `at`.
    pub(crate) fn error(&self, branch: &BranchId, at: Lsn) -> StoreError {
        let (branch, reason) = (branch.clone(), self.reason.clone());
        if self.lasting {
            StoreError::Stuck { branch, at, reason }
        } else {
            StoreError::Behind { branch, at, reason }
        }
    }
}
