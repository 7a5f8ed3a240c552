//! What every change must pass, cheapest first.
//!
//! The tests of the whole system run one after the other: each starts servers of its own and measures time.

use std::time::Instant;

use anyhow::Result;

use crate::cargo::{self, cargo, has, run};
use crate::tidy;

/// The package of the tests of the whole system.
const SYSTEM_TESTS: &str = "scion-tests";

/// Formatting, rules, lints, tests.
pub fn ci() -> Result<()> {
    if has("fmt") {
        run(cargo().args(["fmt", "--all", "--check"]))?;
    } else {
        eprintln!("SKIPPED: formatting; install it with `rustup component add rustfmt`");
    }
    tidy::tidy()?;
    if has("clippy") {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    } else {
        eprintln!("SKIPPED: lints; install them with `rustup component add clippy`");
    }
    test()
}

/// All tests. The binary is built first, because the tests of the whole system run it.
pub fn test() -> Result<()> {
    let started = Instant::now();
    run(cargo().args(["build", "--package", "scion"]))?;
    let binary = binary()?;
    if has("nextest") {
        let nextest = ["nextest", "run", "--no-tests", "pass"];
        run(cargo().args(nextest).args(["--workspace", "--exclude", SYSTEM_TESTS]))?;
        run(cargo()
            .args(nextest)
            .args(["--package", SYSTEM_TESTS, "--test-threads", "1"])
            .env("SCION_BIN", binary))?;
    } else {
        run(cargo().args(["test", "--workspace", "--exclude", SYSTEM_TESTS, "--lib", "--bins", "--tests"]))?;
        let system = ["test", "--package", SYSTEM_TESTS, "--tests", "--", "--test-threads", "1"];
        run(cargo().args(system).env("SCION_BIN", binary))?;
    }
    run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    eprintln!("all tests passed in {} s", started.elapsed().as_secs());
    Ok(())
}

fn binary() -> Result<std::path::PathBuf> {
    let metadata = cargo::output_of(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    Ok(std::path::Path::new(target).join("debug/scion"))
}
