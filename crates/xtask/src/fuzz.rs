//! Fuzzing: every target for a while, from inputs made of real records and of samples of what the crates write.
//!
//! Not here: the same functions with changed samples, in every run of the tests (`fuzzing` of the crates).

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{cargo, has, output_of, root, run};

/// Seconds for each target unless said otherwise.
const SECONDS: &str = "60";
/// Longest input: a record with an image, and a page.
const LONGEST: &str = "-max_len=28000";

/// Runs each target of `fuzz/` for `args`' first word in seconds; only the targets named after it, if any.
///
/// Builds without a sanitizer, which a stable compiler can: the code has no `unsafe`, so panics are what is looked for.
pub fn fuzz(args: &[String]) -> Result<()> {
    if !has("fuzz") {
        bail!("there is no cargo-fuzz\nhint: cargo install cargo-fuzz");
    }
    let seconds = args.first().map_or(SECONDS, String::as_str);
    let named = args.get(1..).unwrap_or_default();
    let seeds = root().join("target/fuzz-seeds");
    if !seeds.exists() {
        let load = ["consistency", "--suite", "churn,pgbench", "--seconds", "20", "--seeds", "write"];
        crate::oracle::oracle(&load.map(str::to_owned))?;
        let mut samples = cargo();
        samples.args([
            "test",
            "--package",
            "scion-store",
            "--package",
            "scion-compute",
            "--package",
            "scion-server",
        ]);
        run(samples.args(["--lib", "fuzzing::"]).env("SCION_FUZZ_SEEDS", "write"))?;
    }
    let mut failed = Vec::new();
    for target in targets()?.into_iter().filter(|target| named.is_empty() || named.contains(target)) {
        std::fs::create_dir_all(root().join("fuzz/corpus").join(&target))?;
        std::fs::create_dir_all(seeds.join(&target))?;
        let mut fuzz = cargo();
        fuzz.args(["fuzz", "run", "--sanitizer", "none", &target]);
        fuzz.arg(root().join("fuzz/corpus").join(&target)).arg(seeds.join(&target));
        fuzz.args(["--", LONGEST, "-timeout=10", "-print_final_stats=1"]);
        fuzz.arg(format!("-max_total_time={seconds}"));
        if let Err(error) = run(&mut fuzz) {
            eprintln!("{error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("fuzzing found something in {}\nhint: the input is in fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

/// The programs of the workspace in `fuzz/`.
fn targets() -> Result<Vec<String>> {
    let fuzz = root().join("fuzz/Cargo.toml");
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"]).arg(fuzz);
    let metadata: Value =
        serde_json::from_str(&output_of(&mut metadata)?).context("read what cargo says of fuzz/")?;
    let empty = Vec::new();
    let all = metadata["packages"][0]["targets"].as_array().unwrap_or(&empty);
    let programs = all.iter().filter(|target| target["kind"][0] == "bin");
    let mut names: Vec<String> =
        programs.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}
