//! The end of the server with its endpoints.
//!
//! What must hold: if it fails, the server goes on as before.

use std::sync::atomic::Ordering;

use crate::control::Control;
use crate::error::Result;
use crate::fleet::endpoints::{remove_endpoint_files, stop_at_shutdown};
use crate::limits::STOPS_AT_ONCE;
use crate::machine::threads;
use crate::metadata::endpoint::{self, Desired};

/// Stops what runs, many at once, and starts nothing any more. What was wanted stays as it is: the next server starts it
/// again.
///
/// # Errors
/// Those of SQLite; then endpoints are started as before.
pub fn stop_endpoints(control: &Control) -> Result<()> {
    control.life.closing.store(true, Ordering::Release);
    let stopped = stop_all(control);
    if stopped.is_err() {
        control.life.closing.store(false, Ordering::Release);
    }
    stopped
}

fn stop_all(control: &Control) -> Result<()> {
    let rows = control.metadata.read(endpoint::all)?;
    let hidden: Vec<String> = control.fleet.hidden.lock().keys().cloned().collect();
    for id in hidden {
        if let Err(error) = remove_endpoint_files(&control.fleet, &id) {
            tracing::error!(endpoint = id, %error, "cannot remove a hidden endpoint; the next start will");
        }
    }
    let run: Vec<_> = rows.into_iter().filter(|row| row.desired != Desired::Gone).collect();
    threads::each(&run, STOPS_AT_ONCE, |row| stop_at_shutdown(&control.fleet, row));
    Ok(())
}
