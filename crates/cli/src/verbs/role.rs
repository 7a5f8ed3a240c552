//! `scion role`: the roles of a branch and their passwords.
//!
//! A password is printed only by the verbs that are asked for one, alone on stdout, so that it can be piped.

use api::percent;
use api::role::{Role as Held, RoleCreate, RoleCreateRequest, RoleOperations, RolePassword, RoleResponse};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};
use crate::{confirm, progress};

/// Create, list and delete the roles of a branch, and their passwords.
#[derive(Subcommand)]
pub enum Role {
    /// All roles of a branch, however they were made.
    List {
        /// Name or id of the branch.
        branch: String,
    },
    /// Make a role and print its password.
    Create {
        /// Name or id of the branch.
        branch: String,
        /// Name of the role.
        name: String,
        /// Make one that may not log in, to be granted to others.
        #[arg(long)]
        no_login: bool,
    },
    /// Print the password of a role.
    Password {
        /// Name or id of the branch.
        branch: String,
        /// Name of the role.
        name: String,
        /// Give it a new one first, which ends its sessions.
        #[arg(long)]
        reset: bool,
    },
    /// Delete a role; what it owns goes to the owner of the database.
    Delete {
        /// Name or id of the branch.
        branch: String,
        /// Name of the role.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

impl Role {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let format = global.output;
        match self {
            Self::List { branch } => list(&session, format, branch),
            Self::Create { branch, name, no_login } => create(&session, format, branch, name, *no_login),
            Self::Password { branch, name, reset } => password(&session, format, branch, name, *reset),
            Self::Delete { branch, name, yes } => delete(&session, format, branch, name, *yes),
        }
    }
}

fn list(session: &Session, format: Format, branch: &str) -> Result<(), Failure> {
    let found = session.client.many::<Held>(&session.path_in_branch(branch, "roles")?.0)?;
    if format == Format::Json {
        output::json(&wire::array(&found));
        return Ok(());
    }
    let now = Timestamp::now();
    let row = |role: &Said<Held>| {
        let login = if role.authentication_method == "no_login" { "no" } else { "yes" };
        vec![role.name.clone(), login.to_owned(), output::age(&role.created_at, now)]
    };
    output::table(&["NAME", "LOGIN", "KNOWN SINCE"], &found.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

fn create(
    session: &Session,
    format: Format,
    branch: &str,
    name: &str,
    no_login: bool,
) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "roles")?;
    let progress = progress::start(format!("making role {name} on {branch}"));
    let role = RoleCreate { name: name.to_owned(), no_login };
    let answer: Said<RoleOperations> = session.client.post(&path, RoleCreateRequest { role })?;
    session.client.wait(session.project_id(), &answer.operations)?;
    drop(progress);
    show(format, &answer, &format!("made role {name} on {branch}"));
    Ok(())
}

/// The role that an answer holds: as JSON, or its password as data and the rest in words.
fn show(format: Format, answer: &Said<RoleOperations>, words: &str) {
    match format {
        Format::Json => output::json(answer.json_of::<Held>()),
        Format::Table => {
            output::words(words);
            if let Some(password) = &answer.role.password {
                output::data(password);
            }
        }
    }
}

fn password(session: &Session, format: Format, branch: &str, name: &str, reset: bool) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "roles")?;
    let role = format!("{path}/{}", percent::encoded(name));
    if reset {
        let answer: Said<RoleOperations> =
            session.client.post(&format!("{role}/reset_password"), json!({}))?;
        session.client.wait(session.project_id(), &answer.operations)?;
        show(format, &answer, &format!("{name} on {branch} has a new password"));
        return Ok(());
    }
    let answer: Said<RolePassword> = session.client.get(&format!("{role}/reveal_password"))?;
    match format {
        Format::Json => output::json(answer.json()),
        Format::Table => output::data(&answer.password),
    }
    Ok(())
}

fn delete(session: &Session, format: Format, branch: &str, name: &str, yes: bool) -> Result<(), Failure> {
    let (path, branch) = session.path_in_branch(branch, "roles")?;
    let role = format!("{path}/{}", percent::encoded(name));
    session.client.get::<RoleResponse>(&role)?;
    confirm::destructive(&format!("delete role {name} of {branch}"), yes)?;
    let answer: Option<Said<RoleOperations>> = session.client.delete(&role)?;
    if let Some(answer) = &answer {
        session.client.wait(session.project_id(), &answer.operations)?;
    }
    match format {
        Format::Json => output::json(wire::json_or_null(answer.as_ref())),
        Format::Table => output::words(&format!("deleted role {name} of {branch}")),
    }
    Ok(())
}
