//! The rules about dependencies: a crate exists because what it may depend on differs, so that is what is checked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo::{cargo, output_of};

/// What each crate of the workspace may use of the others.
const EDGES: [(&str, &[&str]); 13] = [
    ("scion-types", &[]),
    ("scion-wal", &["scion-types"]),
    ("scion-redo", &["scion-types", "scion-wal"]),
    ("scion-store", &["scion-types", "scion-wal", "scion-redo"]),
    ("scion-fs", &["scion-types"]),
    // It writes the first log and the control file of a timeline.
    ("scion-compute", &["scion-types", "scion-wal", "scion-fs"]),
    ("scion-api", &["scion-types"]),
    // The page service answers with the store's errors and the log's formats.
    ("scion-server", &["scion-types", "scion-wal", "scion-store", "scion-compute", "scion-api"]),
    ("scion", &["scion-api", "scion-server", "scion-compute"]),
    ("scion-tests", TESTS),
    // The judges of redo know nothing of branches.
    ("scion-oracle", &["scion-types", "scion-wal", "scion-redo"]),
    ("scion-fuzz", FUZZED),
    ("xtask", &[]),
];

/// The system tests hold every part to account; the judges lend them servers and loads.
const TESTS: &[&str] =
    &["scion-types", "scion-wal", "scion-redo", "scion-store", "scion-compute", "scion-api", "scion-oracle"];

/// What decodes bytes of others.
const FUZZED: &[&str] =
    &["scion-types", "scion-wal", "scion-redo", "scion-store", "scion-compute", "scion-server"];

/// Everything the pure crates may be made of, direct or not. No I/O, no clock, no runtime.
const PURE: [(&str, &[&str]); 3] = [("scion-types", &[]), ("scion-wal", PURE_WAL), ("scion-redo", PURE_WAL)];
const PURE_WAL: &[&str] = &[
    "scion-types",
    "scion-wal",
    "crc32c",
    "lz4_flex",
    "twox-hash",
    "zstd",
    "zstd-safe",
    "zstd-sys",
    "thiserror",
];

/// Checks the crates of the workspace.
pub fn check(breaches: &mut Vec<String>) -> Result<()> {
    let metadata = output_of(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what cargo metadata says")?;
    let uses = uses(&metadata);
    check_edges(&uses, breaches);
    for (name, allowed) in PURE.into_iter().filter(|(name, _)| uses.contains_key(*name)) {
        let tree = [
            "tree",
            "--package",
            name,
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ];
        check_pure(name, allowed, &output_of(cargo().args(tree))?, breaches);
    }
    Ok(())
}

/// For each package of the workspace, the packages of the workspace it uses outside of tests.
fn uses(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let used = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap_or(&empty);
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        normal.map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), used(package))).collect()
}

fn check_edges(uses: &BTreeMap<String, BTreeSet<String>>, breaches: &mut Vec<String>) {
    for (name, used) in uses {
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| known == name) else {
            breaches
                .push(format!("{name}: a crate ARCHITECTURE.md does not know; say in xtask what it may use"));
            continue;
        };
        for other in used.iter().filter(|other| !allowed.contains(&other.as_str())) {
            breaches.push(format!("{name} may not use {other}; ARCHITECTURE.md says why"));
        }
    }
}

fn check_pure(name: &str, allowed: &[&str], tree: &str, breaches: &mut Vec<String>) {
    let parts: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for part in parts.into_iter().filter(|part| *part != name && !allowed.contains(part)) {
        breaches.push(format!("{name} is pure and may not be made of {part}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_against_the_direction_is_a_breach() {
        let metadata = serde_json::json!({"packages": [
            {"name": "scion-types", "dependencies": [{"name": "scion-wal", "kind": null}]},
            {"name": "scion-wal", "dependencies": [{"name": "scion-types", "kind": null}, {"name": "scion-redo", "kind": "dev"}]},
            {"name": "scion-redo", "dependencies": []},
            {"name": "scion-new", "dependencies": []}
        ]});
        let mut breaches = Vec::new();
        check_edges(&uses(&metadata), &mut breaches);
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches.iter().any(|breach| breach.starts_with("scion-types may not use scion-wal")));
    }

    #[test]
    fn a_pure_crate_may_be_made_of_the_listed_parts_only() {
        let mut breaches = Vec::new();
        check_pure(
            "scion-wal",
            PURE_WAL,
            "scion-wal v0.1.0 (x)\ncrc32c v0.6.8\ntokio v1.0.0 (*)\n",
            &mut breaches,
        );
        assert_eq!(breaches, ["scion-wal is pure and may not be made of tokio"]);
    }
}
