//! What a start does before the first client is let in, and the record of it: what a branch inherited is put to rest, and
//! its roles get the passwords that its data does not have.
//!
//! What must hold
//! - A branch is put to rest before its first client, and once: what its user switches on again stays on.
//! - Other data is other inheritance: a restored branch is put to rest again (`restore`).
//!
//! Not here: what is put to rest and how (`compute`), the rows (`metadata::quarantine`, `metadata::password`).

use std::sync::atomic::Ordering;

use compute::control::Status;
use compute::{Admission, Passwords};
use rusqlite::Connection;

use crate::clock;
use crate::endpoints::Runtime;
use crate::error::{Error, Result};
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{password, quarantine};
use crate::state::Server;

impl Server {
    /// Who is let in: nobody to a hidden endpoint, everybody to a branch that was put in quarantine once.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn admission(&self, row: &EndpointRow) -> Result<Admission> {
        if self.temporaries.lock().contains_key(&row.id) {
            return Ok(Admission::Nobody);
        }
        let due = self.metadata.read(|connection| quarantine::is_due(connection, &row.branch_id))?;
        Ok(if due { Admission::AfterQuarantine } else { Admission::Everybody })
    }

    /// The passwords that a start has to set.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn due_passwords(&self, row: &EndpointRow) -> Result<Passwords> {
        if self.temporaries.lock().contains_key(&row.id) {
            return Ok(Passwords::default());
        }
        let due = self.metadata.read(|connection| {
            // A finalized restore gives it to another branch.
            let now = endpoint::find(connection, &row.id)?.map(|now| now.branch_id);
            password::due(connection, now.as_ref().unwrap_or(&row.branch_id))
        })?;
        Ok(Passwords { verifiers: due.verifiers.into_iter().collect(), no_others: due.foreign })
    }

    /// Notes that the passwords that were due on the branch of an endpoint are in its log. The caller holds its turn.
    ///
    /// # Errors
    /// Those of SQLite; then the next look or start tries again.
    pub fn settle_passwords(&self, id: &str, status: &Status) -> Result<()> {
        let Some(since) = &status.passwords_since else { return Ok(()) };
        let since = since.parse().map_err(|_| Error::internal(format!("no position: {since}")))?;
        let due_on = self.metadata.read(|connection| {
            let Some(row) = endpoint::find(connection, id)? else { return Ok(None) };
            let due = password::due(connection, &row.branch_id)?;
            Ok(Some(row.branch_id).filter(|_| due != password::Due::default()))
        })?;
        due_on.map_or(Ok(()), |branch| self.metadata.write(|change| password::settle(change, &branch, since)))
    }

    /// Keeps what the start of an endpoint put to rest, once.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn settle_quarantine(&self, change: &Connection, row: &EndpointRow) -> Result<()> {
        let Some(found) = self.endpoints.of(&row.id).observed().quarantine else { return Ok(()) };
        let now_us = clock::now_us();
        if !quarantine::settle(change, &row.branch_id, now_us)? || found.is_empty() {
            return Ok(());
        }
        tracing::info!(branch = row.branch_id, ?found, "quarantine");
        let mut done = OperationRow::begun(Action::ApplyConfig, &row.project_id, &row.branch_id, now_us)?;
        done.detail = Some(serde_json::json!({ "quarantine": found }).to_string());
        operation::put(change, &done.about_endpoint(&row.id).ended(None))
    }

    /// The same, of an endpoint that was started for a server that ended before it could.
    pub fn settle_adopted(&self, id: &str, runtime: &Runtime) {
        if runtime.observed().quarantine.is_none() || runtime.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        let settled = self.metadata.write(|change| {
            endpoint::find(change, id)?.map_or(Ok(()), |row| self.settle_quarantine(change, &row))
        });
        if let Err(error) = settled {
            runtime.settled.store(false, Ordering::Release);
            tracing::warn!(endpoint = id, %error, "cannot note a quarantine");
        }
    }
}
