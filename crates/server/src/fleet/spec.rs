//! What the process of an endpoint is told: its branch, port, user, settings, and whom it lets in.
//!
//! What must hold
//! - A user of the operating system is of one project for as long as that exists.
//! - A setting that an older scion took and that may not be given is left out.
//!
//! Not here: what the process does with it (`compute`), what may be set (`machine::settings`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::endpoint::EndpointOptions;
use serde_json::{Map, Value};

use crate::clock;
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::fleet::Fleet;
use crate::fleet::ports::{is_free_within, reserve_port};
use crate::fleet::quarantine::{admission, due_passwords};
use crate::limits::PORT_WITHIN;
use crate::machine::data_dir::write_whole;
use crate::machine::sql::SUPERUSER;
use crate::machine::{settings, users};
use crate::metadata::endpoint::{self, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{branch, project};

/// How often another user is drawn if a number is taken.
const DRAWS: u32 = 16;

/// Writes what the process of an endpoint is told into its directory; the file.
///
/// # Errors
/// Those of SQLite, of the store and of the file system; `Unavailable` without an installation of its major or a free port.
pub fn write_spec(
    fleet: &Fleet,
    row: &EndpointRow,
    store_id: String,
    dir: &Path,
) -> Result<std::path::PathBuf> {
    let port = port_of(fleet, row)?;
    let major = fleet.storage.major(&row.project_id)?;
    let pg_bin = fleet.postgres.bin(major)?;
    let spec = compute::EndpointSpec {
        project: row.project_id.clone(),
        branch: store_id,
        endpoint: row.id.clone(),
        dir: dir.to_owned(),
        serve_socket: fleet.dir.serve_socket(),
        pg_bin: pg_bin.to_owned(),
        port,
        run_as: user_of(fleet, &row.project_id)?,
        reaches: fleet.launch.postgres_paths.clone(),
        owner_extensions: fleet.launch.owner_extensions.clone(),
        superuser: SUPERUSER.to_owned(),
        admission: admission(fleet, row)?,
        passwords: due_passwords(fleet, row)?,
        tls: fleet.postgres.offers_tls(major).then(|| fleet.launch.tls.clone()),
        read_only: row.read_only,
        logical: fleet
            .metadata
            .read(|connection| project::replicates_logically(connection, &row.project_id))?,
        settings: in_force(row.tried.as_deref().unwrap_or(&row.options), &fleet.launch.postgres_paths),
    };
    let text = serde_json::to_vec_pretty(&spec).map_err(|error| Error::internal(error.to_string()))?;
    let path = dir.join("spec.json");
    write_whole(&path, &text, 0o600)?;
    failpoint::tried(Step::SpecWritten)?;
    Ok(path)
}

/// What the store calls the branch of an endpoint.
///
/// # Errors
/// `NotFound` if the branch is gone; those of SQLite.
pub fn store_id(fleet: &Fleet, row: &EndpointRow) -> Result<String> {
    if fleet.hidden.lock().contains_key(&row.id) {
        return Ok(row.branch_id.clone());
    }
    let found =
        fleet.metadata.read(|connection| branch::find(connection, &row.project_id, &row.branch_id))?;
    found.map(|branch| branch.store_id).ok_or_else(|| Error::not_found("branch", &row.branch_id))
}

/// The port that an endpoint listens on from now on: its own, unless something else does. A hidden one listens on none.
fn port_of(fleet: &Fleet, row: &EndpointRow) -> Result<u16> {
    if fleet.hidden.lock().contains_key(&row.id) || is_free_within(row.port, PORT_WITHIN) {
        return Ok(row.port);
    }
    let now_us = clock::now_us();
    let moved = OperationRow::begun(Action::ApplyConfig, &row.project_id, &row.branch_id, now_us)?;
    let port = fleet.metadata.write(|change| {
        let other = reserve_port(change)?;
        endpoint::set_port(change, &row.id, other)?;
        let reason = format!("another process listens on port {}", row.port);
        let detail = serde_json::json!({ "port": { "old": row.port, "new": other, "reason": reason } });
        let moved = OperationRow { detail: Some(detail.to_string()), ..moved };
        operation::put(change, &moved.about_endpoint(&row.id).ended(None)).map(|()| other)
    })?;
    tracing::warn!(endpoint = row.id, old = row.port, new = port, "port is taken, using another");
    Ok(port)
}

/// User and group that the Postgres of a project runs as; `None` is this process's own.
///
/// # Errors
/// Those of SQLite; `Internal` without random numbers.
pub fn user_of(fleet: &Fleet, project: &str) -> Result<Option<(u32, u32)>> {
    if !fleet.postgres.own_users {
        return Ok(fleet.postgres.run_as);
    }
    if let Some(user) = fleet.metadata.read(|connection| project::os_user(connection, project))? {
        return Ok(Some((user, user)));
    }
    for _ in 0..DRAWS {
        let user = users::FIRST + drawn()? % users::COUNT;
        if fleet.metadata.write(|change| project::claim_os_user(change, project, user))? {
            return Ok(Some((user, user)));
        }
    }
    Err(Error::internal(format!("no free user for project {project}")))
}

fn drawn() -> Result<u32> {
    getrandom::u32().map_err(|error| Error::internal(format!("random numbers: {error}")))
}

/// The settings that Postgres is started with: what an older scion took and may not be given is left out.
pub fn in_force(options: &str, paths: &[PathBuf]) -> BTreeMap<String, String> {
    let mut settings = pg_settings(options);
    settings.retain(|name, value| {
        let why = settings::never(name).or_else(|| settings::library_by_path(name, value, paths));
        if let Some(why) = &why {
            tracing::warn!(name, why, "a setting of an endpoint is left out");
        }
        why.is_none()
    });
    settings
}

/// The settings of Postgres in what is kept of an endpoint's options, as text.
pub fn pg_settings(options: &str) -> BTreeMap<String, String> {
    let options: EndpointOptions = serde_json::from_str(options).unwrap_or_default();
    settings_of(&options).iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The settings of Postgres in the options of an endpoint, as they were sent.
pub fn settings_of(options: &EndpointOptions) -> Map<String, Value> {
    let settings = options.settings.as_ref().and_then(|settings| settings.get("pg_settings"));
    let settings = settings.and_then(Value::as_object).cloned().unwrap_or_default();
    // To Postgres the case of a name is nothing.
    settings.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// A value as Postgres reads it.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
