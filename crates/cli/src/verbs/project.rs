//! `scion project`: a project is one cluster's history and its tree of branches.

use std::time::{Duration, Instant};

use api::percent;
use clap::Subcommand;
use jiff::Zoned;
use serde_json::{Value, json};

use crate::args::setting::{Setting, changed};
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::{confirm, place, progress, resolve, wire};

/// How long the endpoints of a project that is back are waited for.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// Create, list and delete projects.
#[derive(Subcommand)]
pub enum Project {
    /// Make a project: a new PostgreSQL cluster with a branch `main` and a running endpoint.
    Create {
        /// Name of the project.
        name: String,
        /// Major version of PostgreSQL [default: 15, or else the newest on the server's machine].
        #[arg(long, value_name = "MAJOR", value_parser = clap::value_parser!(i32))]
        pg_version: Option<i32>,
        /// Name of its first branch [default: main].
        #[arg(long, value_name = "NAME")]
        branch: Option<String>,
        /// Name of the role that owns its database [default: neondb_owner].
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
        /// Name of its database [default: neondb].
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
    },
    /// All projects.
    List {
        /// Those that are deleted and can be recovered.
        #[arg(long)]
        deleted: bool,
    },
    /// Change a project.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Update {
        /// Name or id of the project.
        name: String,
        /// Its new name.
        #[arg(long, value_name = "NAME", group = "what")]
        rename: Option<String>,
        /// How far back branches may reach, in seconds.
        #[arg(long, value_name = "SECONDS", group = "what")]
        history_retention: Option<i64>,
        /// A setting of Postgres that new endpoints are made with; may be given several times. Those it had are kept.
        #[arg(long, value_name = "NAME=VALUE", group = "what")]
        set: Vec<Setting>,
        /// A setting of Postgres that new endpoints are made without again; may be given several times.
        #[arg(long, value_name = "NAME", group = "what")]
        unset: Vec<String>,
    },
    /// Bring a deleted project back; the endpoints that ran are started.
    Recover {
        /// Name or id of the deleted one.
        name: String,
    },
    /// Delete a project with all its branches; it can be recovered for 7 days.
    Delete {
        /// Name or id of the project.
        name: String,
        /// For good: its data goes at once. A project that is deleted already can be given too.
        #[arg(long)]
        hard: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

impl Project {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(place::server(global)?)?;
        match self {
            Self::Create { name, pg_version, branch, role, database } => {
                let first = json!({ "name": branch, "role_name": role, "database_name": database });
                create(&client, global.output, name, &json!({ "pg_version": pg_version, "branch": first }))
            }
            Self::List { deleted } => list(&client, global.output, *deleted),
            Self::Update { name, rename, history_retention, set, unset } => {
                let wanted = json!({ "name": rename, "history_retention_seconds": history_retention });
                update(&client, global.output, name, (wanted, set, unset))
            }
            Self::Recover { name } => recover(&client, global.output, name),
            Self::Delete { name, hard, yes } => delete(&client, global.output, (name, *hard), *yes),
        }
    }
}

fn create(client: &Client, format: Format, name: &str, more: &Value) -> Result<(), Failure> {
    let started = Instant::now();
    let progress = progress::start(format!("making project {name}: initdb, import, first start"));
    let mut wanted = more.clone();
    wanted["name"] = json!(name);
    let answer = client.post("/projects", &json!({ "project": wanted }))?;
    let project = answer.get("project").cloned().unwrap_or_default();
    client.wait(wire::text(&project, "id"), &answer)?;
    drop(progress);
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    let branch = answer.get("branch").cloned().unwrap_or_default();
    output::words(&format!(
        "{}   {}   branch {}, PostgreSQL {}   ready in {:.1} s",
        wire::text(&project, "name"),
        wire::text(&project, "id"),
        wire::text(&branch, "name"),
        wire::number(&project, "pg_version").unwrap_or_default(),
        started.elapsed().as_secs_f64()
    ));
    for details in wire::list(&answer, "connection_uris") {
        output::data(wire::text(details, "connection_uri"));
    }
    Ok(())
}

/// The deleted projects that can be brought back.
fn deleted(client: &Client) -> Result<Vec<Value>, Failure> {
    client.list("/projects?recoverable=true", "projects")
}

