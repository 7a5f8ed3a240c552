//! Roles that may replicate an endpoint of a project that is enabled for it.
//!
//! As in Neon, those are the roles that scion makes. They are known by what they may do, all that a role without
//! superuser can: so it does not matter when a role was made, on which branch, or by which scion.
//!
//! Not here: what lets them in (`config`).

use crate::sql::pg_client::PgError;
use crate::sql::session::Own;

const ALLOW: &str = "UPDATE pg_catalog.pg_authid SET rolreplication = true \
                     WHERE rolcanlogin AND rolcreatedb AND rolcreaterole AND rolbypassrls \
                     AND NOT rolsuper AND NOT rolreplication RETURNING rolname";

/// Allows replication to each of them that is not allowed it; their names.
///
/// # Errors
/// Those of its session; doing it again is harmless.
pub fn allow(own: &Own<'_>) -> Result<Vec<String>, PgError> {
    let rows = own.connect_any()?.command(ALLOW)?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
