//! `scion psql`: an interactive session on a branch, as its owner or as the superuser.
//!
//! The superuser is reached only over the endpoint's unix socket, whose directory belongs to whoever runs scion. Nothing
//! that users set keeps it out; apart from that its session has the settings that any other of that role would have.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use api::endpoint::Endpoint;
use api::percent;
use api::project::Project;
use clap::Args;
use rustix::process::Signal;
use server::installed::NamedBin;

use crate::failure::{self, Failure};
use crate::global::Global;
use crate::place;
use crate::resolve::{Session, no_endpoint, session};
use crate::verbs::connection_string::{Who, uri};
use crate::wire::Said;

/// Open psql on a branch, starting its endpoint if it is idle.
#[derive(Args)]
pub struct Psql {
    /// Name or id of the branch.
    branch: String,
    #[command(flatten)]
    who: Who,
    /// Connect as the superuser `postgres` over the endpoint's own socket. What sessions load by themselves and what
    /// ends them after some time does not hold, nor do event triggers from PostgreSQL 17 on.
    #[arg(long, conflicts_with = "role")]
    superuser: bool,
    /// Arguments for psql, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

impl Psql {
    /// Runs the verb; the exit code is that of psql.
    pub fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        let session = session(global)?;
        let branch = session.branch(&self.branch)?;
        let endpoint = session.endpoint_of(&branch.id)?.ok_or_else(|| no_endpoint(&branch.name))?;
        session.ensure_active(&endpoint)?;
        let mut command = Command::new(program());
        if self.superuser {
            self.as_superuser(&mut command, global, &session, &endpoint)?;
        } else {
            as_role(&mut command, &uri(&session, &branch.id, &self.who)?);
        }
        let before = as_it_is_now(&session, &endpoint);
        let status = run_to_its_end(command.args(&self.args)).map_err(|error| {
            let failure = failure::io(format!("run {}", command.get_program().display()), &error);
            failure.hint("`scion doctor` says how to install PostgreSQL")
        })?;
        if let (Some(before), Some(after)) = (before, as_it_is_now(&session, &endpoint)) {
            tell_what_could_not_be_read(&branch.name, &before, &after);
        }
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    fn as_superuser(
        &self,
        command: &mut Command,
        global: &Global,
        session: &Session,
        endpoint: &Endpoint,
    ) -> Result<(), Failure> {
        let id = &endpoint.id;
        let dir = match &endpoint.socket_dir {
            Some(dir) => PathBuf::from(dir),
            None => place::data_dir(global)?.join("endpoints").join(id).join("sock"),
        };
        let port = port_in(&dir).map_err(|error| {
            let url = session.client.url();
            failure::io(format!("reach the socket of {id} in {}", dir.display()), &error)
                .hint(format!("run this on the machine of {url}, as the user who runs `scion serve`"))
        })?;
        command.arg("-h").arg(dir).arg("-p").arg(port.to_string()).args(["-U", "postgres"]);
        command.arg("-d").arg(server::database_argument(&self.who.database));
        command.env("PGOPTIONS", entry_options(&session.project));
        Ok(())
    }
}

/// What gets a superuser in whatever the users of the project set, and what else the person asks for.
fn entry_options(project: &Project) -> String {
    let asked = std::env::var("PGOPTIONS").unwrap_or_default();
    format!("{} {asked}", server::entry_options(project.pg_version))
}

/// Runs psql in our place: what is typed to interrupt is for it, and it ends when we are made to.
fn run_to_its_end(command: &mut Command) -> std::io::Result<ExitStatus> {
    // SAFETY: one system call with constants, which neither allocates nor takes locks.
    unsafe {
        command.pre_exec(|| {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
            Ok(())
        });
    }
    let mut psql = command.spawn()?;
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    psql.wait()
}

/// An endpoint, looked at for this; a list of them may be a second old. `None` if there is nobody to ask.
fn as_it_is_now(session: &Session, endpoint: &Endpoint) -> Option<Said<Endpoint>> {
    let id = percent::encoded(&endpoint.id);
    session.client.one(&session.path(&format!("/endpoints/{id}"))).ok()
}

/// Postgres only tells of an I/O error; says after its session which page was behind it, if one was, and why.
fn tell_what_could_not_be_read(branch: &str, before: &Endpoint, after: &Endpoint) {
    if after.read_failures > before.read_failures {
        eprintln!("note: behind an I/O error: {}", after.last_read_error.as_deref().unwrap_or_default());
        eprintln!("hint: `scion branch get {branch}` lists what cannot be read of it, and why");
    }
}

/// The newest psql beside a server, as it knows all older ones, else whatever is on the path.
fn program() -> OsString {
    let named = std::env::var("SCION_PG_BIN").unwrap_or_default();
    let named: Vec<NamedBin> = named.split(',').filter_map(|text| text.parse().ok()).collect();
    let installed = server::installed::find(&named);
    let beside = installed.by_major.values().rev().map(|it| it.bin.join("psql"));
    beside
        .into_iter()
        .find(|program| program.is_file())
        .map_or_else(|| "psql".into(), PathBuf::into_os_string)
}

/// Hands the password over in the environment: arguments can be read by every user of the machine.
fn as_role(command: &mut Command, uri: &str) {
    let (uri, password) = without_password(uri);
    command.arg("-d").arg(uri);
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
}

fn without_password(uri: &str) -> (String, Option<String>) {
    let split = || {
        let (scheme, rest) = uri.split_once("://")?;
        let (user_info, place) = rest.split_once('@')?;
        let (user, password) = user_info.split_once(':')?;
        Some((format!("{scheme}://{user}@{place}"), percent::decoded(password)))
    };
    match split() {
        Some((uri, password)) => (uri, Some(password)),
        None => (uri.to_owned(), None),
    }
}

/// The port in the name of the socket in `dir`.
fn port_in(dir: &Path) -> std::io::Result<u16> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let port =
            name.to_str().and_then(|name| name.strip_prefix(".s.PGSQL.")).and_then(|port| port.parse().ok());
        if let Some(port) = port {
            return Ok(port);
        }
    }
    Err(std::io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_among_the_arguments() {
        let (uri, password) =
            without_password("postgresql://owner:p%40ss@127.0.0.1:5/neondb?sslmode=require");
        assert_eq!(uri, "postgresql://owner@127.0.0.1:5/neondb?sslmode=require");
        assert_eq!(password.as_deref(), Some("p@ss"));
        assert_eq!(without_password("postgresql://h/db").1, None);
    }
}
