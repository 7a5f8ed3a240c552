//! `scion endpoint`: the Postgres servers of branches.

use std::time::Instant;

use api::branch::Branch;
use api::endpoint::{
    Endpoint as Held, EndpointCreate, EndpointCreateRequest, EndpointOperations, EndpointOptions,
    EndpointType, EndpointUpdateRequest, ReplicationSlotList,
};
use api::percent;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::setting::{Setting, changed};
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};
use crate::{confirm, progress, tree};

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
                let wanted = EndpointOptions {
                    suspend_timeout_seconds: *suspend_timeout,
                    disabled: *disabled,
                    ..EndpointOptions::default()
                };
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
    let answer: Said<EndpointOperations> = match existing(session, name)? {
        Ok(endpoint) => {
            let id = percent::encoded(&endpoint.id);
            session.client.post(&session.path(&format!("/endpoints/{id}/start")), json!({}))?
        }
        Err(branch) => {
            let endpoint = EndpointCreate {
                branch_id: branch.id.clone(),
                kind: EndpointType::ReadWrite,
                options: EndpointOptions::default(),
            };
            session.client.post(&session.path("/endpoints"), EndpointCreateRequest { endpoint })?
        }
    };
    session.client.wait(session.project_id(), &answer.operations)?;
    finish(format, &answer, &format!("active in {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// The endpoint meant by `name`, or else the branch that has none.
fn existing(session: &Session, name: &str) -> Result<Result<Said<Held>, Said<Branch>>, Failure> {
    if let Some(endpoint) = session.endpoint_with_id(name)? {
        return Ok(Ok(endpoint));
    }
    let branch = session.branch(name)?;
    Ok(session.endpoint_of(&branch.id)?.ok_or(branch))
}

fn stop(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let id = percent::encoded(&session.endpoint(name)?.id);
    may_drop_slots(session, "stop", &id, yes)?;
    let started = Instant::now();
    let _progress = progress::start(format!("stopping endpoint {id}: waiting for its last WAL to be stored"));
    let path = session.path(&format!("/endpoints/{id}/suspend"));
    let answer: Said<EndpointOperations> = session.client.post(&path, json!({}))?;
    session.client.wait(session.project_id(), &answer.operations)?;
    finish(format, &answer, &format!("stopped in {} ms", started.elapsed().as_millis()));
    Ok(())
}

fn restart(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let id = percent::encoded(&session.endpoint(name)?.id);
    may_drop_slots(session, "restart", &id, yes)?;
    let started = Instant::now();
    let _progress = progress::start(format!("restarting endpoint {id}"));
    let path = session.path(&format!("/endpoints/{id}/restart"));
    let answer: Said<EndpointOperations> = session.client.post(&path, json!({}))?;
    session.client.wait(session.project_id(), &answer.operations)?;
    finish(format, &answer, &format!("active in {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// Asks before an endpoint ends whose Postgres has logical replication slots: they end with it, and who subscribes by one
/// misses what is written from then on. `id` is as it is in a path.
fn may_drop_slots(session: &Session, what: &str, id: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let path = session.path(&format!("/endpoints/{id}/replication_slots"));
    let slots = match session.client.get::<ReplicationSlotList>(&path) {
        Ok(answer) => answer,
        Err(failure) => {
            let why = &failure.message;
            let unknown =
                format!("{what} endpoint {id}, whose replication slots could not be listed ({why})");
            return confirm::destructive(&unknown, yes);
        }
    };
    let logical = slots.replication_slots.iter().filter(|slot| slot.slot_type == "logical");
    let names: Vec<&str> = logical.map(|slot| slot.slot_name.as_str()).collect();
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
    let id = &endpoint.id;
    confirm::destructive(&format!("delete endpoint {id} at {}", endpoint.host), yes)?;
    let _progress = progress::start(format!("stopping endpoint {id}: waiting for its last WAL to be stored"));
    let path = session.path(&format!("/endpoints/{}", percent::encoded(id)));
    let answer: Option<Said<EndpointOperations>> = session.client.delete(&path)?;
    match answer {
        Some(answer) => finish(format, &answer, "deleted"),
        None => say(format, (&endpoint, &Value::Null), "deleted"),
    }
    Ok(())
}

fn update(
    session: &Session,
    format: Format,
    name: &str,
    (mut wanted, set, unset): (EndpointOptions, &[Setting], &[String]),
    yes: bool,
) -> Result<(), Failure> {
    let endpoint = session.endpoint(name)?;
    let before = endpoint.settings.get("pg_settings");
    let mut restarts = false;
    if !set.is_empty() || !unset.is_empty() {
        let after = changed(before, set, unset);
        restarts = Some(&after) != before;
        let mut all = endpoint.settings.clone();
        all["pg_settings"] = after;
        wanted.settings = Some(all);
    }
    let id = percent::encoded(&endpoint.id);
    if restarts || wanted.disabled == Some(true) {
        may_drop_slots(session, if restarts { "restart" } else { "stop" }, &id, yes)?;
    }
    let _progress = progress::start(format!("changing endpoint {id}"));
    let body = EndpointUpdateRequest { endpoint: wanted };
    let answer: Said<EndpointOperations> =
        session.client.patch(&session.path(&format!("/endpoints/{id}")), body)?;
    session.client.wait(session.project_id(), &answer.operations)?;
    finish(format, &answer, "changed");
    Ok(())
}

fn finish(format: Format, answer: &Said<EndpointOperations>, outcome: &str) {
    say(format, (&answer.endpoint, answer.json_of::<Held>()), outcome);
}

fn say(format: Format, (endpoint, json): (&Held, &Value), outcome: &str) {
    match format {
        Format::Json => output::json(json),
        Format::Table => output::words(&format!("{}   {}   {outcome}", endpoint.id, endpoint.host)),
    }
}

/// What is to be said of an endpoint beside its state: that it cannot be written on, why it is in that state, and the page
/// it could not read last.
fn note(endpoint: &Held) -> String {
    let reader = (endpoint.kind == EndpointType::ReadOnly).then(|| "only reads".to_owned());
    let unreadable = endpoint.last_read_error.as_ref().map(|text| match endpoint.read_errors.len() {
        0 | 1 => format!("last read error: {text}"),
        _ => format!("last read error: {text}; `scion branch get` lists all"),
    });
    let parts = reader.into_iter().chain(endpoint.state_reason.clone()).chain(unreadable);
    parts.collect::<Vec<_>>().join("; ")
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let endpoints = session.endpoints()?;
    if format == Format::Json {
        output::json(&wire::array(&endpoints));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for line in tree::lines(&branches) {
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.branch_id == line.branch.id) {
            rows.push(vec![
                line.branch.name.clone(),
                endpoint.id.clone(),
                wire::word(endpoint.current_state),
                endpoint.host.clone(),
                endpoint.started_at.as_deref().map_or("-".to_owned(), |time| output::age(time, now)),
                note(endpoint),
            ]);
        }
    }
    output::table(&["BRANCH", "ENDPOINT", "STATE", "HOST", "STARTED", "NOTE"], &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::samples::{self, said};

    #[test]
    fn a_note_tells_the_reason_and_the_page_that_could_not_be_read() {
        let note = |part| note(&said(samples::endpoint(part)));
        assert_eq!(note(json!({})), "");
        assert_eq!(note(json!({"type": "read_write", "state_reason": "it died"})), "it died");
        assert_eq!(note(json!({"type": "read_only"})), "only reads");
        let both =
            json!({"state_reason": "it died", "last_read_error": "block 3", "read_errors": ["block 3"]});
        assert_eq!(note(both), "it died; last read error: block 3");
        let many = json!({"last_read_error": "block 3", "read_errors": ["block 2", "block 3"]});
        assert_eq!(note(many), "last read error: block 3; `scion branch get` lists all");
    }
}
