//! How far the log of a branch has to be in the store before something begins at its head.
//!
//! What must hold: every commit that a client saw return is below what is answered here. So an endpoint that may hold
//! commits which the store has not seen is asked, or waited for while it stops; if it is gone, that is an error.

use std::time::{Duration, Instant};

use compute::control::{self, Answer};
use types::Lsn;

use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::endpoints::observe;
use crate::fleet::last_run::ended_clean;
use crate::limits::FLUSH_WITHIN;
use crate::metadata::branch::BranchRow;
use crate::metadata::endpoint::{self, Desired, EndpointRow};

/// Up to where the Postgres of a branch has flushed its WAL: every commit that a client saw return is below.
/// `None` if nothing runs on the branch and the store holds everything.
///
/// # Errors
/// `Unavailable` if an endpoint should run and does not answer: the store may lack what it committed last.
pub fn flushed_lsn(fleet: &Fleet, branch: &BranchRow) -> Result<Option<Lsn>> {
    let deadline = Instant::now() + FLUSH_WITHIN;
    let rows = || fleet.metadata.read(|connection| endpoint::of_branch(connection, &branch.id));
    let mut known = rows()?;
    loop {
        let flushed = flushed_lsn_of(fleet, branch, &known);
        // What was found is about this branch unless its endpoint was given to another meanwhile.
        let now = rows()?;
        let same = |a: &EndpointRow, b: &EndpointRow| (&a.id, a.desired) == (&b.id, b.desired);
        let moved = now.len() != known.len() || !now.iter().zip(&known).all(|(a, b)| same(a, b));
        known = now;
        if moved {
            continue;
        }
        match flushed? {
            Ok(flushed) => return Ok(flushed),
            Err(text) if Instant::now() > deadline => return Err(Error::unavailable(text)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Of one look; why not, if it may be known later.
fn flushed_lsn_of(
    fleet: &Fleet,
    branch: &BranchRow,
    rows: &[EndpointRow],
) -> Result<std::result::Result<Option<Lsn>, String>> {
    let clean = |row: &EndpointRow| ended_clean(&fleet.dir.endpoint(&row.id), &branch.store_id);
    let unfinished = |row: &&EndpointRow| row.desired == Desired::Active || !clean(row);
    let name = &branch.name;
    let Some(row) = rows.iter().find(unfinished) else { return Ok(Ok(None)) };
    let socket = compute::control_socket(&fleet.dir.endpoint(&row.id));
    let reason = match control::ask(&socket, control::Command::FlushLsn, FLUSH_WITHIN) {
        Ok(Answer::FlushLsn(text)) => {
            let lsn = text.parse().map_err(|error| Error::internal(format!("{error}")))?;
            return Ok(Ok(Some(lsn)));
        }
        Ok(answer) => format!("{answer:?}"),
        Err(error) => error.to_string(),
    };
    if row.desired == Desired::Idle {
        // In this order, as it may end in between.
        let gone = observe(fleet, &row.id).0.is_gone();
        if clean(row) {
            return Ok(Ok(None));
        }
        if gone {
            let text = format!("endpoint {} of branch {name} did not end cleanly", row.id);
            let hint = "hint: start it, which brings what it wrote last to the store";
            return Err(Error::unavailable(format!("{text}\n{hint}")));
        }
    }
    let hint = "hint: its last commits may not be in the store yet; try again when it runs";
    Ok(Err(format!("endpoint {} of branch {name} does not answer: {reason}\n{hint}", row.id)))
}
