//! `scion snapshot`: moments of a branch that keep their data, whatever becomes of the branch.

mod schedule;

use std::time::Instant;

use api::branch::Branch;
use api::percent;
use api::snapshot::{
    FinalizeRestoreRequest, RestoreFinalized, Snapshot as Kept, SnapshotCreate, SnapshotOperations,
    SnapshotResponse, SnapshotRestoreRequest, SnapshotRestored, SnapshotUpdate, SnapshotUpdateRequest,
};
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::json;

use crate::args::moment::{self, Moment};
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::verbs::snapshot::schedule::Schedule;
use crate::wire::{self, Said};
use crate::{confirm, progress};

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
                let expire_in = expire_in.as_deref().map(|span| moment::after(span, &Zoned::now()));
                let expires_at = expire_in.transpose()?.map(|at| Some(at.to_string()));
                let expires_at = if *never_expire { Some(None) } else { expires_at };
                let wanted = SnapshotUpdate { name: rename.clone(), expires_at };
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
        let (lsn, timestamp) = match at {
            Some(Moment::Lsn(lsn)) => (Some(lsn), None),
            Some(Moment::Time(time)) => (None, Some(time.to_string())),
            None => (None, None),
        };
        let expires_at = expires_at.map(|at| at.to_string());
        let wanted = SnapshotCreate { name: self.name.clone(), slug: None, lsn, timestamp, expires_at };
        let id = percent::encoded(&branch.id);
        let path = session.path(&format!("/branches/{id}/snapshot?{}", query(&wanted)));
        let answer: Said<SnapshotOperations> = session.client.post(&path, json!({}))?;
        let made = &answer.snapshot;
        if global.output == Format::Json {
            output::json(answer.json_of::<Kept>());
            return Ok(());
        }
        output::words(&format!("{}   of {} at {}", made.name, branch.name, made.lsn));
        session.name_history(made.history_branch_id.as_deref(), &branch.name)?;
        output::data(&made.id);
        Ok(())
    }
}

/// What is wanted, as a query.
fn query(wanted: &SnapshotCreate) -> String {
    let fields = serde_json::to_value(wanted).unwrap_or_default();
    let given = fields.as_object().into_iter().flatten();
    let given =
        given.filter_map(|(name, value)| Some(format!("{name}={}", percent::encoded(value.as_str()?))));
    given.collect::<Vec<_>>().join("&")
}

impl Restore {
    fn run(&self, global: &Global) -> Result<(), Failure> {
        let started = Instant::now();
        let session = session(global)?;
        let snapshot = find(&session, &self.name)?;
        let name = &snapshot.name;
        let target = self.target.as_deref().map(|target| session.branch(target)).transpose()?;
        if self.finalize {
            let whose = target.as_ref().map_or("its source", |target| &target.name);
            confirm::destructive(&format!("let snapshot {name} take the place of {whose}"), self.yes)?;
        }
        let body = SnapshotRestoreRequest {
            name: self.branch.clone(),
            target_branch_id: target.map(|target| target.id.clone()),
            finalize_restore: self.finalize,
            quarantine: None,
            endpoints: self.no_compute.then(Vec::new),
        };
        let progress = progress::start(format!("making a branch of snapshot {name}"));
        let path = session.path(&format!("/snapshots/{}/restore", percent::encoded(&snapshot.id)));
        let answer: Said<SnapshotRestored> = session.client.post(&path, body)?;
        session.client.wait(session.project_id(), &answer.operations)?;
        drop(progress);
        if global.output == Format::Json {
            output::json(answer.json());
            return Ok(());
        }
        let Branch { name: made, id, .. } = &answer.branch;
        let ms = started.elapsed().as_millis();
        output::words(&format!("{made}   {id}   from snapshot {name}   ready in {ms} ms"));
        if let Some(old) = &answer.replaced_branch {
            report_replaced(old);
        }
        match answer.connection_uris.as_slice() {
            [] => output::data(id),
            uris => uris.iter().for_each(|details| output::data(&details.connection_uri)),
        }
        Ok(())
    }
}

fn report_replaced(old: &Branch) {
    output::words(&format!("the previous branch is now called {}   {}", old.name, old.id));
}

