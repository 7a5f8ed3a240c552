//! Branches are frozen and closed for the keeper, who decides which.
//!
//! A branch is closed only while nobody holds it. It is replaced by one that is not open, and the next who asks for it opens
//! that.
//!
//! Not here: when (`memory::keeper`).

use std::sync::Arc;
use std::time::Instant;

use types::BranchId;

use crate::branch::Branch;
use crate::core::Core;
use crate::memory::{Account, Holder, Holding};

impl Holder for Core {
    fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn failing(&self, now: Instant) -> Option<String> {
        self.flushes.failing(now)
    }

    fn holdings(&self) -> Vec<Holding> {
        self.all().iter().filter_map(|branch| holding_of(branch)).collect()
    }

    fn last_used(&self, branch: &BranchId) -> Option<(u64, Option<BranchId>)> {
        self.find(branch).map(|branch| (branch.used(), branch.origin.clone()))
    }

    fn freeze(&self, branch: &BranchId) -> bool {
        self.find(branch).is_some_and(|branch| freeze_if_free(self, &branch))
    }

    fn close(&self, id: &BranchId) -> bool {
        let Some(branch) = self.find(id) else { return false };
        if branch.is_closed() {
            return false;
        }
        let has_unwritten = {
            let view = branch.view.read();
            !view.active.is_empty() && view.frozen.is_empty()
        };
        if branch.is_open() && has_unwritten {
            return freeze_if_free(self, &branch);
        }
        drop(branch);
        let was = self.replace(id, |slot| {
            let branch = Arc::get_mut(slot)?;
            branch.is_at_rest().then(|| branch.closed())
        });
        was.is_some()
    }

    fn close_unwritten(&self, id: &BranchId) {
        let closed = self.replace(id, |slot| {
            let was_waiting = self.flushes.withdraw(slot);
            let closed = Arc::get_mut(slot).map(Branch::closed);
            if closed.is_none() && was_waiting {
                self.flushes.submit(slot);
            }
            closed
        });
        if let Some(unlisted) = closed.and_then(|branch| branch.unlisted.lock().take()) {
            self.flushes.abandon(unlisted);
        }
    }
}

/// `None` if the branch holds nothing but its name.
fn holding_of(branch: &Branch) -> Option<Holding> {
    let (active, frozen) = {
        let view = branch.view.read();
        let bytes = view.frozen.iter().map(|table| table.bytes()).sum();
        (view.active.bytes(), (view.frozen.len(), bytes))
    };
    let (is_open, is_closed) = (branch.is_open(), branch.is_closed());
    if is_closed && active + frozen.1 == 0 {
        return None;
    }
    Some(Holding { branch: branch.id.clone(), is_open, is_closed, active, frozen, used: branch.used() })
}

/// Freezes the memtable, so that it is written, unless somebody writes to it now.
pub(crate) fn freeze_if_free(core: &Core, branch: &Arc<Branch>) -> bool {
    let Some(mut slot) = branch.writer.try_lock() else { return false };
    let Some(writer) = slot.as_mut() else { return false };
    writer.filed.freeze(&branch.view);
    drop(slot);
    core.flushes.submit(branch);
    true
}
