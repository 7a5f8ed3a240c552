//! `scion snapshot`: moments of a branch that keep their data, whatever becomes of the branch.

mod schedule;

use std::time::Instant;

use api::percent;
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::{Value, json};

use crate::args::moment::{self, Moment};
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::verbs::snapshot::schedule::Schedule;
use crate::{confirm, progress, wire};

/// Make, plan, list, change, restore and delete snapshots.
#[derive(Subcommand)]
pub enum Snapshot {
    /// Keep a moment of a branch under a name.
    Create(Create),
    /// All snapshots.
    List,
    /// Make a branch of a snapshot.
    Restore(Restore),
    /// Let a branch that was made of a snapshot take the place it was made for: name, endpoint, connection string.
    Finalize {
        /// Name or id of the restored branch.
        branch: String,
        /// New name for the branch that loses its place [default: NAME (old)].
        #[arg(long, value_name = "NAME")]
        old_as: Option<String>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Rename a snapshot, or say when it is deleted by itself.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Update {
        /// Name or id of the snapshot.
        name: String,
        /// Its new name.
        #[arg(long, value_name = "NAME", group = "what")]
        rename: Option<String>,
        /// Delete it so long from now: "30 days", "1 year".
        #[arg(long, value_name = "SPAN", group = "what", conflicts_with = "never_expire")]
        expire_in: Option<String>,
        /// Do not delete it by itself.
        #[arg(long, group = "what")]
        never_expire: bool,
    },
    /// Make snapshots of a branch at planned times.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Delete a snapshot; branches that were made of it stay.
    Delete {
        /// Name or id of the snapshot.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Keep a moment of a branch under a name.
#[derive(Args)]
pub struct Create {
    /// Name of the snapshot [default: name of the branch and the time].
    name: Option<String>,
    /// Branch to make it of [default: the project's default branch].
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// The moment: a log position (0/5A3C1E8), a time (RFC 3339, or local: 14:03:07, "2026-03-01 14:03:07"), or
    /// "5 minutes ago" [default: now].
    #[arg(long, value_name = "LSN|TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// Delete it by itself after so long: "30 days", "1 year" [default: never].
    #[arg(long, value_name = "SPAN")]
    expire_in: Option<String>,
}

/// Make a branch of a snapshot.
#[derive(Args)]
pub struct Restore {
    /// Name or id of the snapshot.
    name: String,
    /// Name of the new branch [default: made of the snapshot's name].
    #[arg(long = "as", value_name = "NAME")]
    branch: Option<String>,
    /// Branch whose place it is to take, now or when it is finalized [default: the one the snapshot was made of].
    #[arg(long, value_name = "BRANCH")]
    target: Option<String>,
    /// Take that place at once, without a look at the data first.
    #[arg(long)]
    finalize: bool,
    /// Make the branch only; `scion endpoint start` gives it an endpoint later.
    #[arg(long, conflicts_with = "finalize")]
    no_compute: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Snapshot {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(global),
            Self::List => list(&session(global)?, global.output),
            Self::Restore(restore) => restore.run(global),
            Self::Finalize { branch, old_as, yes } => {
                finalize(&session(global)?, global.output, branch, old_as.as_deref(), *yes)
            }
            Self::Update { name, rename, expire_in, never_expire } => {
                let mut wanted = json!({ "name": rename });
                if let Some(span) = expire_in {
                    wanted["expires_at"] = json!(moment::after(span, &Zoned::now())?.to_string());
                } else if *never_expire {
                    wanted["expires_at"] = Value::Null;
                }
                update(&session(global)?, global.output, name, wanted)
            }
            Self::Schedule(schedule) => schedule.run(global),
            Self::Delete { name, yes } => delete(&session(global)?, global.output, name, *yes),
        }
    }
}

impl Create {
    fn run(&self, global: &Global) -> Result<(), Failure> {
        let now = Zoned::now();
        let at = self.at.as_deref().map(|text| moment::parse(text, &now)).transpose()?;
        let expires_at = self.expire_in.as_deref().map(|span| moment::after(span, &now)).transpose()?;
        let session = session(global)?;
        let branch = match &self.branch {
            Some(name) => session.branch(name)?,
            None => session.default_branch()?,
        };
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(self.name.clone().map(|name| ("name", name)));
        match at {
            Some(Moment::Lsn(lsn)) => query.push(("lsn", lsn)),
            Some(Moment::Time(time)) => query.push(("timestamp", time.to_string())),
            None => {}
        }
        query.extend(expires_at.map(|at| ("expires_at", at.to_string())));
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", percent::encoded(value))).collect();
        let id = percent::encoded(wire::text(&branch, "id"));
        let path = session.path(&format!("/branches/{id}/snapshot?{}", query.join("&")));
        let answer = session.client.post(&path, &json!({}))?;
        let made = answer.get("snapshot").unwrap_or(&Value::Null);
        if global.output == Format::Json {
            output::json(made);
            return Ok(());
        }
        let (name, lsn) = (wire::text(made, "name"), wire::text(made, "lsn"));
        output::words(&format!("{name}   of {} at {lsn}", wire::text(&branch, "name")));
        session.name_history(made, "history_branch_id", wire::text(&branch, "name"))?;
        output::data(wire::text(made, "id"));
        Ok(())
    }
}

impl Restore {
    fn run(&self, global: &Global) -> Result<(), Failure> {
        let started = Instant::now();
        let session = session(global)?;
        let snapshot = find(&session, &self.name)?;
        let name = wire::text(&snapshot, "name");
        let target = self.target.as_deref().map(|target| session.branch(target)).transpose()?;
        if self.finalize {
            let whose = match &target {
                Some(target) => wire::text(target, "name").to_owned(),
                None => "its source".to_owned(),
            };
            confirm::destructive(&format!("let snapshot {name} take the place of {whose}"), self.yes)?;
        }
        let mut body = json!({ "name": self.branch, "finalize_restore": self.finalize });
        if let Some(target) = &target {
            body["target_branch_id"] = json!(wire::text(target, "id"));
        }
        if self.no_compute {
            body["endpoints"] = json!([]);
        }
        let progress = progress::start(format!("making a branch of snapshot {name}"));
        let id = percent::encoded(wire::text(&snapshot, "id"));
        let answer = session.client.post(&session.path(&format!("/snapshots/{id}/restore")), &body)?;
        session.client.wait(session.project_id(), &answer)?;
        drop(progress);
        if global.output == Format::Json {
            output::json(&answer);
            return Ok(());
        }
        let branch = answer.get("branch").unwrap_or(&Value::Null);
        let (made, ms) = (wire::text(branch, "name"), started.elapsed().as_millis());
        output::words(&format!(
            "{made}   {}   from snapshot {name}   ready in {ms} ms",
            wire::text(branch, "id")
        ));
        report_replaced(&answer);
        match wire::list(&answer, "connection_uris") {
            [] => output::data(wire::text(branch, "id")),
            uris => uris.iter().for_each(|details| output::data(wire::text(details, "connection_uri"))),
        }
        Ok(())
    }
}

fn report_replaced(answer: &Value) {
    if let Some(old) = answer.get("replaced_branch") {
        let (id, old) = (wire::text(old, "id"), wire::text(old, "name"));
        output::words(&format!("the previous branch is now called {old}   {id}"));
    }
}

fn finalize(
    session: &Session,
    format: Format,
    branch: &str,
    old_as: Option<&str>,
    yes: bool,
) -> Result<(), Failure> {
    let restored = session.branch(branch)?;
    let target = wire::some_text(&restored, "restored_as").map(|id| session.branch_name(id)).transpose()?;
    let whose = target.as_deref().unwrap_or("the branch it was made for");
    confirm::destructive(&format!("let branch {branch} take the place of {whose}"), yes)?;
    let id = percent::encoded(wire::text(&restored, "id"));
    let path = session.path(&format!("/branches/{id}/finalize_restore"));
    let answer = session.client.post(&path, &json!({ "name": old_as }))?;
    session.client.wait(session.project_id(), &answer)?;
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    let branch = answer.get("branch").unwrap_or(&Value::Null);
    output::words(&format!("{} is {}", wire::text(branch, "name"), wire::text(branch, "id")));
    report_replaced(&answer);
    Ok(())
}

fn snapshots(session: &Session) -> Result<Vec<Value>, Failure> {
    let answer = session.client.get(&session.path("/snapshots"))?;
    Ok(wire::list(&answer, "snapshots").to_vec())
}

fn find(session: &Session, wanted: &str) -> Result<Value, Failure> {
    let all = snapshots(session)?;
    let called = |it: &&Value| ["name", "id", "slug"].iter().any(|field| wire::text(it, field) == wanted);
    all.iter().find(called).cloned().ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no snapshot {wanted}"))
            .hint("`scion snapshot list` shows all")
    })
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let found = snapshots(session)?;
    if format == Format::Json {
        output::json(&json!(found));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Zoned::now();
    let time = |it: &Value, field| wire::some_text(it, field).map(|text| output::local_time(text, &now));
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|it| {
            let source = wire::text(it, "source_branch_id");
            let known = branches.iter().find(|branch| wire::text(branch, "id") == source);
            vec![
                wire::text(it, "name").to_owned(),
                known.map_or(source, |branch| wire::text(branch, "name")).to_owned(),
                wire::text(it, "lsn").to_owned(),
                wire::number(it, "full_size").map_or_else(|| "-".to_owned(), output::bytes),
                time(it, "timestamp").unwrap_or_else(|| "-".to_owned()),
                time(it, "expires_at").unwrap_or_else(|| "never".to_owned()),
                output::age(wire::text(it, "created_at"), now.timestamp()),
            ]
        })
        .collect();
    output::table(&["NAME", "BRANCH", "AT", "SIZE", "LAST COMMIT", "EXPIRES", "CREATED"], &rows);
    Ok(())
}

fn update(session: &Session, format: Format, name: &str, wanted: Value) -> Result<(), Failure> {
    let snapshot = find(session, name)?;
    let id = percent::encoded(wire::text(&snapshot, "id"));
    let path = session.path(&format!("/snapshots/{id}"));
    let answer = session.client.patch(&path, &json!({ "snapshot": wanted }))?;
    let changed = answer.get("snapshot").unwrap_or(&Value::Null);
    match format {
        Format::Json => output::json(changed),
        Format::Table => {
            let expires = wire::some_text(changed, "expires_at");
            let expires = expires.map_or("never".to_owned(), |text| output::local_time(text, &Zoned::now()));
            output::words(&format!("{}   expires {expires}", wire::text(changed, "name")));
        }
    }
    Ok(())
}

fn delete(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let snapshot = find(session, name)?;
    let name = wire::text(&snapshot, "name");
    confirm::destructive(&format!("delete snapshot {name}"), yes)?;
    let id = percent::encoded(wire::text(&snapshot, "id"));
    let answer = session.client.delete(&session.path(&format!("/snapshots/{id}")))?;
    match format {
        Format::Json => output::json(&answer),
        Format::Table => output::words(&format!("deleted snapshot {name}")),
    }
    Ok(())
}
