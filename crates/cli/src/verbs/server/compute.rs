//! `scion compute`: one endpoint, started by `scion serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::failure::{self, Failure, Kind};
use crate::verbs::server::serve::log_to_stderr;

/// Run one endpoint; started by `serve`, not by hand.
#[derive(Args)]
pub struct Compute {
    /// What to run, as JSON.
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
}

impl Compute {
    /// Runs the verb.
    pub fn run(&self) -> Result<ExitCode, Failure> {
        log_to_stderr();
        let bytes = std::fs::read(&self.spec)
            .map_err(|error| failure::io(format!("read {}", self.spec.display()), &error))?;
        let spec: compute::EndpointSpec = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Kind::Usage, format!("{} is not an endpoint: {error}", self.spec.display()))
        })?;
        let endpoint = spec.endpoint.clone();
        compute::run(spec).map_err(|error| {
            Failure::new(Kind::Failed, format!("endpoint {endpoint}: {error}"))
                .hint("`scion doctor` checks what endpoints need of this machine")
        })
    }
}
