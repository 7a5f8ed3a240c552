//! The figures of `docs/measured.md`, measured anew.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, root, run};

/// Builds for release and measures; prints the table. Takes some 15 minutes.
pub fn quick() -> Result<()> {
    measure("quick")
}

/// The part of it that is pgbench on the root endpoint against stock Postgres. Takes some 8 minutes.
pub fn throughput() -> Result<()> {
    measure("throughput")
}

/// The control plane: data replaced in place, a hundred endpoints, a thousand branches. Takes some 3 minutes.
pub fn control() -> Result<()> {
    measure("control")
}

fn measure(what: &str) -> Result<()> {
    run(cargo().args(["build", "--release", "--package", "scion"]))?;
    run(cargo().args(["run", "--release", "--package", "scion-tests", "--bin", "bench", "--", what]))
}

/// How fast redo is; prints the table of redo's README. Takes some 3 minutes.
pub fn redo() -> Result<()> {
    run(Command::new(root().join("scripts/postgres-source")).arg("15"))?;
    crate::oracle::redo(&["bench".to_owned()])
}
