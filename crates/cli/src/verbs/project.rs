//! `scion project`: a project is one cluster's history and its tree of branches.

use std::time::{Duration, Instant};

use api::endpoint::Endpoint;
use api::percent;
use api::project::{
    Project as Held, ProjectCreate, ProjectCreateBranch, ProjectCreateRequest, ProjectCreated,
    ProjectOperations, ProjectRecovered, ProjectResponse, ProjectUpdate, ProjectUpdateRequest,
};
use clap::Subcommand;
use jiff::Zoned;
use serde_json::json;

use crate::args::setting::{Setting, changed};
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::wire::{self, Said};
use crate::{confirm, place, progress, resolve};

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
                let first = ProjectCreateBranch {
                    name: branch.clone(),
                    role_name: role.clone(),
                    database_name: database.clone(),
                };
                let wanted = ProjectCreate {
                    name: Some(name.clone()),
                    branch: Some(first),
                    pg_version: *pg_version,
                    ..ProjectCreate::default()
                };
                create(&client, global.output, name, wanted)
            }
            Self::List { deleted } => list(&client, global.output, *deleted),
            Self::Update { name, rename, history_retention, set, unset } => {
                let wanted = ProjectUpdate {
                    name: rename.clone(),
                    history_retention_seconds: *history_retention,
                    ..ProjectUpdate::default()
                };
                update(&client, global.output, name, (wanted, set, unset))
            }
            Self::Recover { name } => recover(&client, global.output, name),
            Self::Delete { name, hard, yes } => delete(&client, global.output, (name, *hard), *yes),
        }
    }
}

fn create(client: &Client, format: Format, name: &str, wanted: ProjectCreate) -> Result<(), Failure> {
    let started = Instant::now();
    let progress = progress::start(format!("making project {name}: initdb, import, first start"));
    let answer: Said<ProjectCreated> = client.post("/projects", ProjectCreateRequest { project: wanted })?;
    client.wait(&answer.project.id, &answer.operations)?;
    drop(progress);
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    let (project, branch) = (&answer.project, &answer.branch);
    output::words(&format!(
        "{}   {}   branch {}, PostgreSQL {}   ready in {:.1} s",
        project.name,
        project.id,
        branch.name,
        project.pg_version,
        started.elapsed().as_secs_f64()
    ));
    for details in &answer.connection_uris {
        output::data(&details.connection_uri);
    }
    Ok(())
}

/// The deleted projects that can be brought back.
fn deleted(client: &Client) -> Result<Vec<Said<Held>>, Failure> {
    client.list("/projects?recoverable=true")
}

/// The projects there are, with how large each is, which is said only of one at a time.
fn live(client: &Client) -> Result<Vec<Said<Held>>, Failure> {
    let mut projects = Vec::new();
    for listed in client.list::<Held>("/projects")? {
        match client.one(&format!("/projects/{}", percent::encoded(&listed.id))) {
            Ok(project) => projects.push(project),
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
        output::json(&wire::array(&projects));
        return Ok(());
    }
    let now = Zoned::now();
    let rows: Vec<Vec<String>> = projects
        .iter()
        .map(|project| {
            let size = project.synthetic_storage_size.map(wire::unsigned);
            let last = match &project.recoverable_until {
                Some(until) => output::local_time(until, &now),
                None => output::age(&project.created_at, now.timestamp()),
            };
            vec![
                project.name.clone(),
                project.id.clone(),
                project.pg_version.to_string(),
                size.map_or_else(|| "-".to_owned(), output::bytes),
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
    (mut wanted, set, unset): (ProjectUpdate, &[Setting], &[String]),
) -> Result<(), Failure> {
    let project = resolve::project(client, Some(name))?;
    if !set.is_empty() || !unset.is_empty() {
        let old = project.default_endpoint_settings.get("pg_settings");
        wanted.default_endpoint_settings = Some(json!({ "pg_settings": changed(old, set, unset) }));
    }
    let path = format!("/projects/{}", percent::encoded(&project.id));
    let answer: Said<ProjectOperations> = client.patch(&path, ProjectUpdateRequest { project: wanted })?;
    match format {
        Format::Json => output::json(answer.json_of::<Held>()),
        Format::Table => output::words(&format!("changed project {}", answer.project.name)),
    }
    Ok(())
}

fn recover(client: &Client, format: Format, name: &str) -> Result<(), Failure> {
    let gone = deleted(client)?;
    let id = percent::encoded(&resolve::pick("deleted project", &gone, name)?.id);
    let progress = progress::start(format!("recovering project {name}"));
    let answer: Said<ProjectRecovered> = client.post(&format!("/projects/{id}/recover"), json!({}))?;
    let started = wait_settled(client, &id)?;
    drop(progress);
    match format {
        Format::Json => output::json(answer.json_of::<Held>()),
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
        let endpoints = client.list::<Endpoint>(&format!("/projects/{id}/endpoints"))?;
        if endpoints.iter().all(|endpoint| endpoint.pending_state.is_none()) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn delete(client: &Client, format: Format, (name, hard): (&str, bool), yes: bool) -> Result<(), Failure> {
    let mut projects = client.list("/projects")?;
    if hard {
        projects.extend(deleted(client)?);
    }
    let project: &Held = resolve::pick("project", &projects, name)?;
    let Held { id, name, .. } = project;
    let what = if hard { "its data, for good" } else { "their data" };
    confirm::destructive(&format!("delete project {name} ({id}) with all its branches and {what}"), yes)?;
    let _progress = progress::start(format!("deleting project {name}"));
    let path = format!("/projects/{}?hard_delete={hard}", percent::encoded(id));
    let answer: Option<Said<ProjectResponse>> = client.delete(&path)?;
    if format == Format::Json {
        output::json(wire::json_or_null(answer.as_ref()));
    } else {
        output::words(&format!("deleted project {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::server_answering;
    use crate::wire::samples;

    #[test]
    fn a_project_that_is_deleted_while_all_are_listed_is_left_out() {
        let project = |id: &str, more| {
            let mut project = samples::project(more);
            project["id"] = json!(id);
            project
        };
        let both = json!({"projects": [project("a", json!({})), project("b", json!({}))]});
        let whole = project("b", json!({"synthetic_storage_size": 7}));
        let (client, _thread) = server_answering(vec![
            (200, both.to_string().leak()),
            (404, r#"{"message":"there is no project a"}"#),
            (200, json!({ "project": whole }).to_string().leak()),
        ]);
        assert_eq!(wire::array(&live(&client).unwrap()), json!([whole]));
    }
}
