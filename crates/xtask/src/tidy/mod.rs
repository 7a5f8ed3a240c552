//! The rules of this repository that a program can check.
//!
//! A rule here has a reason in CONTRIBUTING.md; what only a reader can judge stands there alone.

mod dependencies;
mod documents;
mod edges;
mod foreign;
mod lexer;
mod rooms;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::{output_of, root};
use source::Source;

/// Checks every rule, prints every breach, and fails if there is one.
pub fn tidy() -> Result<()> {
    let root = root();
    let mut breaches = Vec::new();
    let mut sources = Vec::new();
    let files = files(&root)?;
    for file in &files {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if file.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source::new(file, text));
        } else {
            rules::check_ascii(file, &text, &mut breaches);
        }
    }
    source::mark_test_modules(&mut sources);
    sources.iter().for_each(|source| rules::check(source, &mut breaches));
    rooms::check(&sources, &mut breaches);
    edges::check(&sources, &mut breaches);
    documents::check(&root, &sources, &mut breaches);
    dependencies::check(&mut breaches)?;
    foreign::check(&mut breaches)?;
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("tidy: {} breaches of the rules in CONTRIBUTING.md", breaches.len());
    }
    eprintln!("tidy: {} files, no breach", files.len());
    Ok(())
}

/// Rust, TOML and shell files under version control or about to be.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
    let listed = output_of(&mut git)?;
    let ours = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("rs" | "toml" | "sh"))
            || path.starts_with("scripts")
            || path.starts_with(".ci")
    };
    let files: Vec<PathBuf> = listed.lines().map(PathBuf::from).filter(ours).collect();
    Ok(files.into_iter().filter(|file| root.join(file).is_file()).collect())
}
