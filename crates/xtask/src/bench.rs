//! The figures of the README, measured anew.

use anyhow::Result;

use crate::cargo::{cargo, run};

/// Builds for release and measures; prints the README's table. Takes some 15 minutes.
pub fn quick() -> Result<()> {
    run(cargo().args(["build", "--release", "--package", "scion"]))?;
    run(cargo().args(["run", "--release", "--package", "scion-tests", "--bin", "bench", "--", "quick"]))
}
