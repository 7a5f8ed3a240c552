//! Memory is set aside for WAL before it is taken, and waited for when there is none.
//!
//! Invariants
//! - Who waits holds none that cannot be given back: its own memtable was frozen before.
//! - Writers of a project whose layers cannot be written are refused before they hold a branch, so that the keeper can
//!   close it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use types::BranchId;

use super::{Charge, Gate, Holder, Memory};
use crate::error::{Result, StoreError};
use crate::limits::{MEMORY_WAIT, ROOM_SHARE};

/// Refuses `bytes` more for a branch of a project whose layers cannot be written, once such projects hold all that they may.
///
/// # Errors
/// `FlushFailing`.
pub(crate) fn check_may_grow(project: &dyn Holder, branch: &BranchId, bytes: usize) -> Result<()> {
    let Some(reason) = project.failing(Instant::now()) else { return Ok(()) };
    let memory = project.account().memory();
    if memory.held_by_failing().saturating_add(room_of(memory, bytes)) <= memory.failing_max() {
        return Ok(());
    }
    Err(StoreError::FlushFailing { branch: branch.clone(), reason })
}

/// What is set aside for records of `bytes`: never so much that it could not be had.
fn room_of(memory: &Memory, bytes: usize) -> usize {
    bytes.min(memory.limit / ROOM_SHARE)
}

/// Sets memory aside for records of `bytes` that are about to be filed in `branch`; `None` if there is none.
///
/// # Errors
/// `FlushFailing`, as `check_may_grow`.
pub(crate) fn take(project: &dyn Holder, branch: &BranchId, bytes: usize) -> Result<Option<Charge>> {
    check_may_grow(project, branch, bytes)?;
    let account = project.account();
    let bytes = room_of(account.memory(), bytes);
    if !account.memory().take(bytes) {
        return Ok(None);
    }
    account.held.fetch_add(bytes, Ordering::Relaxed);
    Ok(Some(Charge { account: account.clone(), bytes }))
}

/// As `take`, and waits for it. What the caller itself holds must be on its way to the disk.
///
/// # Errors
/// `MemoryFull` if none was given back in time; `FlushFailing`.
pub(crate) fn wait(project: &dyn Holder, branch: &BranchId, bytes: usize) -> Result<Charge> {
    wait_within(project, branch, bytes, MEMORY_WAIT)
}

/// As `wait`, so long at most.
pub(crate) fn wait_within(
    project: &dyn Holder,
    branch: &BranchId,
    bytes: usize,
    within: Duration,
) -> Result<Charge> {
    let memory = project.account().memory();
    let deadline = Instant::now() + within;
    memory.waiting.fetch_add(1, Ordering::SeqCst);
    let outcome = loop {
        match take(project, branch, bytes) {
            Ok(None) => {}
            Ok(Some(room)) => break Ok(room),
            Err(error) => break Err(error),
        }
        let mut gate = memory.gate.lock();
        let is_full = |_: &mut Gate| memory.used().saturating_add(room_of(memory, bytes)) > memory.limit;
        memory.wake.notify_all();
        if memory.freed.wait_while_until(&mut gate, is_full, deadline).timed_out() {
            let (held, max) = (memory.used(), memory.limit);
            break Err(StoreError::MemoryFull { branch: branch.clone(), held, max, waited: within });
        }
    };
    memory.waiting.fetch_sub(1, Ordering::SeqCst);
    outcome
}
