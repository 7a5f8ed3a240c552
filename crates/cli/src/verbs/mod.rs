//! The verbs, one file each, and which of them a command line means.

pub mod admin;
pub mod api_key;
pub mod branch;
mod branch_change;
pub mod compute;
pub mod connection_string;
pub mod database;
pub mod doctor;
pub mod endpoint;
mod openapi;
pub mod operation;
pub mod project;
pub mod psql;
pub mod role;
pub mod schedule;
pub mod schema_diff;
pub mod serve;
pub mod snapshot;
mod snapshot_schedule;
mod status;
pub mod stop;

use std::process::ExitCode;

use crate::args::{Cli, Verb};
use crate::failure::Failure;

/// Runs the verb of `cli`.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match cli.verb {
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
        Verb::Status => status::run(global).map(|()| ExitCode::SUCCESS),
        Verb::Doctor(verb) => verb.run(global),
        Verb::Stop(verb) => verb.run(global).map(|()| ExitCode::SUCCESS),
        Verb::Openapi => openapi::run().map(|()| ExitCode::SUCCESS),
    }
}
