//! `scion branch reset | restore | rename | protect | set-default | expire | recover`: the same branch, with other data
//! or other properties.
//!
//! What would destroy data asks first. A branch that is restored to its own past keeps what it held under another name,
//! always.

use std::time::Instant;

use api::branch::{
    Branch, BranchList, BranchOperations, BranchRecoverRequest, BranchRestoreRequest, BranchRestored,
    BranchUpdate, BranchUpdateRequest,
};
use api::percent;
use clap::Args;
use jiff::Zoned;
use serde_json::json;

use crate::args::moment::{self, Moment};
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::Said;
use crate::{confirm, progress};

/// What is lost with the data of a branch.
const WRITTEN: &str = "what was written on it, unless something began on it";

/// Give a branch the data its parent has now.
#[derive(Args)]
pub struct Reset {
    /// Name or id of the branch.
    name: String,
    /// Keep what it holds now as a branch of this name.
    #[arg(long, value_name = "NAME")]
    preserve_as: Option<String>,
    /// Leave subscriptions and scheduled jobs in its new data switched on.
    #[arg(long)]
    no_quarantine: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Give a branch the data of an earlier moment, its own or another branch's.
#[derive(Args)]
pub struct Restore {
    /// Name or id of the branch.
    name: String,
    /// The moment: a log position (0/5A3C1E8), a time (RFC 3339, or local: 14:03:07, "2026-03-01 14:03:07"), or
    /// "5 minutes ago" [default: now, which needs --from].
    #[arg(
        long,
        visible_alias = "at",
        value_name = "LSN|TIME",
        allow_hyphen_values = true,
        required_unless_present = "from"
    )]
    to: Option<String>,
    /// Branch whose data to take [default: the branch itself].
    #[arg(long, value_name = "BRANCH")]
    from: Option<String>,
    /// Keep what it holds now as a branch of this name [default, when it is restored to its own past:
    /// NAME_old_TIME].
    #[arg(long, value_name = "NAME")]
    preserve_as: Option<String>,
    /// Leave subscriptions and scheduled jobs in its new data switched on.
    #[arg(long)]
    no_quarantine: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Reset {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let branch = session.branch(&self.name)?;
        let Some(parent) = &branch.parent_id else {
            let text = format!("branch {} has no parent to reset it to", self.name);
            return Err(Failure::new(Kind::Refused, text)
                .hint("`scion branch restore NAME --to TIME` restores it to its own past"));
        };
        if self.preserve_as.is_none() {
            confirm::destructive(&format!("reset branch {} and lose {WRITTEN}", branch.name), self.yes)?;
        }
        let body = BranchRestoreRequest {
            source_branch_id: parent.clone(),
            preserve_under_name: self.preserve_as.clone(),
            quarantine: self.no_quarantine.then_some(false),
            ..BranchRestoreRequest::default()
        };
        restore(&session, global.output, &branch, body)
    }
}

impl Restore {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let now = Zoned::now();
        let to = self.to.as_deref().map(|text| moment::parse(text, &now)).transpose()?;
        let session = session(global)?;
        let branch = session.branch(&self.name)?;
        let source = match &self.from {
            Some(from) => session.branch(from)?.id.clone(),
            None => branch.id.clone(),
        };
        let name = &branch.name;
        let aside = || format!("{name}_old_{}", now.strftime("%Y-%m-%dT%H:%M:%S"));
        let keep = self.preserve_as.clone().or_else(|| (source == branch.id).then(aside));
        if keep.is_none() {
            confirm::destructive(&format!("restore branch {name} and lose {WRITTEN}"), self.yes)?;
        }
        let (source_lsn, source_timestamp) = match to {
            Some(Moment::Lsn(lsn)) => (Some(lsn), None),
            Some(Moment::Time(time)) => (None, Some(time.to_string())),
            None => (None, None),
        };
        let body = BranchRestoreRequest {
            source_branch_id: source,
            source_lsn,
            source_timestamp,
            preserve_under_name: keep,
            quarantine: self.no_quarantine.then_some(false),
            expires_at: None,
        };
        restore(&session, global.output, &branch, body)
    }
}

