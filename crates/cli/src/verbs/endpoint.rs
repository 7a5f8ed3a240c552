//! `scion endpoint`: the Postgres servers of branches.

use std::time::Instant;

use api::percent;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::setting::{Setting, changed};
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{confirm, progress, tree, wire};

/// Start, stop, change, list and delete the Postgres servers of branches.
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
        /// Do not ask, whatever replication slots it has.
        #[arg(short, long)]
        yes: bool,
    },
    /// Stop the endpoint of a branch cleanly and start it again.
    Restart {
        /// Name or id of the branch, or id of the endpoint.
        name: String,
        /// Do not ask, whatever replication slots it has.
        #[arg(short, long)]
        yes: bool,
    },
    /// Change the endpoint of a branch; other settings of Postgres restart it if it runs.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Update {
        /// Name or id of the branch, or id of the endpoint.
        name: String,
        /// A setting of Postgres; may be given several times. Those it had are kept.
        #[arg(long, value_name = "NAME=VALUE", group = "what")]
        set: Vec<Setting>,
        /// A setting of Postgres to leave at the project's default again, or Postgres's; may be given several times.
        #[arg(long, value_name = "NAME", group = "what")]
        unset: Vec<String>,
        /// Seconds without activity after which it stops; -1 is never.
        #[arg(long, value_name = "SECONDS", group = "what", allow_negative_numbers = true)]
        suspend_timeout: Option<i64>,
        /// Stop it and let nobody start it, or allow it again.
        #[arg(long, value_name = "true|false", group = "what")]
        disabled: Option<bool>,
        /// Do not ask, whatever replication slots it has.
        #[arg(short, long)]
        yes: bool,
    },
    /// All endpoints of the project.
    List,
    /// Delete the endpoint of a branch, with its connection string; the branch and its data stay.
    Delete {
        /// Name or id of the branch, or id of the endpoint.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

impl Endpoint {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        match self {
            Self::Start { name } => start(&session, global.output, name),
            Self::Stop { name, yes } => stop(&session, global.output, name, *yes),
            Self::Restart { name, yes } => restart(&session, global.output, name, *yes),
            Self::Update { name, set, unset, suspend_timeout, disabled, yes } => {
                let wanted = json!({ "suspend_timeout_seconds": suspend_timeout, "disabled": disabled });
                update(&session, global.output, name, (wanted, set, unset), *yes)
            }
            Self::List => list(&session, global.output),
            Self::Delete { name, yes } => delete(&session, global.output, name, *yes),
        }
    }
}

fn start(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let _progress = progress::start(format!("starting the endpoint of {name}"));
    let answer = match existing(session, name)? {
        Ok(endpoint) => {
            let id = percent::encoded(wire::text(&endpoint, "id"));
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
    if let Some(endpoint) = session.endpoint_with_id(name)? {
        return Ok(Ok(endpoint));
    }
    let branch = session.branch(name)?;
    Ok(session.endpoint_of(wire::text(&branch, "id"))?.ok_or(branch))
}

fn stop(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let endpoint = session.endpoint(name)?;
    let id = percent::encoded(wire::text(&endpoint, "id"));
    may_drop_slots(session, "stop", &id, yes)?;
    let started = Instant::now();
    let _progress = progress::start(format!("stopping endpoint {id}: waiting for its last WAL to be stored"));
    let answer = session.client.post(&session.path(&format!("/endpoints/{id}/suspend")), &json!({}))?;
    session.client.wait(session.project_id(), &answer)?;
    finish(format, &answer, &format!("stopped in {} ms", started.elapsed().as_millis()));
    Ok(())
}

fn restart(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let endpoint = session.endpoint(name)?;
    let id = percent::encoded(wire::text(&endpoint, "id"));
    may_drop_slots(session, "restart", &id, yes)?;
    let started = Instant::now();
    let _progress = progress::start(format!("restarting endpoint {id}"));
    let answer = session.client.post(&session.path(&format!("/endpoints/{id}/restart")), &json!({}))?;
    session.client.wait(session.project_id(), &answer)?;
    finish(format, &answer, &format!("active in {} ms", started.elapsed().as_millis()));
    Ok(())
}

fn disabled_by(wanted: &Value) -> bool {
    wanted.get("disabled") == Some(&Value::Bool(true))
}

/// Asks before an endpoint ends whose Postgres has logical replication slots: they end with it, and who subscribes by one
/// misses what is written from then on. `id` is as it is in a path.
fn may_drop_slots(session: &Session, what: &str, id: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let asked = session.client.get(&session.path(&format!("/endpoints/{id}/replication_slots")));
    let slots = match asked {
        Ok(answer) => answer,
        Err(failure) => {
            let why = &failure.message;
            let unknown =
                format!("{what} endpoint {id}, whose replication slots could not be listed ({why})");
            return confirm::destructive(&unknown, yes);
        }
    };
    let slots = wire::list(&slots, "replication_slots").iter();
    let logical = slots.filter(|slot| wire::text(slot, "slot_type") == "logical");
    let names: Vec<&str> = logical.map(|slot| wire::text(slot, "slot_name")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let dropped = names.join(", ");
    confirm::destructive(
        &format!(
            "{what} endpoint {id} and drop its replication slots, whose subscribers then miss rows: {dropped}"
        ),
        yes,
    )
}

fn delete(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let endpoint = session.endpoint(name)?;
    let id = wire::text(&endpoint, "id");
    confirm::destructive(&format!("delete endpoint {id} at {}", wire::text(&endpoint, "host")), yes)?;
    let _progress = progress::start(format!("stopping endpoint {id}: waiting for its last WAL to be stored"));
    let path = session.path(&format!("/endpoints/{}", percent::encoded(id)));
    let answer = session.client.delete(&path)?;
    finish(format, &answer, "deleted");
    Ok(())
}

fn update(
    session: &Session,
    format: Format,
    name: &str,
    (mut wanted, set, unset): (Value, &[Setting], &[String]),
    yes: bool,
) -> Result<(), Failure> {
    let endpoint = session.endpoint(name)?;
    if !set.is_empty() || !unset.is_empty() {
        let mut all = endpoint.get("settings").cloned().unwrap_or_default();
        all["pg_settings"] = changed(all.get("pg_settings"), set, unset);
        wanted["settings"] = all;
    }
    let id = percent::encoded(wire::text(&endpoint, "id"));
    let before = endpoint.get("settings").and_then(|settings| settings.get("pg_settings"));
    let restarts = wanted.pointer("/settings/pg_settings").is_some_and(|after| Some(after) != before);
    if restarts || disabled_by(&wanted) {
        may_drop_slots(session, if restarts { "restart" } else { "stop" }, &id, yes)?;
    }
    let _progress = progress::start(format!("changing endpoint {id}"));
    let answer =
        session.client.patch(&session.path(&format!("/endpoints/{id}")), &json!({ "endpoint": wanted }))?;
    session.client.wait(session.project_id(), &answer)?;
    finish(format, &answer, "changed");
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
