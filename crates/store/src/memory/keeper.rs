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
//! Not here: who waits, and what counts (`memory`); how a branch is closed (`core::closing`).

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use types::BranchId;

use crate::limits::{BRANCH_IDLE, FROZEN_MAX, OPEN_BRANCHES_MAX};
use crate::memory::{Holder, Memory};

/// Between two looks.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_millis(200) };

/// Makes a project known to the keeper, and starts it with the first.
pub(crate) fn enter(project: &Arc<impl Holder + 'static>) -> std::io::Result<()> {
    let memory = project.account().memory();
    let known = Arc::downgrade(project);
    if !memory.enter(known) {
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
    let (failing, well): (Vec<_>, Vec<_>) =
        memory.projects().into_iter().partition(|project| project.failing(now).is_some());
    if memory.used() > memory.comfortable() {
        freeze_largest(memory, &well);
    }
    drop_unwritten(memory, &failing);
    if seconds > seen {
        close_idle(&[failing, well].concat(), seconds);
    }
}

/// Freezes the largest memtables that nobody writes to now, until what is not yet on its way to the disk is little.
fn freeze_largest(memory: &Memory, projects: &[Arc<dyn Holder>]) {
    let mut waiting = 0;
    let mut largest = Vec::new();
    for project in projects {
        for holding in project.holdings().into_iter().filter(|holding| holding.is_open) {
            let (frozen, bytes) = holding.frozen;
            waiting += bytes;
            if holding.active > 0 && frozen < FROZEN_MAX {
                largest.push((holding.active, project, holding.branch));
            }
        }
    }
    largest.sort_unstable_by_key(|(bytes, ..)| Reverse(*bytes));
    let mut excess = memory.used().saturating_sub(memory.comfortable()).saturating_sub(waiting);
    for (bytes, project, branch) in largest {
        if excess == 0 {
            return;
        }
        if project.freeze(&branch) {
            excess = excess.saturating_sub(bytes);
        }
    }
}

/// Closes branches whose memtables cannot be written, the largest first, while such hold more than they may.
fn drop_unwritten(memory: &Memory, failing: &[Arc<dyn Holder>]) {
    let held = || failing.iter().map(|project| project.account().held()).sum::<usize>();
    if held() <= memory.failing_max() {
        return;
    }
    let mut largest = Vec::new();
    for project in failing {
        let holdings = project.holdings().into_iter();
        largest.extend(holdings.map(|holding| (holding.active + holding.frozen.1, project, holding.branch)));
    }
    largest.retain(|(bytes, ..)| *bytes > 0);
    largest.sort_by_key(|(bytes, ..)| Reverse(*bytes));
    for (_, project, branch) in largest {
        if held() <= memory.failing_max() {
            return;
        }
        project.close_unwritten(&branch);
    }
}

/// Closes what nobody used for a while, and of more open branches than there may be those that were not used for longest.
fn close_idle(projects: &[Arc<dyn Holder>], now: u64) {
    let mut open: Vec<(u64, &Arc<dyn Holder>, BranchId)> = Vec::new();
    for project in projects {
        let touched = project.holdings().into_iter().filter(|holding| !holding.is_closed);
        open.extend(touched.map(|holding| (holding.used, project, holding.branch)));
    }
    open.sort_by_key(|(used, ..)| *used);
    let mut too_many = open.len().saturating_sub(OPEN_BRANCHES_MAX);
    for (_, project, branch) in open {
        // What it begins on may have been held by it alone.
        let mut next = Some(branch);
        while let Some(id) = next
            && let Some((used, origin)) = project.last_used(&id)
        {
            if now.saturating_sub(used) < BRANCH_IDLE.as_secs() && too_many == 0 {
                break;
            }
            next = origin;
            if !project.close(&id) {
                break;
            }
            too_many = too_many.saturating_sub(1);
        }
    }
}
