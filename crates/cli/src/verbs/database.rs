//! `scion database`: the databases of a branch.

use api::percent;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{confirm, progress, wire};

/// Create, list, change and delete the databases of a branch.
#[derive(Subcommand)]
pub enum Database {
    /// All databases of a branch, however they were made.
    List {
        /// Name or id of the branch.
        branch: String,
    },
    /// Make a database.
    Create {
        /// Name or id of the branch.
        branch: String,
        /// Name of the database.
        name: String,
        /// Role that is to own it.
        #[arg(long, default_value = "neondb_owner", value_name = "ROLE")]
        owner: String,
    },
    /// Rename a database, which ends its sessions, or give it to another role.
    Change {
        /// Name or id of the branch.
        branch: String,
        /// Name of the database.
        name: String,
        /// Its new name.
        #[arg(long, value_name = "NAME", required_unless_present = "owner")]
        rename: Option<String>,
        /// Role that is to own it.
        #[arg(long, value_name = "ROLE")]
        owner: Option<String>,
    },
    /// Delete a database with all it holds, ending its sessions.
    Delete {
        /// Name or id of the branch.
        branch: String,
        /// Name of the database.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

impl Database {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let format = global.output;
        match self {
            Self::List { branch } => list(&session, format, branch),
            Self::Create { branch, name, owner } => create(&session, format, branch, name, owner),
            Self::Change { branch, name, rename, owner } => {
                let wanted = json!({ "database": { "name": rename, "owner_name": owner } });
                change(&session, format, branch, name, &wanted)
            }
            Self::Delete { branch, name, yes } => delete(&session, format, branch, name, *yes),
        }
    }
}

fn list(session: &Session, format: Format, branch: &str) -> Result<(), Failure> {
    let answer = session.client.get(&session.path_in_branch(branch, "databases")?.0)?;
    let found = wire::list(&answer, "databases");
    if format == Format::Json {
        output::json(&json!(found));
        return Ok(());
    }
    let now = Timestamp::now();
    let row = |database: &Value| {
        let text = |field| wire::text(database, field).to_owned();
        vec![text("name"), text("owner_name"), output::age(wire::text(database, "created_at"), now)]
    };
    output::table(&["NAME", "OWNER", "KNOWN SINCE"], &found.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

fn create(session: &Session, format: Format, branch: &str, name: &str, owner: &str) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let progress = progress::start(format!("making database {name} on {branch}"));
    let answer = session.client.post(&path, &json!({ "database": { "name": name, "owner_name": owner } }))?;
    session.client.wait(session.project_id(), &answer)?;
    drop(progress);
    show(format, &answer, &format!("made database {name} on {branch}, owned by {owner}"));
    Ok(())
}

fn change(
    session: &Session,
    format: Format,
    branch: &str,
    name: &str,
    wanted: &Value,
) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let answer = session.client.patch(&format!("{path}/{}", percent::encoded(name)), wanted)?;
    session.client.wait(session.project_id(), &answer)?;
    let now = answer.get("database").unwrap_or(&Value::Null);
    let words =
        format!("{} on {branch}, owned by {}", wire::text(now, "name"), wire::text(now, "owner_name"));
    show(format, &answer, &words);
    Ok(())
}

fn show(format: Format, answer: &Value, words: &str) {
    match format {
        Format::Json => output::json(answer.get("database").unwrap_or(&Value::Null)),
        Format::Table => output::words(words),
    }
}

fn delete(session: &Session, format: Format, branch: &str, name: &str, yes: bool) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let database = format!("{path}/{}", percent::encoded(name));
    session.client.get(&database)?;
    confirm::destructive(&format!("delete database {name} of {branch} and all it holds"), yes)?;
    let answer = session.client.delete(&database)?;
    session.client.wait(session.project_id(), &answer)?;
    match format {
        Format::Json => output::json(&answer),
        Format::Table => output::words(&format!("deleted database {name} of {branch}")),
    }
    Ok(())
}
