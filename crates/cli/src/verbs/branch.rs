//! `scion branch`: copy-on-write clones of a whole cluster, from now or from any past moment.

mod change;

use std::time::Instant;

use api::branch::{
    Branch as Made, BranchCreate, BranchCreateRequest, BranchCreated, BranchOperations, BranchUpdate,
};
use api::endpoint::{BranchEndpointCreate, Endpoint, EndpointOptions, EndpointType};
use api::operation::OperationStatus;
use api::percent;
use clap::{Args, Subcommand};
use jiff::{Timestamp, Zoned};

use crate::args::moment::{self, Moment};
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::verbs::branch::change::{Reset, Restore};
use crate::wire::{self, Said};
use crate::{confirm, progress, tree};

/// Create, list, show, reset, restore, change and delete branches.
#[derive(Subcommand)]
pub enum Branch {
    /// Make a branch with its own endpoint.
    Create(Create),
    /// All branches, as a tree.
    List,
    /// One branch.
    Get {
        /// Name or id of the branch.
        name: String,
    },
    /// Give a branch the data its parent has now; its id and connection string stay.
    Reset(Reset),
    /// Give a branch the data of an earlier moment; its id and connection string stay.
    Restore(Restore),
    /// Give a branch another name.
    Rename {
        /// Name or id of the branch.
        name: String,
        /// The new name.
        new_name: String,
    },
    /// Protect a branch from being deleted, reset or restored.
    Protect {
        /// Name or id of the branch.
        name: String,
        /// Take the protection away.
        #[arg(long)]
        off: bool,
    },
    /// Make a branch the parent of branches that name none.
    SetDefault {
        /// Name or id of the branch.
        name: String,
    },
    /// Delete a branch automatically after a time.
    #[command(group(clap::ArgGroup::new("when").required(true)))]
    Expire {
        /// Name or id of the branch.
        name: String,
        /// Time from now: "2h", "3 days". A reset starts the time again.
        #[arg(long = "in", value_name = "SPAN", group = "when")]
        after: Option<String>,
        /// Never delete the branch automatically.
        #[arg(long, group = "when")]
        never: bool,
    },
    /// Delete a branch and its endpoint; it can be recovered for 7 days.
    Delete {
        /// Name or id of the branch.
        name: String,
        /// Delete all branches that begin on the branch as well.
        #[arg(long)]
        recursive: bool,
        /// Delete for good: the data is removed at once and cannot be recovered.
        #[arg(long)]
        hard: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Bring a deleted branch back.
    Recover {
        /// Name or id of the deleted branch.
        name: String,
        /// Another name for it, if its own was taken meanwhile.
        #[arg(long = "as", value_name = "NAME")]
        new_name: Option<String>,
    },
}

/// Make a branch with its own endpoint.
#[derive(Args)]
pub struct Create {
    /// Name of the new branch.
    name: String,
    /// Branch to make it from [default: the project's default branch].
    #[arg(long, value_name = "BRANCH")]
    parent: Option<String>,
    /// Where in the parent's history: a log position (0/5A3C1E8), a time (RFC 3339, or local: 14:03:07,
    /// "2026-03-01 14:03:07"), or "5 minutes ago" [default: now].
    #[arg(long, value_name = "LSN|TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// Make the branch only; `scion endpoint start` gives it an endpoint later.
    #[arg(long)]
    no_compute: bool,
    /// Create a read-only endpoint: nobody can write on it, whatever their rights in Postgres.
    #[arg(long, conflicts_with = "no_compute")]
    read_only: bool,
    /// Take roles, databases and schemas but no data. The branch has no parent then.
    #[arg(long)]
    schema_only: bool,
    /// Delete the branch automatically after a time: "2h", "3 days" [default: never].
    #[arg(long, value_name = "SPAN", conflicts_with = "protected")]
    expire_in: Option<String>,
    /// Protect it from deletion and restore.
    #[arg(long)]
    protected: bool,
    /// What to do if a branch of this name exists: return it as it is, or reset it to the data asked for [default: fail].
    #[arg(long, value_name = "WHAT")]
    if_exists: Option<IfExists>,
    /// Leave the parent's subscriptions and scheduled jobs switched on; they then run on both branches.
    #[arg(long)]
    no_quarantine: bool,
    /// Wait until the endpoint accepts connections; this is the default.
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Return as soon as the branch exists.
    #[arg(long)]
    no_wait: bool,
}

/// What to do with an existing branch of the name.
#[derive(Clone, Copy, clap::ValueEnum)]
enum IfExists {
    /// Return the branch as it is.
    Return,
    /// Reset the branch to the data asked for.
    Reset,
}

impl Branch {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(global),
            Self::List => list(&session(global)?, global.output),
            Self::Get { name } => get(&session(global)?, global.output, name),
            Self::Reset(reset) => reset.run(global),
            Self::Restore(restore) => restore.run(global),
            Self::Rename { name, new_name } => {
                let wanted = BranchUpdate { name: Some(new_name.clone()), ..BranchUpdate::default() };
                change::update(global, name, wanted, "is its name now")
            }
            Self::Protect { name, off } => {
                let done = if *off { "is not protected any more" } else { "is protected" };
                let wanted = BranchUpdate { protected: Some(!off), ..BranchUpdate::default() };
                change::update(global, name, wanted, done)
            }
            Self::SetDefault { name } => change::set_default(global, name),
            Self::Expire { name, after, .. } => change::expire(global, name, after.as_deref()),
            Self::Delete { name, recursive, hard, yes } => {
                let how = format!("?recursive={recursive}&hard_delete={hard}");
                delete(&session(global)?, global.output, (name, &how), *yes)
            }
            Self::Recover { name, new_name } => change::recover(global, name, new_name.as_deref()),
        }
    }
}

