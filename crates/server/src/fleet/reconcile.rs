//! The loop that makes what is be what should be: a look at every endpoint, once a second and whenever a compute ends.
//!
//! Dead computes are started again, later and later when that keeps failing; what should be gone is removed.
//!
//! ```text
//!   looks, many at once --> queue, oldest endpoint first --> threads, so many at once and fewer of one project
//!     ^ did not answer last time: looked at again beside the others, and nobody waits for it
//! ```
//!
//! What must hold
//! - One endpoint, one process that does not answer, or one project never delays what is done about the others.
//! - Not everything starts at once, after a restart of the machine say. What somebody asks for does not wait in the queue:
//!   it finds a place among the starts that the queue may not take (`limits`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use api::endpoint::EndpointState;
use compute::control::State;

use crate::failpoint;
use crate::fleet::Fleet;
use crate::fleet::endpoints::{observe, remove_endpoint, start_endpoint, suspend_endpoint};
use crate::fleet::plan::{self, Action, Seen};
use crate::fleet::quarantine::note_passwords;
use crate::fleet::queue::Due;
use crate::fleet::runtime::Runtime;
use crate::limits::{LOOKS_AT_ONCE, RECONCILED_EVERY};
use crate::machine::threads;
use crate::metadata::endpoint::{self, Desired, EndpointRow};

/// Looks and does what `beside` does until the process ends.
pub fn run(fleet: &Arc<Fleet>, beside: impl Fn()) {
    fleet.life.again_and_again(
        || fleet.bell.sleep(RECONCILED_EVERY),
        || {
            pass(fleet);
            beside();
        },
    );
}

/// One look at every endpoint. It waits for none that did not answer the last one.
pub fn pass(fleet: &Arc<Fleet>) {
    let rows = match fleet.metadata.read(endpoint::all) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "cannot list endpoints");
            return;
        }
    };
    let silent = |row: &EndpointRow| fleet.endpoints.of(&row.id).silent.load(Ordering::Acquire);
    let (silent, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(silent);
    look_again(fleet, silent);
    threads::each(&others, LOOKS_AT_ONCE, |row| look_at(fleet, row));
}

/// Looks again at those that did not answer, beside the passes. While it does, they are not looked at otherwise.
fn look_again(fleet: &Arc<Fleet>, rows: Vec<EndpointRow>) {
    if rows.is_empty() || fleet.queue.looks_again.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = Arc::clone(fleet);
    let looking = threads::spawn("reconcile silent", move || {
        threads::each(&rows, LOOKS_AT_ONCE, |row| look_at(&own, row));
        own.queue.looks_again.store(false, Ordering::Release);
    });
    if let Err(error) = looking {
        tracing::error!(%error, "endpoints that do not answer wait for the next look");
        fleet.queue.looks_again.store(false, Ordering::Release);
    }
}

/// Looks at an endpoint, and has done what is to be done about it.
fn look_at(fleet: &Arc<Fleet>, row: &EndpointRow) {
    let runtime = fleet.endpoints.of(&row.id);
    // Whoever starts or stops it will say how it is.
    let Some(turn) = runtime.turn.try_lock() else { return };
    let (seen, status) = observe(fleet, &row.id);
    if let Some(status) = status.filter(|status| status.state == State::Running)
        && let Err(error) = note_passwords(fleet, &row.id, &status)
    {
        tracing::warn!(endpoint = row.id, %error, "cannot note that its passwords are set");
    }
    // An earlier server may have asked it to stop, so that nobody waits for its end.
    let ended = seen.is_gone() && row.desired == Desired::Idle;
    if ended && runtime.observed().state == EndpointState::Init {
        runtime.note(EndpointState::Idle, None);
    }
    drop(turn);
    let action = plan::next(row.desired, seen);
    if action == Action::Nothing || !due(&runtime) || runtime.in_hand.swap(true, Ordering::AcqRel) {
        return;
    }
    fleet.queue.add(Due { row: row.clone(), action, seen });
    while let Some(due) = fleet.queue.next() {
        work_from(fleet, due);
    }
}

/// Does what is due on a thread of its own, and then what is next.
fn work_from(fleet: &Arc<Fleet>, due: Due) {
    let (own, id, project) = (Arc::clone(fleet), due.row.id.clone(), due.row.project_id.clone());
    let working = threads::spawn("reconcile", move || {
        let mut next = Some(due);
        while let Some(due) = next {
            act(&own, &due.row, due.action, due.seen);
            own.endpoints.of(&due.row.id).in_hand.store(false, Ordering::Release);
            own.queue.done(&due.row.project_id);
            next = own.queue.next();
        }
    });
    if let Err(error) = working {
        tracing::error!(endpoint = id, %error, "it waits for the next look");
        fleet.endpoints.of(&id).in_hand.store(false, Ordering::Release);
        fleet.queue.done(&project);
    }
}

fn due(runtime: &Runtime) -> bool {
    runtime.observed().retry_at.is_none_or(|at| at <= Instant::now())
}

fn act(fleet: &Fleet, row: &EndpointRow, action: Action, seen: Seen) {
    let _action = failpoint::at("reconcile");
    // A request that has it in hand may be starting it, or may have changed its mind since the look.
    let runtime = fleet.endpoints.of(&row.id);
    drop(runtime.turn.lock());
    if plan::is_done(action, observe(fleet, &row.id).0) {
        return;
    }
    let now = fleet.metadata.read(|connection| endpoint::find(connection, &row.id));
    if fleet.life.closing.load(Ordering::Acquire)
        || now.is_ok_and(|now| now.is_none_or(|now| now.desired != row.desired))
    {
        return;
    }
    tracing::info!(endpoint = row.id, ?action, ?seen, "reconcile");
    let result = match action {
        Action::Nothing => Ok(()),
        Action::Start => start_endpoint(fleet, row).map(|_| ()),
        Action::Stop => suspend_endpoint(fleet, row).map(|_| ()),
        Action::Remove => remove_endpoint(fleet, &row.id),
    };
    if let Err(error) = result {
        tracing::warn!(endpoint = row.id, ?action, %error, "reconcile failed");
    }
}

#[cfg(test)]
mod tests;
