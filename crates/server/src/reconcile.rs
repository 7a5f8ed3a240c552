//! The loop that makes what is be what should be: a look at every endpoint, once a second and whenever a compute ends.
//!
//! Dead computes are started again, later and later when that keeps failing; what should be gone is removed. Slow
//! actions run on threads of their own, so that one endpoint never delays the look at another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::endpoint::EndpointState;
use compute::control::State;

use crate::failpoint;
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::plan::{self, Action, Seen};
use crate::runtime::Runtime;
use crate::state::Server;
use crate::threads;

const EVERY: Duration = Duration::from_secs(1);

/// Runs until the process ends.
pub fn run(server: &Arc<Server>) {
    server.again_and_again(
        || server.bell.sleep(EVERY),
        || {
            pass(server);
            server.keys.write_uses_if_due(&server.metadata);
        },
    );
}

/// One look at every endpoint.
pub fn pass(server: &Arc<Server>) {
    let rows = match server.metadata.read(endpoint::all) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "cannot list endpoints");
            return;
        }
    };
    for row in rows {
        let runtime = server.endpoints.of(&row.id);
        // Whoever starts or stops it will say how it is.
        let Some(turn) = runtime.turn.try_lock() else { continue };
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
            continue;
        }
        let (server, in_hand) = (Arc::clone(server), Arc::clone(&runtime));
        let acting = threads::spawn("reconcile", move || {
            act(&server, &row, action, seen);
            in_hand.in_hand.store(false, Ordering::Release);
        });
        if let Err(error) = acting {
            tracing::error!(%error, "an endpoint waits for the next look");
            runtime.in_hand.store(false, Ordering::Release);
        }
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
