//! Rows and what the store and the processes say, as the shapes of the API.

use std::collections::HashMap;

use api::branch::{Annotation, AnnotationObject, Branch, BranchRecovery};
use api::connection::{ConnectionDetails, ConnectionParameters};
use api::database::Database;
use api::endpoint::{Endpoint, EndpointOptions, EndpointState, EndpointType};
use api::operation::{Operation, OperationStatus};
use api::percent;
use api::project::Project;
use api::role::Role;
use store::BranchInfo;

use crate::clock::{now_us, show};
use crate::control::Control;
use crate::control::branch::create::{PARENT_DATA, SCHEMA_ONLY};
use crate::error::Result;
use crate::fleet::endpoints::observe;
use crate::limits::{RECOVERABLE_US, RELATIONS_NAMED};
use crate::metadata::branch::BranchRow;
use crate::metadata::endpoint::{Desired, EndpointRow};
use crate::metadata::operation::{self, OperationRow};
use crate::metadata::project::{self, ProjectRow};
use crate::metadata::role::{DatabaseRow, RoleRow};
use crate::names::parse_branch;

const HOST: &str = "127.0.0.1";
/// What is said of who made things.
const SOURCE: &str = "console";

/// A project.
pub fn project(row: &ProjectRow, disk_bytes: Option<u64>) -> Project {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let mut defaults = serde_json::json!({
        "autoscaling_limit_min_cu": 1, "autoscaling_limit_max_cu": 1, "suspend_timeout_seconds": 0
    });
    let sent: serde_json::Map<String, serde_json::Value> = json(&row.default_endpoint_settings);
    if let Some(defaults) = defaults.as_object_mut() {
        defaults.extend(sent);
    }
    let recoverable = row.deleted_us.filter(|_| row.state == project::DELETED);
    Project {
        id: row.id.clone(),
        name: row.name.clone(),
        region_id: super::fixed::REGION.to_owned(),
        platform_id: "scion".to_owned(),
        pg_version: row.pg_version,
        provisioner: "scion".to_owned(),
        proxy_host: HOST.to_owned(),
        history_retention_seconds: row.history_retention_s,
        store_passwords: true,
        default_endpoint_settings: defaults,
        settings: serde_json::Value::Object(json(&row.settings)),
        org_id: super::fixed::ORGANIZATION.to_owned(),
        owner_id: super::fixed::ORGANIZATION.to_owned(),
        creation_source: SOURCE.to_owned(),
        written_data_bytes: 0,
        data_transfer_bytes: 0,
        compute_time_seconds: 0,
        active_time_seconds: 0,
        active_time: 0,
        data_storage_bytes_hour: 0,
        cpu_used_sec: 0,
        branch_logical_size_limit: 0,
        branch_logical_size_limit_bytes: 0,
        synthetic_storage_size: disk_bytes.map(clamp),
        consumption_period_start: show(row.created_us),
        consumption_period_end: "9999-12-31T23:59:59Z".to_owned(),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
        deleted_at: row.deleted_us.map(show),
        recoverable_until: recoverable.map(|at_us| show(at_us + RECOVERABLE_US)),
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What the store of a project says of its branches, by what the store calls them.
///
/// # Errors
/// Those of the store.
pub fn store_infos(control: &Control, project: &str) -> Result<HashMap<String, BranchInfo>> {
    Ok(by_id(control.storage.store(project)?.branches()?))
}

/// What the store says of one branch; `None` if it does not know it.
///
/// # Errors
/// Those of the store.
pub fn store_info(control: &Control, row: &BranchRow) -> Result<Option<BranchInfo>> {
    Ok(control.storage.store(&row.project_id)?.branches_of(&[parse_branch(&row.store_id)?])?.pop())
}

/// A branch with what the store says of it now.
///
/// # Errors
/// Those of the store.
pub fn branch_now(control: &Control, row: &BranchRow) -> Result<Branch> {
    Ok(branch(row, store_info(control, row)?.as_ref()))
}

/// Branches of one project with what the store says of them now.
///
/// # Errors
/// Those of the store.
pub fn branches_now(control: &Control, project: &str, rows: &[BranchRow]) -> Result<Vec<Branch>> {
    let ids = rows.iter().map(|row| parse_branch(&row.store_id)).collect::<Result<Vec<_>>>()?;
    let infos = by_id(control.storage.store(project)?.branches_of(&ids)?);
    Ok(rows.iter().map(|row| branch(row, infos.get(&row.store_id))).collect())
}

fn by_id(infos: Vec<BranchInfo>) -> HashMap<String, BranchInfo> {
    infos.into_iter().map(|info| (info.id.to_string(), info)).collect()
}

/// A branch; `info` is what the store says of it.
pub fn branch(row: &BranchRow, info: Option<&BranchInfo>) -> Branch {
    let written = info.and_then(|info| info.head.bytes_since(info.start)).unwrap_or(0);
    Branch {
        id: row.id.clone(),
        project_id: row.project_id.clone(),
        name: row.name.clone(),
        parent_id: row.parent_id.clone(),
        history_branch_id: row.history_id.clone(),
        parent_lsn: row.parent_lsn.clone(),
        parent_timestamp: row.parent_id.as_ref().and(row.parent_time_us).map(show),
        requested_lsn: row.requested_lsn.clone(),
        head_lsn: info.map(|info| info.head.to_string()).or_else(|| row.parent_lsn.clone()),
        own_data_bytes: info.map(|info| clamp(info.own_bytes)),
        warnings: info.map(warnings).unwrap_or_default(),
        current_state: "ready".to_owned(),
        pending_state: None,
        state_changed_at: show(row.created_us),
        creation_source: SOURCE.to_owned(),
        primary: row.is_default,
        default: row.is_default,
        protected: row.protected,
        init_source: if row.schema_only { SCHEMA_ONLY } else { PARENT_DATA }.to_owned(),
        cpu_used_sec: 0,
        compute_time_seconds: 0,
        active_time_seconds: 0,
        written_data_bytes: clamp(written),
        data_transfer_bytes: 0,
        expires_at: row.expires_us.map(show),
        ttl_interval_seconds: row.ttl_s,
        recovery: row.deleted_us.filter(|_| !row.purging).map(|deleted_us| BranchRecovery {
            deleted_at: show(deleted_us),
            recoverable_until: show(deleted_us.saturating_add(RECOVERABLE_US)),
            deletion_method: if row.expired { "ttl" } else { "user" }.to_owned(),
        }),
        last_reset_at: row.last_reset_us.map(show),
        restored_from: row.restored_from.clone(),
        restored_as: row.restored_as.clone(),
        restore_status: row.restored_from.as_ref().map(|_| {
            let status = if row.finalized { "finalized" } else { "restored" };
            status.to_owned()
        }),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    }
}

/// What of a branch cannot be read, and why, in a few words.
fn warnings(info: &BranchInfo) -> Vec<String> {
    let extension = info.extension.map(|(lsn, rmgr)| {
        let whose = store::of_extension(rmgr);
        format!("since {lsn} the log holds records of {whose}: blocks that they change cannot be read")
    });
    extension.into_iter().chain(stuck(info)).collect()
}

fn stuck(info: &BranchInfo) -> Option<String> {
    info.stuck.as_ref().map(|reason| format!("nothing above {} can be read: {reason}", info.head))
}

/// What of a branch cannot be read, and why, with the relations.
///
/// # Errors
/// Those of the store.
pub fn warnings_in_full(control: &Control, project: &str, info: &BranchInfo) -> Result<Vec<String>> {
    if info.extension.is_none() {
        return Ok(warnings(info));
    }
    let unreadable = control.storage.store(project)?.unreadable(&info.id, RELATIONS_NAMED)?;
    let mut texts = Vec::new();
    for (rmgr, since) in unreadable.managers {
        let whose = store::of_extension(rmgr);
        texts.push(format!(
            "since {since} the log holds records of {whose}: what they change without naming a block is not known"
        ));
    }
    for (rel, rmgr, since) in unreadable.forks {
        let whose = store::of_extension(rmgr);
        texts.push(format!(
            "since {since} blocks of relation {rel} that {whose} wrote cannot be read until they are written anew; \
             pg_filenode_relation({}, {}) names it in database {}",
            rel.rel.tablespace, rel.rel.relation, rel.rel.database
        ));
    }
    if unreadable.more > 0 {
        texts.push(format!("the same holds for {} more relations", unreadable.more));
    }
    texts.extend(stuck(info));
    Ok(texts)
}

/// What the endpoints of a branch could not read of it.
pub fn read_errors(control: &Control, endpoints: &[EndpointRow]) -> Vec<String> {
    let of = |row: &EndpointRow| {
        observe(&control.fleet, &row.id);
        let errors = control.fleet.endpoints.observed(&row.id).read_errors;
        errors.into_iter().map(|text| format!("endpoint {}: {text}", row.id)).collect::<Vec<_>>()
    };
    endpoints.iter().flat_map(of).collect()
}

/// The free JSON that branch `id` was made with; empty if it was made without.
pub fn annotation(id: &str, noted: Option<&str>) -> Annotation {
    let value = noted.and_then(|text| serde_json::from_str(text).ok());
    let object = AnnotationObject { kind: "console/branch".to_owned(), id: id.to_owned() };
    Annotation { object, value: value.unwrap_or_else(|| serde_json::json!({})) }
}

/// Host and port of an endpoint.
pub fn host(row: &EndpointRow) -> String {
    format!("{HOST}:{}", row.port)
}

/// An endpoint, with what is known of its process.
pub fn endpoint(control: &Control, row: &EndpointRow) -> Endpoint {
    let observed = control.fleet.endpoints.observed(&row.id);
    let options: EndpointOptions = serde_json::from_str(&row.options).unwrap_or_default();
    let wanted = if row.desired == Desired::Active { EndpointState::Active } else { EndpointState::Idle };
    let settings = options.settings.unwrap_or_else(|| serde_json::json!({ "pg_settings": {} }));
    let min_cu = options.autoscaling_limit_min_cu.unwrap_or(1.0);
    let socket_dir = control.dir.endpoint(&row.id).join("sock");
    Endpoint {
        id: row.id.clone(),
        host: host(row),
        proxy_host: HOST.to_owned(),
        name: options.name,
        project_id: row.project_id.clone(),
        branch_id: row.branch_id.clone(),
        autoscaling_limit_min_cu: min_cu,
        autoscaling_limit_max_cu: options.autoscaling_limit_max_cu.unwrap_or(min_cu),
        region_id: super::fixed::REGION.to_owned(),
        kind: if row.read_only { EndpointType::ReadOnly } else { EndpointType::ReadWrite },
        current_state: observed.state,
        pending_state: (observed.state != wanted).then_some(wanted),
        state_reason: observed.reason,
        last_read_error: observed.last_read_error,
        read_errors: observed.read_errors,
        read_failures: observed.read_failures,
        start_phases_ms: observed.phases_ms,
        postgres_pid: observed.postgres_pid,
        compute_pid: observed.compute_pid,
        socket_dir: Some(socket_dir.to_string_lossy().into_owned()),
        settings,
        pooler_enabled: false,
        pooler_mode: "transaction".to_owned(),
        disabled: options.disabled.unwrap_or(false),
        passwordless_access: false,
        suspend_timeout_seconds: options.suspend_timeout_seconds.unwrap_or(0),
        provisioner: "scion".to_owned(),
        creation_source: SOURCE.to_owned(),
        last_active: if observed.state == EndpointState::Active {
            Some(show(now_us()))
        } else {
            row.suspended_us.map(show)
        },
        started_at: row.started_us.map(show),
        suspended_at: row.suspended_us.map(show),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    }
}

/// An operation.
pub fn operation(row: &OperationRow) -> Operation {
    let status = match row.status.as_str() {
        operation::FINISHED => OperationStatus::Finished,
        operation::FAILED => OperationStatus::Failed,
        _ => OperationStatus::Running,
    };
    let action = operation::neon_action(&row.action).to_owned();
    Operation {
        id: row.id.clone(),
        project_id: row.project_id.clone(),
        branch_id: row.branch_id.clone(),
        endpoint_id: row.endpoint_id.clone(),
        scion_action: Some(row.action.clone()).filter(|own| *own != action),
        action,
        status,
        error: row.error.clone(),
        detail: row.detail.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        failures_count: i32::from(status == OperationStatus::Failed),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
        total_duration_ms: (row.updated_us - row.created_us).max(0) / 1000,
    }
}

/// Operations.
pub fn operations(rows: &[OperationRow]) -> Vec<Operation> {
    rows.iter().map(operation).collect()
}

/// A role; with its password only where something is created.
pub fn role(row: &RoleRow, with_password: bool) -> Role {
    Role {
        branch_id: row.branch_id.clone(),
        name: row.name.clone(),
        password: row.password.clone().filter(|_| with_password),
        protected: false,
        authentication_method: if row.login { "password" } else { "no_login" }.to_owned(),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    }
}

/// A database.
pub fn database(row: &DatabaseRow) -> Database {
    Database {
        id: row.id,
        branch_id: row.branch_id.clone(),
        name: row.name.clone(),
        owner_name: row.owner_name.clone(),
        created_at: show(row.created_us),
        updated_at: show(row.updated_us),
    }
}

/// A connection string. The string names no `sslmode`: the endpoint is on this machine's loopback, clients of libpq take TLS
/// where it is offered, and node-postgres would take `require` for a check of the certificate, which signs itself.
pub fn uri(endpoint: &EndpointRow, role: &RoleRow, database: &str) -> String {
    let name = percent::encoded(&role.name);
    // A password that SQL set is for the user to fill in.
    let password =
        role.password.as_ref().map_or_else(String::new, |text| format!(":{}", percent::encoded(text)));
    format!("postgresql://{name}{password}@{}/{}", host(endpoint), percent::encoded(database))
}

/// How to connect to the first endpoint: to the oldest database, which is the project's first one unless that was deleted,
/// as its owner or, where the owner may not log in, as the oldest role that may. Empty without an endpoint, a database or
/// such a role.
pub fn connections(
    endpoints: &[EndpointRow],
    roles: &[RoleRow],
    databases: &[DatabaseRow],
) -> Vec<ConnectionDetails> {
    let (Some(endpoint), Some(database)) = (endpoints.first(), databases.first()) else { return Vec::new() };
    let mut able = roles.iter().filter(|role| role.login);
    let owner = able.clone().find(|role| role.name == database.owner_name);
    let Some(role) = owner.or_else(|| able.next()) else { return Vec::new() };
    let parameters = ConnectionParameters {
        database: database.name.clone(),
        role: role.name.clone(),
        password: role.password.clone().unwrap_or_default(),
        host: host(endpoint),
        pooler_host: host(endpoint),
    };
    let connection_uri = uri(endpoint, role, &database.name);
    vec![ConnectionDetails { connection_uri, connection_parameters: parameters }]
}