impl Create {
    fn run(&self, global: &Global) -> Result<(), Failure> {
        let started = Instant::now();
        let now = Zoned::now();
        let at = self.at.as_deref().map(|text| moment::parse(text, &now)).transpose()?;
        let session = session(global)?;
        let body = self.body(&session, at.as_ref(), &now)?;
        let progress = progress::start(format!("making branch {}", self.name));
        let path = session.path(match self.if_exists {
            None => "/branches",
            Some(IfExists::Return) => "/branches?on_conflict=return",
            Some(IfExists::Reset) => "/branches?on_conflict=reset",
        });
        let mut answer: Said<BranchCreated> =
            session.client.post(&path, body).map_err(in_words_of_the_command_line)?;
        let created_ms = started.elapsed().as_millis();
        if !self.no_wait {
            session.client.wait(session.project_id(), &answer.operations)?;
            refresh(&session, &mut answer)?;
        }
        drop(progress);
        if global.output == Format::Json {
            output::json(answer.json());
            return Ok(());
        }
        let time = if self.no_compute || self.no_wait {
            format!("created in {created_ms} ms")
        } else {
            format!("ready in {} ms", started.elapsed().as_millis())
        };
        self.report(&session, &answer, &time, &now)
    }

    fn body(
        &self,
        session: &Session,
        at: Option<&Moment>,
        now: &Zoned,
    ) -> Result<BranchCreateRequest, Failure> {
        let parent = self.parent.as_deref().map(|parent| session.branch(parent)).transpose()?;
        let expires_at = self.expire_in.as_deref().map(|span| moment::after(span, now)).transpose()?;
        let (parent_lsn, parent_timestamp) = match at {
            Some(Moment::Lsn(lsn)) => (Some(lsn.clone()), None),
            Some(Moment::Time(time)) => (None, Some(time.to_string())),
            None => (None, None),
        };
        let branch = BranchCreate {
            name: Some(self.name.clone()),
            parent_id: parent.map(|parent| parent.id.clone()),
            parent_lsn,
            parent_timestamp,
            protected: self.protected.then_some(true),
            init_source: self.schema_only.then(|| "schema-only".to_owned()),
            quarantine: self.no_quarantine.then_some(false),
            expires_at: expires_at.map(|at| at.to_string()),
        };
        let kind = if self.read_only { EndpointType::ReadOnly } else { EndpointType::ReadWrite };
        let endpoint = BranchEndpointCreate { kind, options: EndpointOptions::default() };
        let endpoints = if self.no_compute { Vec::new() } else { vec![endpoint] };
        Ok(BranchCreateRequest { branch, endpoints, annotation_value: None })
    }