fn finalize(
    session: &Session,
    format: Format,
    branch: &str,
    old_as: Option<&str>,
    yes: bool,
) -> Result<(), Failure> {
    let restored = session.branch(branch)?;
    let target = restored.restored_as.as_deref().map(|id| session.branch_name(id)).transpose()?;
    let whose = target.as_deref().unwrap_or("the branch it was made for");
    confirm::destructive(&format!("let branch {branch} take the place of {whose}"), yes)?;
    let path = session.path(&format!("/branches/{}/finalize_restore", percent::encoded(&restored.id)));
    let body = FinalizeRestoreRequest { name: old_as.map(str::to_owned) };
    let answer: Said<RestoreFinalized> = session.client.post(&path, body)?;
    session.client.wait(session.project_id(), &answer.operations)?;
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    output::words(&format!("{} is {}", answer.branch.name, answer.branch.id));
    report_replaced(&answer.replaced_branch);
    Ok(())
}

fn snapshots(session: &Session) -> Result<Vec<Said<Kept>>, Failure> {
    session.client.many(&session.path("/snapshots"))
}

fn find(session: &Session, wanted: &str) -> Result<Said<Kept>, Failure> {
    let called = |it: &Said<Kept>| it.name == wanted || it.id == wanted || it.slug.as_deref() == Some(wanted);
    snapshots(session)?.into_iter().find(called).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no snapshot {wanted}"))
            .hint("`scion snapshot list` shows all")
    })
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let found = snapshots(session)?;
    if format == Format::Json {
        output::json(&wire::array(&found));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Zoned::now();
    let time = |text: &Option<String>| text.as_deref().map(|text| output::local_time(text, &now));
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|it| {
            let source = &it.source_branch_id;
            let known = branches.iter().find(|branch| branch.id == *source);
            vec![
                it.name.clone(),
                known.map_or(source, |branch| &branch.name).clone(),
                it.lsn.clone(),
                it.full_size.map_or_else(|| "-".to_owned(), |size| output::bytes(wire::unsigned(size))),
                time(&it.timestamp).unwrap_or_else(|| "-".to_owned()),
                time(&it.expires_at).unwrap_or_else(|| "never".to_owned()),
                output::age(&it.created_at, now.timestamp()),
            ]
        })
        .collect();
    output::table(&["NAME", "BRANCH", "AT", "SIZE", "LAST COMMIT", "EXPIRES", "CREATED"], &rows);
    Ok(())
}

fn update(session: &Session, format: Format, name: &str, wanted: SnapshotUpdate) -> Result<(), Failure> {
    let path = session.path(&format!("/snapshots/{}", percent::encoded(&find(session, name)?.id)));
    let body = SnapshotUpdateRequest { snapshot: wanted };
    let answer: Said<SnapshotResponse> = session.client.patch(&path, body)?;
    match format {
        Format::Json => output::json(answer.json_of::<Kept>()),
        Format::Table => {
            let expires = answer.snapshot.expires_at.as_deref();
            let expires = expires.map_or("never".to_owned(), |text| output::local_time(text, &Zoned::now()));
            output::words(&format!("{}   expires {expires}", answer.snapshot.name));
        }
    }
    Ok(())
}

fn delete(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let snapshot = find(session, name)?;
    confirm::destructive(&format!("delete snapshot {}", snapshot.name), yes)?;
    let path = session.path(&format!("/snapshots/{}", percent::encoded(&snapshot.id)));
    let answer: Option<Said<SnapshotOperations>> = session.client.delete(&path)?;
    match format {
        Format::Json => output::json(wire::json_or_null(answer.as_ref())),
        Format::Table => output::words(&format!("deleted snapshot {}", snapshot.name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_is_not_asked_for() {
        assert_eq!(query(&SnapshotCreate::default()), "");
        let wanted = SnapshotCreate {
            name: Some("a b".to_owned()),
            lsn: Some("0/5A3C1E8".to_owned()),
            ..SnapshotCreate::default()
        };
        assert_eq!(query(&wanted), "lsn=0%2F5A3C1E8&name=a%20b");
    }
}
