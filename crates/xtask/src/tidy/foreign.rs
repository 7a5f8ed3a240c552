//! The rules about what others wrote and the programs are made of: where it comes from, and on which terms.
//!
//! What must hold
//! - Everything comes from crates.io, in the version that `Cargo.lock` names.
//! - Everything may be given away under Apache-2.0 with no more than its notice.
//!
//! Not here: which crate may use what (`dependencies`); known holes, which only a network tells.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo::{cargo, output_of};

/// Where foreign crates come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Terms that ask for a notice at most.
const LICENCES: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every crate that is built on Linux.
pub fn check(breaches: &mut Vec<String>) -> Result<()> {
    let words =
        ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let metadata = output_of(cargo().args(words))?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what cargo metadata says")?;
    let empty = Vec::new();
    for package in metadata["packages"].as_array().unwrap_or(&empty) {
        check_package(package, breaches);
    }
    Ok(())
}

fn check_package(package: &Value, breaches: &mut Vec<String>) {
    let name = package["name"].as_str().unwrap_or_default();
    // Those of the workspace have no source.
    let Some(source) = package["source"].as_str() else { return };
    if source != REGISTRY {
        breaches.push(format!("{name} comes from {source}; only crates.io keeps what it once gave"));
    }
    let licence = package["license"].as_str().unwrap_or_default();
    if !is_allowed(licence) {
        breaches.push(format!(
            "{name} is licensed as {licence:?}; xtask/src/tidy/foreign.rs has what is allowed"
        ));
    }
}

/// Whether terms that are allowed can be chosen. Alternatives that are joined by AND stand in parentheses.
fn is_allowed(licence: &str) -> bool {
    licence.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']).replace('/', " OR ");
        part.split(" OR ").any(|term| LICENCES.contains(&term.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_allowed_if_all_that_must_be_kept_can_be() {
        for licence in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 / MIT",
        ] {
            assert!(is_allowed(licence), "{licence}");
        }
        for licence in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-3.0) AND MIT", "MITX"] {
            assert!(!is_allowed(licence), "{licence}");
        }
    }

    #[test]
    fn what_comes_from_elsewhere_or_on_other_terms_is_a_breach() {
        let mut breaches = Vec::new();
        let git = "git+https://example.com/x";
        for (source, licence) in
            [(Value::Null, ""), (REGISTRY.into(), "MIT"), (git.into(), "MIT"), (REGISTRY.into(), "SSPL-1.0")]
        {
            check_package(
                &serde_json::json!({"name": "x", "source": source, "license": licence}),
                &mut breaches,
            );
        }
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches[0].contains(git) && breaches[1].contains("SSPL-1.0"), "{breaches:?}");
    }
}
