//! `scion branch reset | restore | rename | protect | set-default | expire | recover`: the same branch, with other data
//! or other properties.
//!
//! What would destroy data asks first. A branch that is restored to its own past keeps what it held under another name,
//! always.

use std::time::Instant;

use api::percent;
use clap::Args;
use jiff::Zoned;
use serde_json::{Value, json};

use crate::args::moment::{self, Moment};
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{confirm, progress, wire};

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
        let Some(parent) = wire::some_text(&branch, "parent_id") else {
            let text = format!("branch {} has no parent to reset it to", self.name);
            return Err(Failure::new(Kind::Refused, text)
                .hint("`scion branch restore NAME --to TIME` restores it to its own past"));
        };
        if self.preserve_as.is_none() {
            let what = format!("reset branch {} and lose {WRITTEN}", wire::text(&branch, "name"));
            confirm::destructive(&what, self.yes)?;
        }
        let mut body = json!({ "source_branch_id": parent, "preserve_under_name": self.preserve_as });
        if self.no_quarantine {
            body["quarantine"] = json!(false);
        }
        restore(&session, global.output, &branch, &body)
    }
}

impl Restore {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let now = Zoned::now();
        let to = self.to.as_deref().map(|text| moment::parse(text, &now)).transpose()?;
        let session = session(global)?;
        let branch = session.branch(&self.name)?;
        let own = wire::text(&branch, "id").to_owned();
        let source = match &self.from {
            Some(from) => wire::text(&session.branch(from)?, "id").to_owned(),
            None => own.clone(),
        };
        let name = wire::text(&branch, "name");
        let keep = self
            .preserve_as
            .clone()
            .or_else(|| (source == own).then(|| format!("{name}_old_{}", now.strftime("%Y-%m-%dT%H:%M:%S"))));
        if keep.is_none() {
            confirm::destructive(&format!("restore branch {name} and lose {WRITTEN}"), self.yes)?;
        }
        let mut body = json!({ "source_branch_id": source, "preserve_under_name": keep });
        match to {
            Some(Moment::Lsn(lsn)) => body["source_lsn"] = json!(lsn),
            Some(Moment::Time(time)) => body["source_timestamp"] = json!(time.to_string()),
            None => {}
        }
        if self.no_quarantine {
            body["quarantine"] = json!(false);
        }
        restore(&session, global.output, &branch, &body)
    }
}

fn restore(session: &Session, format: Format, branch: &Value, body: &Value) -> Result<(), Failure> {
    let started = Instant::now();
    let name = wire::text(branch, "name");
    let _progress = progress::start(format!("giving branch {name} its new data"));
    let path = session.path(&format!("/branches/{}/restore", percent::encoded(wire::text(branch, "id"))));
    let answer = session.client.post(&path, body).map_err(in_words_of_the_command_line)?;
    session.client.wait(session.project_id(), &answer)?;
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    let restored = answer.get("branch").unwrap_or(&Value::Null);
    let (lsn, ms) = (wire::text(restored, "parent_lsn"), started.elapsed().as_millis());
    output::words(&format!("{name}   {}   at {lsn}   ready in {ms} ms", wire::text(restored, "id")));
    session.name_history(restored, "history_branch_id", "the source")?;
    if let Some(backup) = answer.get("backup_branch") {
        let (id, backup) = (wire::text(backup, "id"), wire::text(backup, "name"));
        output::words(&format!("what it held before is branch {backup}   {id}"));
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
pub fn update(global: &Global, name: &str, change: &Value, done: &str) -> Result<(), Failure> {
    let session = session(global)?;
    let branch = session.branch(name)?;
    let id = percent::encoded(wire::text(&branch, "id"));
    let body = json!({ "branch": change });
    let answer = session.client.patch(&session.path(&format!("/branches/{id}")), &body)?;
    report(global.output, &answer, done);
    Ok(())
}

/// Says when a branch is deleted by itself: a span from now, or never.
pub fn expire(global: &Global, name: &str, after: Option<&str>) -> Result<(), Failure> {
    let Some(after) = after else {
        return update(global, name, &json!({ "expires_at": null }), "does not expire");
    };
    let now = Zoned::now();
    let at = moment::after(after, &now)?.to_string();
    let done = format!("expires at {}", output::local_time(&at, &now));
    update(global, name, &json!({ "expires_at": at }), &done)
}

/// Brings the deleted branch called `name` back; of several, the one deleted last.
pub fn recover(global: &Global, name: &str, new_name: Option<&str>) -> Result<(), Failure> {
    let session = session(global)?;
    let all = session.client.get(&session.path("/branches?include_deleted=true"))?;
    let deleted_at = |branch: &Value| {
        let recovery = branch.get("recovery")?;
        Some(wire::text(recovery, "deleted_at").to_owned())
    };
    let called = |branch: &&Value| wire::text(branch, "name") == name || wire::text(branch, "id") == name;
    let found = wire::list(&all, "branches").iter().filter(called).filter(|it| deleted_at(it).is_some());
    let branch = found.max_by_key(|branch| deleted_at(branch)).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no deleted branch {name}"))
            .hint("a branch can be recovered for 7 days, unless it was deleted with --hard")
    })?;
    let id = percent::encoded(wire::text(branch, "id"));
    let path = session.path(&format!("/branches/{id}/recover"));
    let answer = session.client.post(&path, &json!({ "name": new_name }))?;
    report(global.output, &answer, "is back; `scion endpoint start` gives it an endpoint");
    Ok(())
}

/// Makes a branch the parent of branches that name none.
pub fn set_default(global: &Global, name: &str) -> Result<(), Failure> {
    let session = session(global)?;
    let branch = session.branch(name)?;
    let id = percent::encoded(wire::text(&branch, "id"));
    let path = session.path(&format!("/branches/{id}/set_as_default"));
    let answer = session.client.post(&path, &json!({}))?;
    report(global.output, &answer, "is the default branch");
    Ok(())
}

fn report(format: Format, answer: &Value, done: &str) {
    let branch = answer.get("branch").unwrap_or(&Value::Null);
    match format {
        Format::Json => output::json(branch),
        Format::Table => output::words(&format!("{} {done}", wire::text(branch, "name"))),
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
