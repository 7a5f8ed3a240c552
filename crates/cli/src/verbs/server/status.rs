//! `scion status`: is it well? Server, disk, memory, then every branch with its endpoint and its lag.

use serde_json::{Value, json};

use jiff::Timestamp;

use crate::client::Client;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::{place, wire};

/// Prints the state of the server and of everything in it.
pub fn run(global: &Global) -> Result<(), Failure> {
    let client = Client::new(place::server(global)?)?;
    let status = client.get("/status")?;
    if global.output == Format::Json {
        output::json(&status);
        return Ok(());
    }
    let projects = client.list("/projects", "projects")?;
    server(&client, &status);
    let mut rows = Vec::new();
    for project in &projects {
        rows.extend(
            wire::list(&status, "branches")
                .iter()
                .filter(|branch| of_project(branch, project))
                .map(|branch| row(project, branch, wire::list(&status, "endpoints"))),
        );
    }
    for project in wire::list(&status, "unusable_projects") {
        output::words(&unusable(project));
    }
    output::data("");
    output::table(&["PROJECT", "BRANCH", "HEAD", "OWN DATA", "ENDPOINT", "LAG", "NOTE"], &rows);
    for operation in wire::list(&status, "operations_under_way") {
        let id = wire::text(operation, "project_id");
        // A project that is being made or removed is in no list.
        let project = projects.iter().find(|project| wire::text(project, "id") == id);
        output::words(&under_way(project.map_or(id, |project| wire::text(project, "name")), operation));
    }
    for project in &projects {
        let since = output::age(wire::text(project, "created_at"), Timestamp::now());
        output::words(&format!(
            "{}: every moment since {since} can be branched",
            wire::text(project, "name")
        ));
    }
    Ok(())
}

fn server(client: &Client, status: &Value) {
    let size = |name| wire::number(status, name).map_or_else(|| "-".to_owned(), output::bytes);
    let started = output::age(wire::text(status, "started_at"), Timestamp::now());
    let pid = wire::number(status, "pid").unwrap_or_default();
    let rows = [
        ("address", format!("{}, version {}, process {pid}", client.url(), wire::text(status, "version"))),
        ("started", started),
        ("memory", size("memory_bytes")),
        ("data", wire::text(status, "data_dir").to_owned()),
        ("disk", format!("{} used, {} free", size("disk_bytes"), size("disk_free_bytes"))),
    ];
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(field, value)| vec![field.to_owned(), value]).collect();
    output::table(&["SERVER", ""], &rows);
}

fn under_way(project: &str, operation: &Value) -> String {
    let action =
        wire::some_text(operation, "scion_action").unwrap_or_else(|| wire::text(operation, "action"));
    let of = wire::some_text(operation, "branch_id").map(|id| format!(" of {id}")).unwrap_or_default();
    let since = output::age(wire::text(operation, "created_at"), Timestamp::now());
    format!("{project}: {action}{of} is under way since {since}")
}

fn unusable(project: &Value) -> String {
    let text = |name| wire::text(project, name);
    format!("warning: project {} ({}) cannot be used: {}", text("name"), text("project_id"), text("reason"))
}

fn of_project(branch: &Value, project: &Value) -> bool {
    wire::text(branch, "project_id") == wire::text(project, "id")
}

fn row(project: &Value, branch: &Value, endpoints: &[Value]) -> Vec<String> {
    let none = json!({});
    let mine = |it: &&Value| wire::text(it, "branch_id") == wire::text(branch, "id");
    let endpoint = endpoints.iter().find(mine).unwrap_or(&none);
    vec![
        wire::text(project, "name").to_owned(),
        wire::text(branch, "name").to_owned(),
        wire::text(branch, "head_lsn").to_owned(),
        wire::own_bytes(branch).map_or_else(|| "-".to_owned(), output::bytes),
        wire::some_text(endpoint, "current_state").unwrap_or("none").to_owned(),
        wire::number(endpoint, "lag_bytes").map_or_else(|| "-".to_owned(), output::bytes),
        wire::endpoint_note(endpoint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_cannot_be_used_is_named_with_the_reason() {
        let project = json!({"name": "demo", "project_id": "p-1", "reason": "manifest is damaged"});
        assert_eq!(unusable(&project), "warning: project demo (p-1) cannot be used: manifest is damaged");
    }

    #[test]
    fn what_is_under_way_is_named() {
        let operation = json!({"action": "create_branch", "branch_id": "br-1", "status": "running",
                               "created_at": "2026-01-01T00:00:00Z"});
        let line = under_way("demo", &operation);
        assert!(line.starts_with("demo: create_branch of br-1 is under way since "), "{line}");
    }

    #[test]
    fn a_branch_without_an_endpoint_says_so() {
        let cells =
            row(&json!({"name": "demo"}), &json!({"name": "main", "head_lsn": "0/1", "id": "b"}), &[]);
        assert_eq!(cells, ["demo", "main", "0/1", "-", "none", "-", ""]);
    }
}
