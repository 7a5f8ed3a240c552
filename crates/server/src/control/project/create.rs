//! Projects: create and change.
//!
//! A project is visible once its first endpoint runs. Until then its row says `creating`, and whatever fails, or a
//! crash, removes all of it.

use std::collections::BTreeMap;
use std::fs;

use api::endpoint::{BranchEndpointCreate, EndpointOptions, EndpointType};
use api::project::{ProjectCreate, ProjectUpdate};
use store::ClusterImport;

use crate::clock;
use crate::control::Control;
use crate::control::endpoint::options::{self, restart};
use crate::control::endpoint::trial::{check_given, check_settings, check_settings_of};
use crate::control::project::delete::remove_project;
use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::fleet::endpoints::start_endpoint;
use crate::fleet::hidden::hidden_permit;
use crate::limits::{HISTORY_RETENTION_MAX_S, HISTORY_RETENTION_S};
use crate::machine::postgres::Owner;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::project::{self, ProjectRow};
use crate::metadata::role;
use crate::metadata::secret::Secret;
use crate::names::{self, parse_branch};

/// A project that was made.
#[derive(Debug)]
pub struct Created {
    /// Its row.
    pub project: ProjectRow,
    /// Its root branch.
    pub branch: BranchRow,
    /// The endpoint of that.
    pub endpoint: EndpointRow,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// Names in a new project.
struct First {
    branch: String,
    role: String,
    database: String,
    secret: Secret,
}

/// Makes a project and starts its root branch.
///
/// # Errors
/// `Malformed` for a request that cannot be done; `Unavailable` and `DiskFull` for what failed. Then nothing is left of it.
pub fn create_project(control: &Control, request: &ProjectCreate) -> Result<Created> {
    let first = check_request(request)?;
    let row = new_row(request, control.postgres.choose(request.pg_version)?)?;
    check_given(control, row.pg_version, &defaults(&row)?)?;
    let _held = control.locks.take(&[&row.id])?;
    // To `GET /status` only: the project is not there yet, and if that fails it never was.
    let root = names::branch_id()?;
    let begun = OperationRow::begun(Action::CreateTimeline, &row.id, &root, row.created_us)?;
    let _shown = control.operations.show(&begun);
    control.metadata.write(|change| project::put(change, &row))?;
    let created = fill_project(control, row.clone(), &root, begun, &first);
    created.inspect_err(|error| {
        tracing::warn!(project = row.id, %error, "project not created");
        if let Err(error) = remove_project(control, &row.id) {
            tracing::error!(project = row.id, %error, "cannot undo a project; the next start will");
        }
    })
}

fn fill_project(
    control: &Control,
    mut row: ProjectRow,
    root: &str,
    begun: OperationRow,
    first: &First,
) -> Result<Created> {
    import_cluster(control, &row, root, first)?;
    let branch = root_row(&row, root, &first.branch);
    let wanted = BranchEndpointCreate { kind: EndpointType::ReadWrite, options: EndpointOptions::default() };
    let (endpoint, ended) = control.metadata.write(|change| {
        branch::insert(change, &branch)?;
        role::insert_role(change, &branch.id, &first.role, &first.secret, branch.created_us)?;
        role::insert_database(change, &branch.id, &first.database, &first.role, branch.created_us)?;
        let endpoint = crate::control::endpoint::create::insert_endpoint(change, &branch, None, &wanted)?;
        let ended = begun.ended(None);
        operation::put(change, &ended)?;
        Ok((endpoint, ended))
    })?;
    let started = start_endpoint(&control.fleet, &endpoint)?;
    row.state = project::READY.to_owned();
    control.metadata.write(|change| project::put(change, &row))?;
    tracing::info!(project = row.id, "project created");
    Ok(Created { project: row, branch, endpoint, operations: vec![ended, started] })
}

/// Makes a cluster, takes it into a new store, and removes it.
fn import_cluster(control: &Control, row: &ProjectRow, root: &str, first: &First) -> Result<()> {
    let project = &row.id;
    let data_dir = control.dir.bootstrap(project);
    let owner = Owner { role: &first.role, verifier: &first.secret.verifier, database: &first.database };
    let permit = hidden_permit(&control.fleet, project)?;
    control.postgres.make_cluster(row.pg_version, &data_dir, &owner)?;
    drop(permit);
    let settings = defaults(row)?;
    if !settings.is_empty() {
        let file = data_dir.join("global/pg_control");
        let pg_control = fs::read(&file).map_err(Error::io(format!("read {}", file.display())))?;
        check_settings_of(control, (project, row.pg_version), &settings, &pg_control)?;
    }
    let import = ClusterImport { data_dir: data_dir.clone(), root: parse_branch(root)? };
    let store =
        store::Project::create_with(&control.dir.project(project), &import, control.storage.options.clone())?;
    control.storage.put(project, store);
    failpoint::tried(Step::StoreMade)?;
    fs::remove_dir_all(&data_dir).map_err(Error::io(format!("remove {}", data_dir.display())))?;
    failpoint::tried(Step::ClusterRemoved)?;
    Ok(())
}

/// Changes a project; what was done for that. Its endpoints that run are restarted if they are to be ready for logical
/// replication from now on.
///
/// # Errors
/// `NotFound` if it does not exist, `Refused` if logical replication is to be switched off; `Malformed` and
/// `Refused` for settings that new endpoints cannot have.
pub fn update_project(
    control: &Control,
    id: &str,
    update: &ProjectUpdate,
) -> Result<(ProjectRow, Vec<OperationRow>)> {
    let begun = OperationRow::begun_in(Action::UpdateProject, id, clock::now_us())?;
    control.operations.run(&begun, || update_project_as(control, &begun, update))
}

fn update_project_as(
    control: &Control,
    begun: &OperationRow,
    update: &ProjectUpdate,
) -> Result<(ProjectRow, Vec<OperationRow>)> {
    let id = begun.project_id.as_str();
    if let Some(name) = &update.name {
        names::check_name("project", name)?;
    }
    check_retention(update.history_retention_seconds)?;
    options::check_defaults(update.default_endpoint_settings.as_ref())?;
    check_logical(update.settings.as_ref())?;
    if update.default_endpoint_settings.is_some() {
        let mut row = control.metadata.read(|connection| project::get(connection, id))?;
        merge(&mut row.default_endpoint_settings, update.default_endpoint_settings.as_ref());
        check_settings(control, id, &defaults(&row)?)?;
    }
    let (row, ended, logical_now) = control.metadata.write(|change| {
        let mut row = project::get(change, id)?;
        let was_logical = row.replicates_logically();
        if let Some(name) = &update.name {
            row.name.clone_from(name);
        }
        row.history_retention_s = update.history_retention_seconds.unwrap_or(row.history_retention_s);
        merge(&mut row.settings, update.settings.as_ref());
        let logical = row.replicates_logically();
        if was_logical && !logical {
            let text = format!("logical replication of project {} cannot be switched off again", row.name);
            let hint = "hint: leave enable_logical_replication out, or send true";
            return Err(Error::refused("LOGICAL_REPLICATION_STAYS", format!("{text}\n{hint}")));
        }
        merge(&mut row.default_endpoint_settings, update.default_endpoint_settings.as_ref());
        if update.default_endpoint_settings.is_some() {
            let merged = serde_json::from_str(&row.default_endpoint_settings).unwrap_or_default();
            options::check_defaults(Some(&merged))?;
        }
        row.updated_us = clock::now_us();
        project::put(change, &row)?;
        let ended = begun.clone().ended(None);
        operation::put(change, &ended)?;
        Ok((row, ended, logical && !was_logical))
    })?;
    let mut operations = vec![ended];
    if logical_now {
        operations.extend(restart_active(control, id)?);
    }
    Ok((row, operations))
}

/// Restarts every endpoint of a project that runs and writes. One that does not come back is tried again as after any
/// other failure.
fn restart_active(control: &Control, project: &str) -> Result<Vec<OperationRow>> {
    let rows = control.metadata.read(|connection| endpoint::of_project(connection, project))?;
    let mut operations = Vec::new();
    for row in rows.iter().filter(|row| row.desired == Desired::Active && !row.read_only) {
        let _held = control.locks.take(&[&row.branch_id])?;
        match restart(control, row) {
            Ok(done) => operations.extend(done),
            Err(error) => {
                tracing::warn!(endpoint = row.id, %error, "not restarted for logical replication")
            }
        }
    }
    Ok(operations)
}

fn check_logical(settings: Option<&serde_json::Value>) -> Result<()> {
    match settings.and_then(|settings| settings.get("enable_logical_replication")) {
        None | Some(serde_json::Value::Bool(_) | serde_json::Value::Null) => Ok(()),
        Some(_) => Err(Error::malformed("settings.enable_logical_replication is true or false")),
    }
}

fn check_request(request: &ProjectCreate) -> Result<First> {
    if let Some(name) = &request.name {
        names::check_name("project", name)?;
    }
    check_retention(request.history_retention_seconds)?;
    options::check_defaults(request.default_endpoint_settings.as_ref())?;
    check_logical(request.settings.as_ref())?;
    let asked = request.branch.clone().unwrap_or_default();
    let first = First {
        branch: asked.name.unwrap_or_else(|| "main".to_owned()),
        role: asked.role_name.unwrap_or_else(|| "neondb_owner".to_owned()),
        database: asked.database_name.unwrap_or_else(|| "neondb".to_owned()),
        secret: Secret::new()?,
    };
    names::check_name("branch", &first.branch)?;
    names::check_sql_name("role", &first.role)?;
    names::check_sql_name("database", &first.database)?;
    Ok(first)
}

fn check_retention(seconds: Option<i64>) -> Result<()> {
    if seconds.is_none_or(|seconds| (0..=HISTORY_RETENTION_MAX_S).contains(&seconds)) {
        return Ok(());
    }
    Err(Error::malformed(format!("history_retention_seconds is 0 to {HISTORY_RETENTION_MAX_S}")))
}

fn new_row(request: &ProjectCreate, major: i32) -> Result<ProjectRow> {
    let id = names::project_id()?;
    let now_us = clock::now_us();
    let text =
        |value: &Option<serde_json::Value>| value.as_ref().map_or("{}".to_owned(), ToString::to_string);
    Ok(ProjectRow {
        name: request.name.clone().unwrap_or_else(|| id.clone()),
        id,
        state: project::CREATING.to_owned(),
        pg_version: major,
        history_retention_s: request.history_retention_seconds.unwrap_or(HISTORY_RETENTION_S),
        settings: text(&request.settings),
        default_endpoint_settings: text(&request.default_endpoint_settings),
        created_us: now_us,
        updated_us: now_us,
        deleted_us: None,
    })
}

fn root_row(project: &ProjectRow, id: &str, name: &str) -> BranchRow {
    BranchRow { is_default: true, ..BranchRow::new(id, &project.id, name, clock::now_us()) }
}

/// The settings of Postgres that a project's new endpoints are made with.
fn defaults(row: &ProjectRow) -> Result<BTreeMap<String, String>> {
    options::default_settings(&serde_json::from_str(&row.default_endpoint_settings).unwrap_or_default())
}

/// Lays the fields of `update` over the JSON object in `text`.
fn merge(text: &mut String, update: Option<&serde_json::Value>) {
    let Some(serde_json::Value::Object(update)) = update else { return };
    let mut object: serde_json::Map<_, _> = serde_json::from_str(text).unwrap_or_default();
    object.extend(update.clone());
    *text = serde_json::Value::Object(object).to_string();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_project_has_neons_default_names() {
        let first = check_request(&ProjectCreate::default()).unwrap();
        assert_eq!((first.branch.as_str(), first.role.as_str()), ("main", "neondb_owner"));
        assert_eq!(first.database, "neondb");
    }

    #[test]
    fn logical_replication_is_asked_for_by_a_boolean() {
        assert_eq!(
            check_logical(Some(&serde_json::json!({"enable_logical_replication": "yes"}))).unwrap_err().kind,
            Kind::Malformed
        );
    }

    #[test]
    fn settings_are_changed_field_by_field() {
        let mut text = r#"{"a":1,"b":2}"#.to_owned();
        merge(&mut text, Some(&serde_json::json!({"b": 3})));
        assert_eq!(text, r#"{"a":1,"b":3}"#);
    }
}
