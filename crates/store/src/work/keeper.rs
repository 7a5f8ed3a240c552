//! Who gives memory back: one thread for all projects that share a `Memory`.
//!
//! It freezes the largest memtables when they hold much together, so that the flushers write them; drops memtables that
//! cannot be written when such hold too much; and closes branches that nobody used for a while.
//!
//! Invariants
//! - It waits for nobody and touches no disk: a disk that hangs holds up its own project only.
//! - A branch is closed only while nobody holds it: no reader, no writer, no flusher, no open child. So nobody ever sees one
//!   change its tables, and there is nothing to try again. It is replaced by one that is not open, and the next who
//!   asks for it opens that.
//! - What is dropped without being written is in the WAL.
//!
//! Not here: who waits, and what counts (`memory`).

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use types::BranchId;

use crate::branch::Branch;
use crate::core::Core;
use crate::limits::{BRANCH_IDLE, FROZEN_MAX, OPEN_BRANCHES_MAX};
use crate::work::memory::Memory;

/// Between two looks.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_millis(200) };

/// Makes a project known to the keeper, and starts it with the first.
pub(crate) fn enter(core: &Arc<Core>) -> std::io::Result<()> {
    let memory = core.account.memory();
    if !memory.enter(core) {
        return Ok(());
    }
    let for_thread = Arc::downgrade(memory);
    let life = move || {
        while let Some(memory) = for_thread.upgrade() {
            tend(&memory, Instant::now());
            memory.rest(PAUSE);
        }
    };
    let spawned = std::thread::Builder::new().name("store-memory".to_owned()).spawn(life);
    spawned.map(|_| ()).inspect_err(|_| memory.lost_keeper())
}

/// One look, at a time that is `now`.
pub(crate) fn tend(memory: &Memory, now: Instant) {
    let seen = memory.now();
    let seconds = memory.tick(now);
    let cores = memory.projects();
    let (failing, well): (Vec<_>, Vec<_>) =
        cores.into_iter().partition(|core| core.flushes.failing(now).is_some());
    if memory.used() > memory.comfortable() {
        freeze_largest(memory, &well);
    }
    drop_unwritten(memory, &failing);
    if seconds > seen {
        let cores = [failing, well].concat();
        close_idle(&cores, seconds);
    }
}

/// Freezes the largest memtables that nobody writes to now, until what is not yet on its way to the disk is little.
fn freeze_largest(memory: &Memory, cores: &[Arc<Core>]) {
    let mut waiting = 0;
    let mut largest = Vec::new();
    for core in cores {
        for branch in core.all().into_iter().filter(|branch| branch.is_open()) {
            let view = branch.view.read();
            let (active, frozen) = (view.active.bytes(), view.frozen.len());
            waiting += view.frozen.iter().map(|table| table.bytes()).sum::<usize>();
            drop(view);
            if active > 0 && frozen < FROZEN_MAX {
                largest.push((active, core, branch));
            }
        }
    }
    largest.sort_unstable_by_key(|(bytes, ..)| Reverse(*bytes));
    let mut excess = memory.used().saturating_sub(memory.comfortable()).saturating_sub(waiting);
    for (bytes, core, branch) in largest {
        if excess == 0 {
            return;
        }
        if branch.freeze_if_free(core) {
            excess = excess.saturating_sub(bytes);
        }
    }
}

/// Closes branches whose memtables cannot be written, the largest first, while such hold more than they may.
fn drop_unwritten(memory: &Memory, failing: &[Arc<Core>]) {
    let held = || failing.iter().map(|core| core.account.held()).sum::<usize>();
    if held() <= memory.failing_max() {
        return;
    }
    let bytes = |branch: &Branch| {
        let view = branch.view.read();
        view.frozen.iter().map(|table| table.bytes()).sum::<usize>() + view.active.bytes()
    };
    let mut largest = Vec::new();
    for core in failing {
        largest.extend(core.all().iter().map(|branch| (bytes(branch), core, branch.id.clone())));
    }
    largest.retain(|(bytes, ..)| *bytes > 0);
    largest.sort_by_key(|(bytes, ..)| Reverse(*bytes));
    for (_, core, branch) in largest {
        if held() <= memory.failing_max() {
            return;
        }
        core.close_unwritten(&branch);
    }
}

/// Closes what nobody used for a while, and of more open branches than there may be those that were not used for longest.
fn close_idle(cores: &[Arc<Core>], now: u64) {
    let mut open: Vec<(u64, &Arc<Core>, BranchId)> = Vec::new();
    for core in cores {
        let branches = core.all();
        let touched = branches.iter().filter(|branch| !branch.is_closed());
        open.extend(touched.map(|branch| (branch.used(), core, branch.id.clone())));
    }
    open.sort_by_key(|(used, ..)| *used);
    let mut too_many = open.len().saturating_sub(OPEN_BRANCHES_MAX);
    for (_, core, branch) in open {
        // What it begins on may have been held by it alone.
        let mut next = Some(branch);
        while let Some(id) = next
            && let Ok(branch) = core.branch(&id)
        {
            if now.saturating_sub(branch.used()) < BRANCH_IDLE.as_secs() && too_many == 0 {
                break;
            }
            next = branch.origin.clone();
            drop(branch);
            if !core.close(&id) {
                break;
            }
            too_many = too_many.saturating_sub(1);
        }
    }
}
