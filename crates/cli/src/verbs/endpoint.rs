//! `scion endpoint`: the Postgres servers of branches.

use std::time::Instant;

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{progress, tree, wire};

/// Start, stop and list the Postgres servers of branches.
#[derive(Subcommand)]
pub enum Endpoint {
    /// Start the endpoint of a branch, making one if it has none.
    Start {
        /// Name or id of the branch, or id of the endpoint.
        name: String,
    },
    /// Stop the endpoint of a branch; its data stays.
    Stop {
        /// Name or id of the branch, or id of the endpoint.
        name: String,
    },
    /// All endpoints of the project.
    List,
}

impl Endpoint {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        match self {
            Self::Start { name } => start(&session, global.output, name),
            Self::Stop { name } => stop(&session, global.output, name),
            Self::List => list(&session, global.output),
        }
    }
}

fn start(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let _progress = progress::start(format!("starting the endpoint of {name}"));
    let answer = match existing(session, name)? {
        Ok(endpoint) => {
            let id = wire::percent_encoded(wire::text(&endpoint, "id"));
            session.client.post(&session.path(&format!("/endpoints/{id}/start")), &json!({}))?
        }
        Err(branch) => {
            let body =
                json!({ "endpoint": { "branch_id": wire::text(&branch, "id"), "type": "read_write" } });
            session.client.post(&session.path("/endpoints"), &body)?
        }
    };
    session.client.wait(session.project_id(), &answer)?;
    finish(format, &answer, &format!("active in {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// The endpoint meant by `name`, or else the branch that has none.
fn existing(session: &Session, name: &str) -> Result<Result<Value, Value>, Failure> {
    if let Some(endpoint) = session.endpoints()?.into_iter().find(|it| wire::text(it, "id") == name) {
        return Ok(Ok(endpoint));
    }
    let branch = session.branch(name)?;
    Ok(session.endpoint_of(wire::text(&branch, "id"))?.ok_or(branch))
}

fn stop(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let endpoint = session.endpoint(name)?;
    let id = wire::percent_encoded(wire::text(&endpoint, "id"));
    let _progress = progress::start(format!("stopping endpoint {id}: waiting for its last WAL to be stored"));
    let answer = session.client.post(&session.path(&format!("/endpoints/{id}/suspend")), &json!({}))?;
    session.client.wait(session.project_id(), &answer)?;
    finish(format, &answer, &format!("stopped in {} ms", started.elapsed().as_millis()));
    Ok(())
}

fn finish(format: Format, answer: &Value, outcome: &str) {
    let endpoint = answer.get("endpoint").unwrap_or(&Value::Null);
    match format {
        Format::Json => output::json(endpoint),
        Format::Table => {
            let id = wire::text(endpoint, "id");
            output::words(&format!("{id}   {}   {outcome}", wire::text(endpoint, "host")));
        }
    }
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let endpoints = session.endpoints()?;
    if format == Format::Json {
        output::json(&json!(endpoints));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for line in tree::lines(&branches) {
        let mine = |it: &&Value| wire::text(it, "branch_id") == wire::text(line.branch, "id");
        for endpoint in endpoints.iter().filter(mine) {
            rows.push(vec![
                wire::text(line.branch, "name").to_owned(),
                wire::text(endpoint, "id").to_owned(),
                wire::text(endpoint, "current_state").to_owned(),
                wire::text(endpoint, "host").to_owned(),
                wire::some_text(endpoint, "started_at").map_or("-".to_owned(), |time| output::age(time, now)),
                wire::endpoint_note(endpoint),
            ]);
        }
    }
    output::table(&["BRANCH", "ENDPOINT", "STATE", "HOST", "STARTED", "NOTE"], &rows);
    Ok(())
}
