//! The replication slots of an endpoint's Postgres, none of which outlives it: a stop or a restart drops them, and who
//! subscribes by one misses what was written since.
//!
//! Not here: the slot that scion ships the log by (`compute`), which every start makes anew.

use api::endpoint::ReplicationSlot;

use crate::control::Control;
use crate::error::Result;
use crate::fleet::endpoints::runs;
use crate::fleet::sessions::connect_any;
use crate::metadata::endpoint;

/// Slots that somebody made to last. Physical ones of standbys among them.
const SLOTS: &str = "SELECT slot_name::text, slot_type, plugin::text, database::text, active FROM pg_replication_slots \
                     WHERE NOT temporary AND slot_name <> 'scion' ORDER BY slot_name";

/// Slots that a stop of the endpoint would drop now; none if it does not run.
///
/// # Errors
/// `NotFound` without such an endpoint; those of its Postgres.
pub fn replication_slots(control: &Control, project: &str, id: &str) -> Result<Vec<ReplicationSlot>> {
    let row = control.metadata.read(|connection| endpoint::get(connection, project, id))?;
    if !runs(&control.fleet, id) {
        return Ok(Vec::new());
    }
    let rows = connect_any(&control.fleet, &row)?.query(SLOTS, &[])?;
    let slot = |row: &tokio_postgres::Row| ReplicationSlot {
        slot_name: row.get(0),
        slot_type: row.get(1),
        plugin: row.get(2),
        database: row.get(3),
        active: row.get(4),
    };
    Ok(rows.iter().map(slot).collect())
}
