//! `scion database`: the databases of a branch.

use api::database::{
    Database as Held, DatabaseCreate, DatabaseCreateRequest, DatabaseOperations, DatabaseResponse,
    DatabaseUpdate, DatabaseUpdateRequest,
};
use api::percent;
use clap::Subcommand;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};
use crate::{confirm, progress};

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
                let wanted = DatabaseUpdate { name: rename.clone(), owner_name: owner.clone() };
                change(&session, format, branch, name, wanted)
            }
            Self::Delete { branch, name, yes } => delete(&session, format, branch, name, *yes),
        }
    }
}

fn list(session: &Session, format: Format, branch: &str) -> Result<(), Failure> {
    let found = session.client.many::<Held>(&session.path_in_branch(branch, "databases")?.0)?;
    if format == Format::Json {
        output::json(&wire::array(&found));
        return Ok(());
    }
    let now = Timestamp::now();
    let row =
        |it: &Said<Held>| vec![it.name.clone(), it.owner_name.clone(), output::age(&it.created_at, now)];
    output::table(&["NAME", "OWNER", "KNOWN SINCE"], &found.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

fn create(session: &Session, format: Format, branch: &str, name: &str, owner: &str) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let progress = progress::start(format!("making database {name} on {branch}"));
    let database = DatabaseCreate { name: name.to_owned(), owner_name: owner.to_owned() };
    let answer: Said<DatabaseOperations> = session.client.post(&path, DatabaseCreateRequest { database })?;
    session.client.wait(session.project_id(), &answer.operations)?;
    drop(progress);
    show(format, &answer, &format!("made database {name} on {branch}, owned by {owner}"));
    Ok(())
}

fn change(
    session: &Session,
    format: Format,
    branch: &str,
    name: &str,
    wanted: DatabaseUpdate,
) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let path = format!("{path}/{}", percent::encoded(name));
    let body = DatabaseUpdateRequest { database: wanted };
    let answer: Said<DatabaseOperations> = session.client.patch(&path, body)?;
    session.client.wait(session.project_id(), &answer.operations)?;
    let now = &answer.database;
    show(format, &answer, &format!("{} on {branch}, owned by {}", now.name, now.owner_name));
    Ok(())
}

fn show(format: Format, answer: &Said<DatabaseOperations>, words: &str) {
    match format {
        Format::Json => output::json(answer.json_of::<Held>()),
        Format::Table => output::words(words),
    }
}

fn delete(session: &Session, format: Format, branch: &str, name: &str, yes: bool) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "databases")?;
    let database = format!("{path}/{}", percent::encoded(name));
    session.client.get::<DatabaseResponse>(&database)?;
    confirm::destructive(&format!("delete database {name} of {branch} and all it holds"), yes)?;
    let answer: Option<Said<DatabaseOperations>> = session.client.delete(&database)?;
    if let Some(answer) = &answer {
        session.client.wait(session.project_id(), &answer.operations)?;
    }
    match format {
        Format::Json => output::json(wire::json_or_null(answer.as_ref())),
        Format::Table => output::words(&format!("deleted database {name} of {branch}")),
    }
    Ok(())
}
