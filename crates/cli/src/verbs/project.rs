//! `scion project`: a project is one cluster's history and its tree of branches.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::{confirm, place, progress, resolve, wire};

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
    },
    /// All projects.
    List,
    /// Delete a project with all its branches and their data.
    Delete {
        /// Name or id of the project.
        name: String,
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
            Self::Create { name, pg_version } => create(&client, global.output, name, *pg_version),
            Self::List => list(&client, global.output),
            Self::Delete { name, yes } => delete(&client, global.output, name, *yes),
        }
    }
}

fn create(client: &Client, format: Format, name: &str, pg_version: Option<i32>) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    let progress = progress::start(format!("making project {name}: initdb, import, first start"));
    let mut wanted = json!({ "name": name });
    if let Some(major) = pg_version {
        wanted["pg_version"] = json!(major);
    }
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

fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let projects = client.list("/projects", "projects")?;
    if format == Format::Json {
        output::json(&json!(projects));
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = projects
        .iter()
        .map(|project| {
            vec![
                wire::text(project, "name").to_owned(),
                wire::text(project, "id").to_owned(),
                wire::number(project, "pg_version").map_or_else(|| "-".to_owned(), |major| major.to_string()),
                wire::number(project, "synthetic_storage_size").map_or_else(|| "-".to_owned(), output::bytes),
                output::age(wire::text(project, "created_at"), now),
            ]
        })
        .collect();
    output::table(&["NAME", "ID", "POSTGRESQL", "DATA", "CREATED"], &rows);
    Ok(())
}

fn delete(client: &Client, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let project = resolve::project(client, Some(name))?;
    let id = wire::text(&project, "id");
    let name = wire::text(&project, "name");
    confirm::destructive(&format!("delete project {name} ({id}) with all its branches and their data"), yes)?;
    let _progress = progress::start(format!("deleting project {name}"));
    let answer = client.delete(&format!("/projects/{}", wire::percent_encoded(id)))?;
    if format == Format::Json {
        output::json(&answer);
    } else {
        output::words(&format!("deleted project {name}"));
    }
    Ok(())
}