    fn report(
        &self,
        session: &Session,
        answer: &BranchCreated,
        time: &str,
        now: &Zoned,
    ) -> Result<(), Failure> {
        let branch = &answer.branch;
        let name_and_id = format!("{}   {}", branch.name, branch.id);
        if matches!(self.if_exists, Some(IfExists::Return)) && answer.operations.is_empty() {
            output::words(&format!("{name_and_id}   was there already"));
            print_addresses(answer);
            return Ok(());
        }
        let parent = match (&self.parent, &branch.parent_id) {
            (Some(parent), _) => parent.clone(),
            (None, _) if self.schema_only => session.default_branch()?.name.clone(),
            (None, Some(id)) => session.branch_name(id)?,
            (None, None) => String::new(),
        };
        if self.schema_only {
            output::words(&format!("{name_and_id}   the schema of {parent}, and no data   {time}"));
            print_addresses(answer);
            return Ok(());
        }
        let when = match (&self.at, &branch.parent_timestamp) {
            (None, _) => "now".to_owned(),
            (Some(_), Some(commit)) => format!("last commit {}", precise(commit, now)),
            (Some(_), None) => "no commit before it".to_owned(),
        };
        let at = branch.parent_lsn.as_deref().unwrap_or_default();
        output::words(&format!("{name_and_id}   from {parent} at {at} ({when})   {time}"));
        session.name_history(branch.history_branch_id.as_deref(), &parent)?;
        if let Some(asked) = &branch.requested_lsn {
            output::words(&format!(
                "{asked} is inside a record, so the branch begins at the end of the one before"
            ));
        }
        print_addresses(answer);
        Ok(())
    }
}

/// What to connect to, or the id if there is no endpoint.
fn print_addresses(answer: &BranchCreated) {
    match answer.connection_uris.as_slice() {
        [] => output::data(&answer.branch.id),
        uris => uris.iter().for_each(|details| output::data(&details.connection_uri)),
    }
}

/// The API's hints name its fields; here the same thing is an option.
fn in_words_of_the_command_line(failure: Failure) -> Failure {
    let say = |hint: String| hint.replace("parent_lsn", "--at").replace("parent_timestamp", "--at");
    Failure { hint: failure.hint.map(say), ..failure }
}

/// Puts the finished state of what was made into `answer`, for those who read it as JSON.
fn refresh(session: &Session, answer: &mut Said<BranchCreated>) -> Result<(), Failure> {
    if answer.operations.iter().all(|operation| operation.status == OperationStatus::Finished) {
        return Ok(());
    }
    let fresh = session
        .client
        .one::<Made>(&session.path(&format!("/branches/{}", percent::encoded(&answer.branch.id))))?;
    answer.renew(fresh, |answer| &mut answer.branch);
    Ok(())
}

/// A commit time with its fraction, in local time.
fn precise(text: &str, now: &Zoned) -> String {
    let local = output::local_time(text, now);
    match text.parse::<Timestamp>() {
        Ok(time) => format!("{local}.{:03}", time.subsec_millisecond()),
        Err(_) => local,
    }
}

const HEADER: [&str; 6] = ["NAME", "PARENT", "FROM", "STATE", "OWN DATA", "CREATED"];

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let branches = session.branches()?;
    if format == Format::Json {
        output::json(&wire::array(&branches));
        return Ok(());
    }
    let endpoints = session.endpoints()?;
    let now = Zoned::now();
    let rows: Vec<Vec<String>> = tree::lines(&branches)
        .into_iter()
        .map(|line| {
            vec![
                line.drawn,
                line.parent.map_or("-", |parent| &parent.name).to_owned(),
                from(line.branch, &now),
                state(line.branch, &endpoints),
                own_data(line.branch),
                output::age(&line.branch.created_at, now.timestamp()),
            ]
        })
        .collect();
    output::table(&HEADER, &rows);
    Ok(())
}

/// Bytes of data that a branch holds and its parent does not.
fn own_data(branch: &Made) -> String {
    branch.own_data_bytes.map_or_else(|| "-".to_owned(), |bytes| output::bytes(wire::unsigned(bytes)))
}

fn from(branch: &Made, now: &Zoned) -> String {
    match (&branch.parent_lsn, &branch.parent_timestamp) {
        (Some(lsn), Some(time)) => format!("{} ({lsn})", output::local_time(time, now)),
        (Some(lsn), None) => lsn.clone(),
        (None, _) => "-".to_owned(),
    }
}

