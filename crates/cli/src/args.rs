//! The command line: which verbs there are and which options all of them share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;
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

/// Options every verb takes.
#[derive(Args, Clone)]
pub struct Global {
    /// How data is printed: a table for people, or the API's own objects.
    #[arg(short, long, global = true, help_heading = "Everywhere", value_enum, default_value = "table")]
    pub output: Format,

    /// The server's data directory [default: /var/lib/scion for root, else ~/.local/share/scion].
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address of the server, when its data directory is not at hand.
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_API", value_name = "URL")]
    pub api: Option<String>,

    /// Certificate to trust, PEM, when that address is https:// [default: those of the system].
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_API_CERT", value_name = "FILE")]
    pub api_cert: Option<PathBuf>,

    /// Key for the server [default: the file api-key in the data directory].
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        env = "SCION_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: Option<String>,

    /// Project, by name or id; may be left out while the server has exactly one.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Everywhere",
        env = "SCION_PROJECT",
        value_name = "PROJECT"
    )]
    pub project: Option<String>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Run the server: API, page store and one compute process for each running endpoint.
    Serve(verbs::serve::Serve),
    /// Run one endpoint; started by `serve`, not by hand.
    #[command(hide = true)]
    Compute(verbs::compute::Compute),
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
    Admin(verbs::admin::Admin),
    /// Create, list and revoke keys for the server's API.
    #[command(subcommand)]
    ApiKey(verbs::api_key::ApiKey),
    /// Print the connection string of a branch.
    ConnectionString(verbs::connection_string::ConnectionString),
    /// Open psql on a branch, starting its endpoint if it is idle.
    Psql(verbs::psql::Psql),
    /// Show the server's health: disk, memory, branches, endpoints.
    Status,
    /// Show what this machine lacks to run scion, and how to get it.
    Doctor(verbs::doctor::Doctor),
    /// Stop the server and its endpoints.
    Stop(verbs::stop::Stop),
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
