//! What every change must pass, cheapest first.
//!
//! All that is run is built once, of the whole workspace: a part of it has other features of its dependencies, and would
//! build them a second time. The tests of the whole system wait more than they compute, and run three at a time: each has a
//! server and a directory of its own.

use anyhow::{Result, bail};

use crate::cargo::{self, cargo, has, run};
use crate::lanes::{Lanes, skipped_list};
use crate::memory_disk::MemoryDisk;
use crate::tidy;

/// The package of the tests of the whole system.
const SYSTEM_TESTS: &str = "scion-tests";

/// Formatting, rules, lints, tests.
pub fn ci() -> Result<()> {
    let mut lanes = Lanes::default();
    if is_there("fmt", "rustup component add rustfmt")? {
        lanes.part("formatting", || run(cargo().args(["fmt", "--all", "--check"])))?;
    }
    lanes.part("rules", tidy::tidy)?;
    if is_there("clippy", "rustup component add clippy")? {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        lanes.part("lints", || run(cargo().args(clippy)))?;
    }
    // Who reads it has the code: what is private is documented too, and may be pointed at.
    let doc = ["doc", "--workspace", "--no-deps", "--lib", "--document-private-items"];
    let strict = "-D warnings -A rustdoc::private_intra_doc_links";
    lanes.part("documentation", || run(cargo().args(doc).env("RUSTDOCFLAGS", strict)))?;
    test_in(&mut lanes)
}

/// How many of them run at once. On two cores, two computed half of the time.
const SYSTEM_TESTS_AT_ONCE: &str = "3";

/// Whether there is a tool of cargo's; where everything is required, one that is missing is an error.
fn is_there(tool: &str, install: &str) -> Result<bool> {
    if has(tool) {
        return Ok(true);
    }
    if std::env::var("SCION_REQUIRE").is_ok_and(|required| required.split(',').any(|it| it.trim() == "all")) {
        bail!("there is no cargo {tool}\nhint: {install}");
    }
    eprintln!("SKIPPED: cargo {tool}; install it with `{install}`");
    Ok(false)
}

/// All tests.
pub fn test() -> Result<()> {
    test_in(&mut Lanes::default())
}

/// The binary is built first, because the tests of the whole system run it.
fn test_in(lanes: &mut Lanes) -> Result<()> {
    lanes.part("build", || run(cargo().args(["build", "--workspace", "--all-targets"])))?;
    let binary = binary()?;
    let skipped = skipped_list();
    let _ = std::fs::remove_file(&skipped);
    let cargo = || {
        let mut cargo = cargo();
        cargo.env("SCION_BIN", &binary).env("SCION_SKIPPED", &skipped);
        cargo
    };
    if has("nextest") {
        let nextest = ["nextest", "run", "--workspace", "--no-tests", "pass", "--filterset"];
        let crates = format!("not package({SYSTEM_TESTS})");
        lanes.tests("tests of the crates", || run(cargo().args(nextest).arg(crates)))?;
        let system = format!("package({SYSTEM_TESTS})");
        let disk = MemoryDisk::if_possible();
        let mut tests = cargo();
        tests.args(nextest).arg(system).args(["--test-threads", SYSTEM_TESTS_AT_ONCE]);
        lanes.tests("tests of the system", || run(&mut disk.around(tests)))?;
    } else {
        let crates = ["test", "--workspace", "--exclude", SYSTEM_TESTS, "--lib", "--bins", "--tests"];
        lanes.part("tests of the crates", || run(cargo().args(crates)))?;
        let system = ["test", "--package", SYSTEM_TESTS, "--tests", "--", "--test-threads", "1"];
        lanes.part("tests of the system", || run(cargo().args(system)))?;
    }
    lanes
        .part("tests of the documentation", || run(cargo().args(["test", "--workspace", "--doc", "--quiet"])))
}

fn binary() -> Result<std::path::PathBuf> {
    let metadata = cargo::output_of(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    Ok(std::path::Path::new(target).join("debug/scion"))
}
