//! `scion status`: is it well? Server, disk, memory, then every branch with its endpoint and its lag.

use api::operation::Operation;
use api::project::Project;
use api::status::{BranchStatus, EndpointStatus, Status, UnusableProject};
use jiff::Timestamp;

use crate::client::Client;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::place;
use crate::wire::{self, Said};

/// Prints the state of the server and of everything in it.
pub fn run(global: &Global) -> Result<(), Failure> {
    let client = Client::new(place::server(global)?)?;
    let status: Said<Status> = client.get("/status")?;
    if global.output == Format::Json {
        output::json(status.json());
        return Ok(());
    }
    let projects = client.list::<Project>("/projects")?;
    server(&client, &status);
    let mut rows = Vec::new();
    for project in &projects {
        let branches = status.branches.iter().filter(|branch| branch.project_id == project.id);
        rows.extend(branches.map(|branch| row(project, branch, &status.endpoints)));
    }
    for project in &status.unusable_projects {
        output::words(&unusable(project));
    }
    output::data("");
    output::table(&["PROJECT", "BRANCH", "HEAD", "OWN DATA", "ENDPOINT", "LAG", "NOTE"], &rows);
    for operation in &status.operations_under_way {
        let id = &operation.project_id;
        // A project that is being made or removed is in no list.
        let project = projects.iter().find(|project| project.id == *id);
        output::words(&under_way(project.map_or(id, |project| &project.name), operation));
    }
    for project in &projects {
        let since = output::age(&project.created_at, Timestamp::now());
        output::words(&format!("{}: every moment since {since} can be branched", project.name));
    }
    Ok(())
}

fn server(client: &Client, status: &Status) {
    let Status { version, pid, .. } = status;
    let (used, free) = (output::bytes(status.disk_bytes), output::bytes(status.disk_free_bytes));
    let rows = [
        ("address", format!("{}, version {version}, process {pid}", client.url())),
        ("started", output::age(&status.started_at, Timestamp::now())),
        ("memory", output::bytes(status.memory_bytes)),
        ("data", status.data_dir.clone()),
        ("disk", format!("{used} used, {free} free")),
    ];
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(field, value)| vec![field.to_owned(), value]).collect();
    output::table(&["SERVER", ""], &rows);
}

fn under_way(project: &str, operation: &Operation) -> String {
    let action = operation.scion_action.as_ref().unwrap_or(&operation.action);
    let of = operation.branch_id.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
    let since = output::age(&operation.created_at, Timestamp::now());
    format!("{project}: {action}{of} is under way since {since}")
}

fn unusable(project: &UnusableProject) -> String {
    let UnusableProject { project_id, name, reason } = project;
    format!("warning: project {name} ({project_id}) cannot be used: {reason}")
}

fn row(project: &Project, branch: &BranchStatus, endpoints: &[EndpointStatus]) -> Vec<String> {
    let endpoint = endpoints.iter().find(|endpoint| endpoint.branch_id == branch.id);
    let lag = endpoint.and_then(|endpoint| endpoint.lag_bytes);
    vec![
        project.name.clone(),
        branch.name.clone(),
        branch.head_lsn.clone(),
        output::bytes(wire::unsigned(branch.own_data_bytes)),
        endpoint.map_or_else(|| "none".to_owned(), |endpoint| wire::word(endpoint.current_state)),
        lag.map_or_else(|| "-".to_owned(), output::bytes),
        endpoint.map(note).unwrap_or_default(),
    ]
}

/// Why an endpoint is in its state, and the page it could not read last.
fn note(endpoint: &EndpointStatus) -> String {
    let unreadable = endpoint.last_read_error.as_ref().map(|text| format!("last read error: {text}"));
    let parts = endpoint.state_reason.clone().into_iter().chain(unreadable);
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::samples::{self, said};
    use serde_json::json;

    #[test]
    fn a_project_that_cannot_be_used_is_named_with_the_reason() {
        let project = said(json!({"name": "demo", "project_id": "p-1", "reason": "manifest is damaged"}));
        assert_eq!(unusable(&project), "warning: project demo (p-1) cannot be used: manifest is damaged");
    }

    #[test]
    fn what_is_under_way_is_named() {
        let operation = json!({"action": "create_branch", "branch_id": "br-1", "status": "running"});
        let line = under_way("demo", &said(samples::operation(operation)));
        assert!(line.starts_with("demo: create_branch of br-1 is under way since "), "{line}");
    }

    #[test]
    fn a_branch_without_an_endpoint_says_so_and_one_with_trouble_tells_it() {
        let project: Said<Project> = said(samples::project(json!({"name": "demo"})));
        let branch: Said<BranchStatus> = said(json!({
            "project_id": "p", "id": "b", "name": "main", "head_lsn": "0/1", "start_lsn": "0/1", "own_data_bytes": 0
        }));
        assert_eq!(row(&project, &branch, &[]), ["demo", "main", "0/1", "0 B", "none", "-", ""]);
        let endpoint: Said<EndpointStatus> = said(json!({
            "project_id": "p", "branch_id": "b", "id": "ep-1", "current_state": "active", "lag_bytes": 1,
            "state_reason": "it died", "last_read_error": "block 3"
        }));
        let cells = row(&project, &branch, &[EndpointStatus::clone(&endpoint)]);
        assert_eq!(cells[4..], ["active", "1 B", "it died; last read error: block 3"]);
    }
}
