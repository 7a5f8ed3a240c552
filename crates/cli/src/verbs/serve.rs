//! `scion serve`: the server, in the foreground until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::args::Global;
use crate::failure::{Failure, Kind};
use crate::place;

/// Where Debian puts the programs of PostgreSQL 15.
pub const PG_BIN: &str = "/usr/lib/postgresql/15/bin";

/// Run the server: API, page store and one compute process for each running endpoint.
#[derive(Args)]
pub struct Serve {
    /// Address of the HTTP API.
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDRESS")]
    http: SocketAddr,
    /// Directory with the programs of PostgreSQL 15.
    #[arg(long, env = "SCION_PG_BIN", default_value = PG_BIN, value_name = "DIR")]
    pg_bin: PathBuf,
}

impl Serve {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        let _data_dir = place::data_dir(global)?;
        let _options = (self.http, &self.pg_bin);
        Err(Failure::new(Kind::Failed, "this build has no server"))
    }
}

/// Sends log lines to stderr; `SCION_LOG` chooses them as `RUST_LOG` does elsewhere.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SCION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