/// What its endpoint does; the branch's own state while that is not `ready`.
fn state(branch: &Made, endpoints: &[Said<Endpoint>]) -> String {
    if branch.current_state != "ready" {
        return branch.current_state.clone();
    }
    match endpoints.iter().find(|endpoint| endpoint.branch_id == branch.id) {
        Some(endpoint) => wire::word(endpoint.current_state),
        None => "no endpoint".to_owned(),
    }
}

fn get(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let id = percent::encoded(&session.branch(name)?.id);
    let branch = session.client.one::<Made>(&session.path(&format!("/branches/{id}")))?;
    if format == Format::Json {
        output::json(branch.json());
        return Ok(());
    }
    let now = Zoned::now();
    let endpoint = session.endpoint_of(&branch.id)?;
    let name_of = |id: &Option<String>| id.as_deref().map(|id| session.branch_name(id)).transpose();
    let parent = name_of(&branch.parent_id)?;
    let history = name_of(&branch.history_branch_id)?.map(|name| ("history of", name));
    let or_dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let rows = [
        ("name", branch.name.clone()),
        ("id", branch.id.clone()),
        ("parent", or_dash(parent.as_ref())),
        ("from", from(&branch, &now)),
        ("head", or_dash(branch.head_lsn.as_ref())),
        ("state", state(&branch, endpoint.as_slice())),
        ("endpoint", or_dash(endpoint.as_ref().map(|endpoint| &endpoint.id))),
        ("host", or_dash(endpoint.as_ref().map(|endpoint| &endpoint.host))),
        ("own data", own_data(&branch)),
        ("created", output::age(&branch.created_at, now.timestamp())),
    ];
    let warnings = branch.warnings.iter().map(|text| ("warning", text.clone()));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .chain(history)
        .chain(warnings)
        .map(|(field, value)| vec![field.to_owned(), value])
        .collect();
    output::table(&["FIELD", "VALUE"], &rows);
    Ok(())
}

fn delete(session: &Session, format: Format, (name, how): (&str, &str), yes: bool) -> Result<(), Failure> {
    let branch = session.branch(name)?;
    let name = &branch.name;
    let size = branch.own_data_bytes.map_or_else(String::new, |bytes| {
        format!(" and {} of its own data", output::bytes(wire::unsigned(bytes)))
    });
    confirm::destructive(&format!("delete branch {name}{size}"), yes)?;
    let _progress = progress::start(format!("deleting branch {name}"));
    let id = percent::encoded(&branch.id);
    let path = session.path(&format!("/branches/{id}{how}"));
    let answer: Option<Said<BranchOperations>> = session.client.delete(&path)?;
    if let Some(answer) = &answer {
        session.client.wait(session.project_id(), &answer.operations)?;
    }
    if format == Format::Json {
        output::json(wire::json_or_null(answer.as_ref()));
    } else {
        output::words(&format!("deleted branch {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::samples::{self, said};
    use serde_json::json;

    #[test]
    fn a_branch_shows_the_state_of_its_endpoint() {
        let branch = |part| said::<Made>(samples::branch(part));
        let endpoints = |part| [said::<Endpoint>(samples::endpoint(part))];
        let ready = branch(json!({"id": "br-1", "current_state": "ready"}));
        let others = endpoints(json!({"branch_id": "br-2", "current_state": "active"}));
        assert_eq!(state(&ready, &others), "no endpoint");
        let own = endpoints(json!({"branch_id": "br-1", "current_state": "idle"}));
        assert_eq!(state(&ready, &own), "idle");
        assert_eq!(state(&branch(json!({"id": "br-1", "current_state": "init"})), &own), "init");
    }

    #[test]
    fn the_position_stands_beside_the_time() {
        let now: Zoned = "2026-03-01T14:05:00+00:00[UTC]".parse().unwrap();
        let branch = json!({"parent_lsn": "0/5A3C1E8", "parent_timestamp": "2026-03-01T14:03:07.512Z"});
        assert_eq!(from(&said(samples::branch(branch)), &now), "14:03:07 (0/5A3C1E8)");
        assert_eq!(from(&said(samples::branch(json!({}))), &now), "-");
        assert_eq!(precise("2026-03-01T14:03:07.512Z", &now), "14:03:07.512");
    }
}
