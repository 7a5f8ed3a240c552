//! What the shell offers when a name is to be typed: the branches and projects of the server.
//!
//! `source <(COMPLETE=bash scion)` turns it on. The shell then runs this program for every press of Tab, so that it must
//! be quick and silent: without a server, or with one that takes its time, nothing is offered.

use std::ffi::OsString;
use std::time::Duration;

use api::project::Project;
use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::{ArgValueCandidates, CompleteEnv, CompletionCandidate};

use crate::args::Cli;
use crate::client::Client;
use crate::failure::Failure;
use crate::global::Global;
use crate::{place, resolve};

/// The longest one request may take: nobody waits longer for a Tab.
const WITHIN: Duration = Duration::from_secs(2);

/// How the help of an argument begins that is the name of something.
const NAMED: [(&str, &[&str]); 2] = [
    ("branch", &["Name or id of the branch", "Name or id of the restored branch", "Branch "]),
    ("project", &["Name or id of the project", "Project"]),
];

/// Answers the shell, and ends the process, if it was the shell that asked.
pub fn answer_shell() {
    CompleteEnv::with_factory(command).complete();
}

fn command() -> Command {
    offering(Cli::command())
}

/// The same command, with names offered wherever an argument says that it is one.
fn offering(command: Command) -> Command {
    command
        .mut_args(|arg| match named(&arg) {
            Some("branch") => arg.add(ArgValueCandidates::new(|| candidates(branches))),
            Some("project") => arg.add(ArgValueCandidates::new(|| candidates(projects))),
            _ => arg,
        })
        .mut_subcommands(offering)
}

/// What the help of an argument says that it names.
fn named(arg: &Arg) -> Option<&'static str> {
    let help = arg.get_help()?.to_string();
    let begins = |text: &str| help.starts_with(text);
    let found = NAMED.into_iter().find(|(_, beginnings)| beginnings.iter().any(|text| begins(text)));
    found.map(|(noun, _)| noun)
}

fn candidates(names: impl Fn(&Global) -> Result<Vec<String>, Failure>) -> Vec<CompletionCandidate> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let names = global_of(&typed).and_then(|global| names(&global).ok()).unwrap_or_default();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The options that say which server and project are meant, of a command line that is not complete.
fn global_of(typed: &[OsString]) -> Option<Global> {
    const MEANT: [&str; 6] = ["--data-dir", "--api", "--api-cert", "--api-key", "--project", "-p"];
    let mut line: Vec<OsString> = vec!["scion".into(), "status".into()];
    for (at, word) in typed.iter().enumerate() {
        let text = word.to_string_lossy();
        if MEANT.contains(&text.as_ref()) {
            let value = typed.get(at + 1).filter(|value| !value.is_empty());
            line.extend(value.map(|value| [word.clone(), value.clone()]).into_iter().flatten());
        } else if MEANT.iter().any(|option| text.starts_with(&format!("{option}="))) {
            line.push(word.clone());
        }
    }
    Cli::try_parse_from(line).ok().map(|cli| cli.global)
}

fn client(global: &Global) -> Result<Client, Failure> {
    Client::within(place::server(global)?, WITHIN)
}

fn projects(global: &Global) -> Result<Vec<String>, Failure> {
    let projects = client(global)?.list::<Project>("/projects")?;
    Ok(projects.iter().map(|project| project.name.clone()).collect())
}

fn branches(global: &Global) -> Result<Vec<String>, Failure> {
    let client = client(global)?;
    let project = resolve::project(&client, global.project.as_deref())?;
    let branches = resolve::Session { client, project }.branches()?;
    Ok(branches.iter().map(|branch| branch.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(command: &Command, path: &[&str]) -> Vec<String> {
        let found = path.iter().fold(command, |command, name| command.find_subcommand(name).unwrap());
        let offers = |arg: &&Arg| arg.get::<ArgValueCandidates>().is_some();
        found.get_arguments().filter(offers).map(|arg| arg.get_id().to_string()).collect()
    }

    #[test]
    fn names_are_offered_where_an_argument_is_one() {
        let command = command();
        assert_eq!(offered(&command, &[]), ["project"]);
        assert_eq!(offered(&command, &["branch", "create"]), ["parent"], "a new name is not an old one");
        assert_eq!(offered(&command, &["branch", "restore"]), ["name", "from"]);
        assert_eq!(offered(&command, &["snapshot", "finalize"]), ["branch"]);
        assert!(
            offered(&command, &["branch", "recover"]).is_empty(),
            "a deleted branch is not among the others"
        );
        assert_eq!(offered(&command, &["endpoint", "start"]), ["name"]);
        assert_eq!(offered(&command, &["psql"]), ["branch"]);
        assert_eq!(offered(&command, &["schema-diff"]), ["branch", "base"]);
        assert_eq!(offered(&command, &["project", "delete"]), ["name"]);
        assert_eq!(offered(&command, &["api-key", "create"]), ["for_project"]);
    }

    #[test]
    fn the_server_and_the_project_that_were_typed_are_meant() {
        let typed =
            ["scion", "--", "scion", "branch", "get", "-p", "demo", "--api=http://h:1", "--api-key", "k", ""];
        let typed: Vec<OsString> = typed.into_iter().map(OsString::from).collect();
        let global = global_of(&typed).unwrap();
        assert_eq!((global.project.as_deref(), global.api.as_deref()), (Some("demo"), Some("http://h:1")));
        assert_eq!(global.api_key.as_deref(), Some("k"));
        assert!(global_of(&["scion".into(), "-p".into()]).is_some(), "a value that is still to come");
    }
}
