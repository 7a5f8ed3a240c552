//! Sessions of scion's own on endpoints that run.
//!
//! Not here: what a session is and what it does not trust (`machine::sql`).

use crate::error::Result;
use crate::fleet::Fleet;
use crate::machine::sql::{Address, Client};
use crate::metadata::endpoint::EndpointRow;

/// Does `work` where the Postgres of an endpoint can be reached.
///
/// # Errors
/// Those of opening the store, and of `work`.
pub fn at<T>(fleet: &Fleet, row: &EndpointRow, work: impl FnOnce(&Address<'_>) -> Result<T>) -> Result<T> {
    let (dir, major) = (fleet.dir.endpoint(&row.id), fleet.storage.major(&row.project_id)?);
    work(&Address { dir: &dir, port: row.port, major })
}

/// A session of the superuser of an endpoint that runs.
///
/// # Errors
/// `Unavailable` if it does not answer.
pub fn connect_any(fleet: &Fleet, row: &EndpointRow) -> Result<Client> {
    at(fleet, row, |address| address.connect_any())
}