fn restore(
    session: &Session,
    format: Format,
    branch: &Branch,
    body: BranchRestoreRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let name = &branch.name;
    let _progress = progress::start(format!("giving branch {name} its new data"));
    let path = session.path(&format!("/branches/{}/restore", percent::encoded(&branch.id)));
    let answer: Said<BranchRestored> =
        session.client.post(&path, body).map_err(in_words_of_the_command_line)?;
    session.client.wait(session.project_id(), &answer.operations)?;
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    let restored = &answer.branch;
    let lsn = restored.parent_lsn.as_deref().unwrap_or_default();
    output::words(&format!(
        "{name}   {}   at {lsn}   ready in {} ms",
        restored.id,
        started.elapsed().as_millis()
    ));
    session.name_history(restored.history_branch_id.as_deref(), "the source")?;
    if let Some(backup) = &answer.backup_branch {
        output::words(&format!("what it held before is branch {}   {}", backup.name, backup.id));
    }
    Ok(())
}

/// The API's hints name its fields; here the same thing is an option.
fn in_words_of_the_command_line(failure: Failure) -> Failure {
    let say = |hint: String| {
        let hint = hint.replace("preserve_under_name", "--preserve-as").replace("source_timestamp", "--to");
        hint.replace("source_lsn", "--to").replace("parent_lsn", "--to").replace("parent_timestamp", "--to")
    };
    Failure { hint: failure.hint.map(say), ..failure }
}

/// Changes a property of a branch; `done` says what was done.
pub fn update(global: &Global, name: &str, wanted: BranchUpdate, done: &str) -> Result<(), Failure> {
    let session = session(global)?;
    let id = percent::encoded(&session.branch(name)?.id);
    let body = BranchUpdateRequest { branch: wanted };
    let answer = session.client.patch(&session.path(&format!("/branches/{id}")), body)?;
    report(global.output, &answer, done);
    Ok(())
}

/// Says when a branch is deleted by itself: a span from now, or never.
pub fn expire(global: &Global, name: &str, after: Option<&str>) -> Result<(), Failure> {
    let at = |at| BranchUpdate { expires_at: Some(at), ..BranchUpdate::default() };
    let Some(after) = after else {
        return update(global, name, at(None), "does not expire");
    };
    let now = Zoned::now();
    let time = moment::after(after, &now)?.to_string();
    let done = format!("expires at {}", output::local_time(&time, &now));
    update(global, name, at(Some(time)), &done)
}

/// Brings the deleted branch called `name` back; of several, the one deleted last.
pub fn recover(global: &Global, name: &str, new_name: Option<&str>) -> Result<(), Failure> {
    let session = session(global)?;
    let all: Said<BranchList> = session.client.get(&session.path("/branches?include_deleted=true"))?;
    let called = all.branches.iter().filter(|branch| branch.name == name || branch.id == name);
    let deleted = called.filter_map(|branch| Some((&branch.recovery.as_ref()?.deleted_at, branch)));
    let (_, branch) = deleted.max_by_key(|(at, _)| *at).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no deleted branch {name}"))
            .hint("a branch can be recovered for 7 days, unless it was deleted with --hard")
    })?;
    let path = session.path(&format!("/branches/{}/recover", percent::encoded(&branch.id)));
    let body = BranchRecoverRequest { name: new_name.map(str::to_owned) };
    let answer = session.client.post(&path, body)?;
    report(global.output, &answer, "is back; `scion endpoint start` gives it an endpoint");
    Ok(())
}

/// Makes a branch the parent of branches that name none.
pub fn set_default(global: &Global, name: &str) -> Result<(), Failure> {
    let session = session(global)?;
    let id = percent::encoded(&session.branch(name)?.id);
    let path = session.path(&format!("/branches/{id}/set_as_default"));
    let answer = session.client.post(&path, json!({}))?;
    report(global.output, &answer, "is the default branch");
    Ok(())
}

fn report(format: Format, answer: &Said<BranchOperations>, done: &str) {
    match format {
        Format::Json => output::json(answer.json_of::<Branch>()),
        Format::Table => output::words(&format!("{} {done}", answer.branch.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_options() {
        let failure = Failure::new(Kind::Refused, "x").hint("give preserve_under_name");
        assert_eq!(in_words_of_the_command_line(failure).hint.as_deref(), Some("give --preserve-as"));
    }
}
