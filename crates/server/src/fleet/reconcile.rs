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

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use api::endpoint::EndpointState;
use compute::control::State;
use parking_lot::Mutex;

use crate::failpoint;
use crate::fleet::plan::{self, Action, Seen};
use crate::fleet::runtime::Runtime;
use crate::limits::{LOOKS_AT_ONCE, RECONCILED_AT_ONCE, RECONCILED_EVERY, RECONCILED_OF_PROJECT};
use crate::machine::threads;
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::state::Server;

/// What is to be done, each endpoint once at most: it is `in_hand` from then on until that is done.
#[derive(Default)]
pub struct Queue {
    queued: Mutex<Queued>,
    /// Whether those that did not answer are being looked at again.
    looks_again: AtomicBool,
}

#[derive(Default)]
struct Queued {
    waiting: VecDeque<Due>,
    /// How many threads work for each project.
    working: HashMap<String, usize>,
}

/// An endpoint about which something is to be done.
struct Due {
    row: EndpointRow,
    action: Action,
    seen: Seen,
}

impl Queue {
    fn add(&self, due: Due) {
        self.queued.lock().waiting.push_back(due);
    }

    /// The first whose project has room, if there is room; its project is worked for until that is `done`.
    fn next(&self) -> Option<Due> {
        let mut queued = self.queued.lock();
        if queued.working.values().sum::<usize>() >= RECONCILED_AT_ONCE {
            return None;
        }
        let room = |due: &Due| {
            queued.working.get(&due.row.project_id).is_none_or(|working| *working < RECONCILED_OF_PROJECT)
        };
        let at = queued.waiting.iter().position(room)?;
        let due = queued.waiting.remove(at)?;
        *queued.working.entry(due.row.project_id.clone()).or_default() += 1;
        Some(due)
    }

    fn done(&self, project: &str) {
        let mut queued = self.queued.lock();
        if let Some(working) = queued.working.get_mut(project) {
            *working -= 1;
            if *working == 0 {
                queued.working.remove(project);
            }
        }
    }
}

/// Runs until the process ends.
pub fn run(server: &Arc<Server>) {
    server.again_and_again(
        || server.bell.sleep(RECONCILED_EVERY),
        || {
            pass(server);
            server.keys.write_uses_if_due(&server.metadata);
        },
    );
}

/// One look at every endpoint. It waits for none that did not answer the last one.
pub fn pass(server: &Arc<Server>) {
    let rows = match server.metadata.read(endpoint::all) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "cannot list endpoints");
            return;
        }
    };
    let silent = |row: &EndpointRow| server.endpoints.of(&row.id).silent.load(Ordering::Acquire);
    let (silent, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(silent);
    look_again(server, silent);
    threads::each(&others, LOOKS_AT_ONCE, |row| look_at(server, row));
}

/// Looks again at those that did not answer, beside the passes. While it does, they are not looked at otherwise.
fn look_again(server: &Arc<Server>, rows: Vec<EndpointRow>) {
    if rows.is_empty() || server.queue.looks_again.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = Arc::clone(server);
    let looking = threads::spawn("reconcile silent", move || {
        threads::each(&rows, LOOKS_AT_ONCE, |row| look_at(&own, row));
        own.queue.looks_again.store(false, Ordering::Release);
    });
    if let Err(error) = looking {
        tracing::error!(%error, "endpoints that do not answer wait for the next look");
        server.queue.looks_again.store(false, Ordering::Release);
    }
}

/// Looks at an endpoint, and has done what is to be done about it.
fn look_at(server: &Arc<Server>, row: &EndpointRow) {
    let runtime = server.endpoints.of(&row.id);
    // Whoever starts or stops it will say how it is.
    let Some(turn) = runtime.turn.try_lock() else { return };
    let (seen, status) = server.look(&row.id);
    if let Some(status) = status.filter(|status| status.state == State::Running)
        && let Err(error) = server.settle_passwords(&row.id, &status)
    {
        tracing::warn!(endpoint = row.id, %error, "cannot note that its passwords are set");
    }
    // An earlier server may have asked it to stop, so that nobody waits for its end.
    let ended = matches!(seen, Seen::Dead | Seen::Unknown) && row.desired == Desired::Idle;
    if ended && runtime.observed().state == EndpointState::Init {
        runtime.note(EndpointState::Idle, None);
    }
    drop(turn);
    let action = plan::next(row.desired, seen);
    if action == Action::Nothing || !due(&runtime) || runtime.in_hand.swap(true, Ordering::AcqRel) {
        return;
    }
    server.queue.add(Due { row: row.clone(), action, seen });
    while let Some(due) = server.queue.next() {
        work_from(server, due);
    }
}

/// Does what is due on a thread of its own, and then what is next.
fn work_from(server: &Arc<Server>, due: Due) {
    let (own, id, project) = (Arc::clone(server), due.row.id.clone(), due.row.project_id.clone());
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
        server.endpoints.of(&id).in_hand.store(false, Ordering::Release);
        server.queue.done(&project);
    }
}

fn due(runtime: &Runtime) -> bool {
    runtime.observed().retry_at.is_none_or(|at| at <= Instant::now())
}

fn act(server: &Server, row: &EndpointRow, action: Action, seen: Seen) {
    let _action = failpoint::at("reconcile");
    // A request that has it in hand may be starting it, or may have changed its mind since the look.
    let runtime = server.endpoints.of(&row.id);
    drop(runtime.turn.lock());
    match (action, server.look(&row.id).0) {
        (Action::Start, Seen::Alive) | (Action::Stop, Seen::Dead | Seen::Unknown) => return,
        _ => {}
    }
    let now = server.metadata.read(|connection| endpoint::find(connection, &row.id));
    if server.closing.load(Ordering::Acquire)
        || now.is_ok_and(|now| now.is_none_or(|now| now.desired != row.desired))
    {
        return;
    }
    tracing::info!(endpoint = row.id, ?action, ?seen, "reconcile");
    let result = match action {
        Action::Nothing => Ok(()),
        Action::Start => server.start_endpoint(row).map(|_| ()),
        Action::Stop => server.suspend_endpoint(row).map(|_| ()),
        Action::Remove => server.remove_endpoint(&row.id),
    };
    if let Err(error) = result {
        tracing::warn!(endpoint = row.id, ?action, %error, "reconcile failed");
    }
}

#[cfg(test)]
mod tests;
