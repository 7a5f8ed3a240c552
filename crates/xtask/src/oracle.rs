//! The judges: stock Postgres's own pages for redo, its own test suites for whole branches.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, root, run};

/// Builds for release, gets the suites' source, and runs a judge with `args`.
pub fn oracle(args: &[String]) -> Result<()> {
    let judge = args.first().map_or("", String::as_str);
    if ["consistency", "judge", "branch"].contains(&judge) {
        run(Command::new(root().join("scripts/postgres-source")).arg("15"))?;
    }
    if judge == "branch" {
        run(cargo().args(["build", "--release", "--package", "scion"]))?;
        let judge = ["run", "--release", "--package", "scion-tests", "--bin", "suites", "--"];
        return run(cargo().args(judge).args(args.get(1..).unwrap_or_default()));
    }
    run(cargo().args(["run", "--release", "--package", "scion-oracle", "--bin", "oracle", "--"]).args(args))
}
