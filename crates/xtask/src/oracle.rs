//! The judges of redo: stock Postgres's own pages.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, root, run};

/// Builds for release, gets the suites' source, and runs a judge with `args`.
pub fn oracle(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|judge| judge == "consistency") {
        run(Command::new(root().join("scripts/postgres-source")).arg("15"))?;
    }
    run(cargo().args(["run", "--release", "--package", "scion-oracle", "--bin", "oracle", "--"]).args(args))
}
