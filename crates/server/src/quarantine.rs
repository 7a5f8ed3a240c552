//! Which starts put to rest what a branch inherited, and the record of what they found.
//!
//! What must hold
//! - A branch is put to rest before its first client, and once: what its user switches on again stays on.
//! - Other data is other inheritance: a restored branch is put to rest again (`restore`).
//!
//! Not here: what is put to rest and how (`compute`), the rows (`metadata::quarantine`).

use std::sync::atomic::Ordering;

use compute::Admission;
use rusqlite::Connection;

use crate::clock;
use crate::endpoints::Runtime;
use crate::error::Result;
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::quarantine;
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
