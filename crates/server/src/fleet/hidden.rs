//! A hidden branch with an endpoint of its own, for one question: what does a branch look like at its head, at a
//! position or at a time?
//!
//! What must hold: whoever starts one has a permit for it (`machine::permits`), which is given back when all of it is gone.
//!
//! It has no row. So nobody sees it, the reconciler leaves it alone, and after a crash `recover` finds a branch in a store
//! and a directory of an endpoint that no row knows, and removes both. Otherwise dropping it does.

use std::sync::atomic::Ordering;
use std::time::Instant;

use store::BranchPoint;
use types::BranchId;

use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::endpoints::{launch, remove_endpoint_files, stop_endpoint};
use crate::fleet::sessions::at;
use crate::limits::REAPED_WITHIN;
use crate::machine::permits::Permit;
use crate::machine::sql::Client;
use crate::metadata::branch::BranchRow;
use crate::metadata::endpoint::{Desired, EndpointRow};
use crate::storage::sweep::sweep_after;
use crate::storage::unborn::Making;
use crate::{clock, names};

/// A running hidden endpoint. Everything of it ends with it.
pub struct Hidden<'a> {
    fleet: &'a Fleet,
    row: EndpointRow,
    /// Keeps its branch from being swept.
    making: Option<Making<'a>>,
    origin: (BranchRow, BranchPoint),
    _permit: Permit,
}

/// A permit for a hidden endpoint of a project.
///
/// # Errors
/// `Unavailable` if none is to be had in time.
pub fn hidden_permit(fleet: &Fleet, project: &str) -> Result<Permit> {
    fleet.hidden_servers.take(project, 1)
}

/// Starts a hidden endpoint with these options on branch `data` of the store, which was made of `origin` and ends with
/// it if it has the `making` of that.
///
/// # Errors
/// Those of starting an endpoint; `Unavailable` while the server is being stopped.
pub fn start_hidden<'a>(
    fleet: &'a Fleet,
    data: &BranchId,
    origin: (BranchRow, BranchPoint),
    options: &str,
    (making, permit): (Option<Making<'a>>, Permit),
) -> Result<Hidden<'a>> {
    let now_us = clock::now_us();
    let row = EndpointRow {
        id: names::endpoint_id()?,
        project_id: origin.0.project_id.clone(),
        branch_id: data.to_string(),
        port: crate::fleet::ports::HIDDEN,
        read_only: false,
        desired: Desired::Active,
        options: options.to_owned(),
        tried: None,
        started_us: None,
        suspended_us: None,
        created_us: now_us,
        updated_us: now_us,
    };
    let started = Hidden { fleet, row, making, origin, _permit: permit };
    {
        // Whoever stops the server looks for hidden ones after it said so.
        let mut hidden = fleet.hidden.lock();
        if fleet.life.closing.load(Ordering::Acquire) {
            drop(hidden);
            return Err(Error::unavailable("the server is being stopped"));
        }
        hidden.insert(started.row.id.clone(), started.row.clone());
    }
    let runtime = fleet.endpoints.of(&started.row.id);
    let _turn = runtime.turn.lock();
    launch(fleet, &started.row, &runtime)?;
    Ok(started)
}

impl<'a> Hidden<'a> {
    /// Its endpoint; no row of the metadata.
    pub fn endpoint(&self) -> &EndpointRow {
        &self.row
    }

    /// The branch it was made of, as that was then, and where.
    pub fn origin(&self) -> (BranchRow, BranchPoint) {
        self.origin.clone()
    }

    /// Ends it and keeps its data with all that was written on it; what the store calls that.
    ///
    /// # Errors
    /// `Unavailable` if what was written could not be brought to the store.
    pub fn keep(mut self) -> Result<(String, Option<Making<'a>>)> {
        stop_endpoint(self.fleet, &self.row)?;
        Ok((self.row.branch_id.clone(), self.making.take()))
    }

    /// Connects as superuser to a database.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Address::connect`].
    pub fn connect(&self, database: &str) -> Result<Client> {
        at(self.fleet, &self.row, |address| address.connect(database))
    }

    /// Connects as superuser, for what all databases share.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Address::connect_any`].
    pub fn connect_any(&self) -> Result<Client> {
        at(self.fleet, &self.row, |address| address.connect_any())
    }

    /// Connects as `role`.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Address::connect_as`].
    pub fn connect_as(&self, database: &str, role: &str) -> Result<Client> {
        at(self.fleet, &self.row, |address| address.connect_as(database, role))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let began = Instant::now();
        let (fleet, row) = (self.fleet, &self.row);
        // Nothing on it is worth keeping, so it is killed.
        let files = remove_endpoint_files(fleet, &row.id);
        fleet.endpoints.of(&row.id).reap(REAPED_WITHIN);
        fleet.endpoints.forget(&row.id);
        fleet.hidden.lock().remove(&row.id);
        if let Err(error) = files {
            tracing::error!(endpoint = row.id, %error, "cannot remove a hidden endpoint; the next start will");
        }
        // With it goes what was only kept because it began there.
        drop(self.making.take());
        sweep_after(&fleet.storage, &row.project_id);
        tracing::debug!(endpoint = row.id, ms = began.elapsed().as_millis(), "hidden endpoint removed");
    }
}