/// The projects there are, with how large each is, which is said only of one at a time.
fn live(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut projects = Vec::new();
    for listed in client.list("/projects", "projects")? {
        let path = format!("/projects/{}", percent::encoded(wire::text(&listed, "id")));
        match client.get(&path) {
            Ok(mut answer) => projects.push(answer.get_mut("project").map_or(listed, Value::take)),
            // It was deleted meanwhile.
            Err(failure) if failure.kind == Kind::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(projects)
}

fn list(client: &Client, format: Format, gone: bool) -> Result<(), Failure> {
    let projects = if gone { deleted(client)? } else { live(client)? };
    if format == Format::Json {
        output::json(&json!(projects));
        return Ok(());
    }
    let now = Zoned::now();
    let number = |project: &Value, field: &str, show: &dyn Fn(u64) -> String| {
        wire::number(project, field).map_or_else(|| "-".to_owned(), show)
    };
    let rows: Vec<Vec<String>> = projects
        .iter()
        .map(|project| {
            let last = match wire::some_text(project, "recoverable_until") {
                Some(until) => output::local_time(until, &now),
                None => output::age(wire::text(project, "created_at"), now.timestamp()),
            };
            vec![
                wire::text(project, "name").to_owned(),
                wire::text(project, "id").to_owned(),
                number(project, "pg_version", &|major| major.to_string()),
                number(project, "synthetic_storage_size", &output::bytes),
                last,
            ]
        })
        .collect();
    let last = if gone { "RECOVERABLE UNTIL" } else { "CREATED" };
    output::table(&["NAME", "ID", "POSTGRESQL", "DATA", last], &rows);
    Ok(())
}

fn update(
    client: &Client,
    format: Format,
    name: &str,
    (mut wanted, set, unset): (Value, &[Setting], &[String]),
) -> Result<(), Failure> {
    let project = resolve::project(client, Some(name))?;
    if !set.is_empty() || !unset.is_empty() {
        let defaults = project.get("default_endpoint_settings");
        let old = defaults.and_then(|defaults| defaults.get("pg_settings"));
        wanted["default_endpoint_settings"] = json!({ "pg_settings": changed(old, set, unset) });
    }
    let id = percent::encoded(wire::text(&project, "id"));
    let answer = client.patch(&format!("/projects/{id}"), &json!({ "project": wanted }))?;
    let project = answer.get("project").unwrap_or(&Value::Null);
    match format {
        Format::Json => output::json(project),
        Format::Table => output::words(&format!("changed project {}", wire::text(project, "name"))),
    }
    Ok(())
}

fn recover(client: &Client, format: Format, name: &str) -> Result<(), Failure> {
    let gone = deleted(client)?;
    let project = resolve::pick("deleted project", &gone, name)?;
    let id = percent::encoded(wire::text(project, "id"));
    let progress = progress::start(format!("recovering project {name}"));
    let answer = client.post(&format!("/projects/{id}/recover"), &json!({}))?;
    let started = wait_settled(client, &id)?;
    drop(progress);
    match format {
        Format::Json => output::json(answer.get("project").unwrap_or(&Value::Null)),
        Format::Table if started => output::words(&format!("recovered project {name}")),
        Format::Table => {
            output::words(&format!("recovered project {name}; not all of its endpoints have started yet"));
        }
    }
    Ok(())
}

/// Waits until every endpoint of a project is what it should be; false if that takes too long.
fn wait_settled(client: &Client, id: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + STARTED_WITHIN;
    loop {
        let endpoints = client.list(&format!("/projects/{id}/endpoints"), "endpoints")?;
        if endpoints.iter().all(|endpoint| wire::some_text(endpoint, "pending_state").is_none()) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn delete(client: &Client, format: Format, (name, hard): (&str, bool), yes: bool) -> Result<(), Failure> {
    let mut projects = client.list("/projects", "projects")?;
    if hard {
        projects.extend(deleted(client)?);
    }
    let project = resolve::pick("project", &projects, name)?;
    let id = wire::text(project, "id");
    let name = wire::text(project, "name");
    let what = if hard { "its data, for good" } else { "their data" };
    confirm::destructive(&format!("delete project {name} ({id}) with all its branches and {what}"), yes)?;
    let _progress = progress::start(format!("deleting project {name}"));
    let answer = client.delete(&format!("/projects/{}?hard_delete={hard}", percent::encoded(id)))?;
    if format == Format::Json {
        output::json(&answer);
    } else {
        output::words(&format!("deleted project {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::server_answering;

    #[test]
    fn a_project_that_is_deleted_while_all_are_listed_is_left_out() {
        let (client, _thread) = server_answering(vec![
            (200, r#"{"projects":[{"id":"a"},{"id":"b"}]}"#),
            (404, r#"{"message":"there is no project a"}"#),
            (200, r#"{"project":{"id":"b","synthetic_storage_size":7}}"#),
        ]);
        assert_eq!(live(&client).unwrap(), [json!({"id": "b", "synthetic_storage_size": 7})]);
    }
}
