//! The command line: which verbs there are, and which file runs each.
//!
//! Not here: the options that all of them share (`global`).

pub mod moment;
pub mod setting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::global::Global;
use crate::verbs;

/// Branches for PostgreSQL, the way code has branches.
#[derive(Parser)]
#[command(
    name = "scion",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by a rule, 5 conflict, \
                  6 server unreachable."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// Runs the verb.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let global = &self.global;
        match self.verb {
            Verb::Serve(verb) => verb.run(global),
            Verb::Compute(verb) => verb.run(),
            Verb::Project(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Branch(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Schedule(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Snapshot(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Endpoint(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Role(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Database(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::ApiKey(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Admin(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Operation(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::SchemaDiff(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::ConnectionString(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Psql(verb) => verb.run(global),
            Verb::Status => verbs::server::status::run(global).map(|()| ExitCode::SUCCESS),
            Verb::Doctor(verb) => verb.run(global),
            Verb::Stop(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
            Verb::Openapi => verbs::server::openapi::run().map(|()| ExitCode::SUCCESS),
        }
    }
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Run the server: API, page store and one compute process for each running endpoint.
    Serve(verbs::server::serve::Serve),
    /// Run one endpoint; started by `serve`, not by hand.
    #[command(hide = true)]
    Compute(verbs::server::compute::Compute),
    /// Create, list, change and delete projects.
    #[command(subcommand)]
    Project(verbs::project::Project),
    /// Create, list, show and delete branches.
    #[command(subcommand)]
    Branch(verbs::branch::Branch),
    /// Make, plan, list, change, restore and delete snapshots, whose data stays whatever becomes of their branch.
    #[command(subcommand)]
    Snapshot(verbs::snapshot::Snapshot),
    /// Make, list, run and delete schedules, which make a branch again and again.
    #[command(subcommand)]
    Schedule(verbs::schedule::Schedule),
    /// Start, stop, change, list and delete the Postgres servers of branches.
    #[command(subcommand)]
    Endpoint(verbs::endpoint::Endpoint),
    /// Create, list and delete the roles of a branch, and their passwords.
    #[command(subcommand)]
    Role(verbs::role::Role),
    /// Create, list, change and delete the databases of a branch.
    #[command(subcommand)]
    Database(verbs::database::Database),
    /// List what was done, when, and how it ended.
    #[command(subcommand)]
    Operation(verbs::operation::Operation),
    /// Show what differs between the schemas of two branches, or of one at two moments.
    SchemaDiff(verbs::schema_diff::SchemaDiff),
    /// What is rarely needed: the log of a branch that is stuck.
    #[command(subcommand)]
    Admin(verbs::server::admin::Admin),
    /// Create, list and revoke keys for the server's API.
    #[command(subcommand)]
    ApiKey(verbs::server::api_key::ApiKey),
    /// Print the connection string of a branch.
    ConnectionString(verbs::connection_string::ConnectionString),
    /// Open psql on a branch, starting its endpoint if it is idle.
    Psql(verbs::psql::Psql),
    /// Show the server's health: disk, memory, branches, endpoints.
    Status,
    /// Show what this machine lacks to run scion, and how to get it.
    Doctor(verbs::server::doctor::Doctor),
    /// Stop the server and its endpoints.
    Stop(verbs::server::stop::Stop),
    /// Print the OpenAPI description of the server's HTTP API.
    #[command(hide = true)]
    Openapi,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_belongs_to_psql() {
        let cli = Cli::try_parse_from(["scion", "psql", "main", "--", "-c", "select 1"]).unwrap();
        let Verb::Psql(psql) = cli.verb else { panic!("not psql") };
        assert_eq!(psql.args, ["-c", "select 1"]);
    }
}
