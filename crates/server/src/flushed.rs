//! How far the log of a branch has to be in the store before something begins at its head.
//!
//! What must hold: every commit that a client saw return is below what is answered here. So an endpoint that may hold
//! commits which the store has not seen is asked, or waited for while it stops; if it is gone, that is an error.

use std::time::{Duration, Instant};

use compute::control::{self, Answer};
use types::Lsn;

use crate::error::{Error, Result};
use crate::last_run::ended_clean;
use crate::metadata::branch::BranchRow;
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::plan::Seen;
use crate::state::Server;

/// How long the flush position of an endpoint that is restarting is waited for.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);

impl Server {
    /// Up to where the Postgres of a branch has flushed its WAL: every commit that a client saw return is below.
    /// `None` if nothing runs on the branch and the store holds everything.
    ///
    /// # Errors
    /// 503 if an endpoint should run and does not answer: the store may lack what it committed last.
    pub fn flushed_lsn(&self, branch: &BranchRow) -> Result<Option<Lsn>> {
        loop {
            let rows = self.metadata.read(|connection| endpoint::of_branch(connection, &branch.id))?;
            let flushed = self.flushed_lsn_of(branch, &rows)?;
            // What was answered is about this branch unless its endpoint was given to another meanwhile.
            let now = self.metadata.read(|connection| endpoint::of_branch(connection, &branch.id))?;
            let same = |row: &EndpointRow| now.iter().any(|now| now.id == row.id);
            if now.len() == rows.len() && rows.iter().all(same) {
                return Ok(flushed);
            }
        }
    }

    fn flushed_lsn_of(&self, branch: &BranchRow, rows: &[EndpointRow]) -> Result<Option<Lsn>> {
        let clean = |row: &EndpointRow| ended_clean(&self.dir.endpoint(&row.id), &branch.store_id);
        let unfinished = |row: &&EndpointRow| row.desired == Desired::Active || !clean(row);
        let name = &branch.name;
        let Some(row) = rows.iter().find(unfinished) else { return Ok(None) };
        let socket = compute::control_socket(&self.dir.endpoint(&row.id));
        let deadline = Instant::now() + FLUSH_WITHIN;
        loop {
            let reason = match control::ask(&socket, control::Command::FlushLsn, FLUSH_WITHIN) {
                Ok(Answer::FlushLsn(text)) => {
                    let lsn = text.parse().map_err(|error| Error::internal(format!("{error}")))?;
                    return Ok(Some(lsn));
                }
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error.to_string(),
            };
            if row.desired == Desired::Idle {
                // In this order, as it may end in between.
                let gone = matches!(self.look(&row.id).0, Seen::Dead | Seen::Unknown);
                if clean(row) {
                    return Ok(None);
                }
                if gone {
                    let text = format!("endpoint {} of branch {name} did not end cleanly", row.id);
                    let hint = "hint: start it, which brings what it wrote last to the store";
                    return Err(Error::unavailable(format!("{text}\n{hint}")));
                }
            }
            if Instant::now() > deadline {
                let hint = "hint: its last commits may not be in the store yet; try again when it runs";
                let text = format!("endpoint {} of branch {name} does not answer: {reason}\n{hint}", row.id);
                return Err(Error::unavailable(text));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
