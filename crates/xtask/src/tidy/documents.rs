//! What documents say of files and tests.
//!
//! - A rule that the README of a crate numbers has a test that says so, and a test says so of no rule that is not there. It names
//!   the rule by a line of its doc: "Rule 3 of the crate's README." in the crate, "Rule 3 of the README of `store`." in the tests
//!   of the whole system.
//! - The files that ARCHITECTURE.md leads a reader through are there.
//! - The commits that recipes name as examples are there, where the whole history is.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::source::Source;

/// The crates whose README numbers its rules.
const CRATES: [&str; 3] = ["redo", "store", "compute"];

/// The documents that name commits as examples.
const RECIPES: [&str; 2] = ["CONTRIBUTING.md", "docs/add-a-major.md"];

/// Checks the documents below `root`.
pub fn check(root: &Path, sources: &[Source<'_>], breaches: &mut Vec<String>) {
    check_rules(root, sources, breaches);
    let walks = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    for file in files_in(&walks).filter(|file| !root.join("crates").join(file).exists()) {
        breaches.push(format!("ARCHITECTURE.md: {file} is not there"));
    }
    check_commits(root, breaches);
}

fn check_commits(root: &Path, breaches: &mut Vec<String>) {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(root).args(arguments).stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    };
    // Sources without their history, or with the end of it only, are built too.
    if git(&["rev-parse", "--is-shallow-repository"]).is_none_or(|output| output.stdout != b"false\n") {
        return;
    }
    for document in RECIPES {
        let text = std::fs::read_to_string(root.join(document)).unwrap_or_default();
        for commit in commits_in(&text) {
            if git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_none() {
                breaches.push(format!("{document}: there is no commit {commit}"));
            }
        }
    }
}

/// The commits that a text names: "commit 7855d9e".
fn commits_in(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let names = |pair: &&[&str]| {
        pair[0].eq_ignore_ascii_case("commit")
            && pair[1].len() >= 7
            && pair[1].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    words.windows(2).filter(names).map(|pair| pair[1]).collect()
}

/// The paths below `crates/` that a text names: `fs/src/fuse.rs`.
fn files_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("/src/") && !code.contains(char::is_whitespace))
}

fn check_rules(root: &Path, sources: &[Source<'_>], breaches: &mut Vec<String>) {
    for name in CRATES {
        let path = Path::new("crates").join(name).join("README.md");
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else {
            breaches.push(format!("{}:1: not there", path.display()));
            continue;
        };
        let dir = Path::new("crates").join(name);
        let inside = sources.iter().filter(|source| source.path.starts_with(&dir));
        let outside = sources.iter().filter(|source| source.path.starts_with("tests"));
        let mut shown: BTreeSet<u32> = inside.flat_map(|it| named(&it.text, "the crate's README.")).collect();
        shown.extend(outside.flat_map(|it| named(&it.text, &format!("the README of `{name}`."))));
        compare(&path, &numbers(&text), &shown, breaches);
    }
}

/// The numbers that lines of a list begin with, in their order.
fn numbers(readme: &str) -> Vec<u32> {
    let begins = |line: &str| line.split_once(". ").and_then(|(number, _)| number.parse().ok());
    readme.lines().filter_map(begins).collect()
}

/// The rules of `whose` that tests say they show.
fn named(text: &str, whose: &str) -> Vec<u32> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let rule = |line: &str| {
        let (number, of) = line.strip_prefix("/// Rule ")?.split_once(" of ")?;
        (of == whose).then(|| number.parse().ok()).flatten()
    };
    let is_test = |at: usize| {
        let head = lines.get(at..).unwrap_or_default().iter().take_while(|line| line.starts_with(['/', '#']));
        head.clone().any(|line| *line == "#[test]")
    };
    let found = lines.iter().enumerate().filter_map(|(at, line)| Some((at, rule(line)?)));
    found.filter(|(at, _)| is_test(*at)).map(|(_, number)| number).collect()
}

fn compare(path: &Path, numbers: &[u32], shown: &BTreeSet<u32>, breaches: &mut Vec<String>) {
    let path = path.display();
    if !numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).unwrap_or(u32::MAX)) {
        breaches.push(format!("{path}: its rules are not numbered from 1 on, each once: {numbers:?}"));
    }
    for number in numbers.iter().filter(|number| !shown.contains(number)) {
        breaches.push(format!("{path}: no test says that it shows rule {number}"));
    }
    for number in shown.iter().filter(|number| !numbers.contains(number)) {
        breaches.push(format!("{path}: a test shows rule {number}, which is not there"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_files_in_backticks() {
        let text =
            "**A page.** `fs/src/fuse.rs` (by `wal/src/reader.rs`) -> `redo/src/heap`; `scion`, `a /src/ b`";
        assert_eq!(
            files_in(text).collect::<Vec<_>>(),
            ["fs/src/fuse.rs", "wal/src/reader.rs", "redo/src/heap"]
        );
    }

    #[test]
    fn a_text_names_commits() {
        let text = "Commit 9f760fe did; a commit's subject (commit 872397e, the end), commit deeds, commit abcdefghi";
        assert_eq!(commits_in(text), ["9f760fe", "872397e"]);
    }

    #[test]
    fn a_commit_that_is_not_there_is_a_breach_where_the_history_is() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let name = ["-c", "user.name=x", "-c", "user.email=x@x"];
            let mut command = Command::new("git");
            command.arg("-C").arg(dir.path()).args(name).args(arguments);
            assert!(command.output().unwrap().status.success());
        };
        std::fs::write(dir.path().join("CONTRIBUTING.md"), "commit 0123456").unwrap();
        let mut breaches = Vec::new();
        check_commits(dir.path(), &mut breaches);
        assert_eq!(breaches, [""; 0]);
        git(&["init", "-q"]);
        git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        check_commits(dir.path(), &mut breaches);
        assert_eq!(breaches, ["CONTRIBUTING.md: there is no commit 0123456"]);
    }

    #[test]
    fn a_rule_without_a_test_and_a_test_without_a_rule_are_breaches() {
        let readme = "# x\n\n1. One.\n2. Two, of which\n   3. is no rule.\n3. Three.\n";
        let text = concat!(
            "/// What it is.\n/// Rule 1 of the crate's README.\n#[test]\nfn a() {}\n",
            "/// Rule 3 of the crate's README.\nfn no_test() {}\n",
            "    /// Rule 4 of the crate's README.\n    #[test]\n    #[ignore]\n    fn b() {}\n",
            "/// Rule 2 of the README of `x`.\n#[test]\nfn c() {}\n",
        );
        let shown: BTreeSet<u32> = named(text, "the crate's README.").into_iter().collect();
        assert_eq!(shown, [1, 4].into());
        assert_eq!(named(text, "the README of `x`."), [2]);
        let mut breaches = Vec::new();
        compare(Path::new("R"), &numbers(readme), &shown, &mut breaches);
        assert_eq!(
            breaches,
            [
                "R: no test says that it shows rule 2",
                "R: no test says that it shows rule 3",
                "R: a test shows rule 4, which is not there"
            ]
        );
        breaches.clear();
        compare(Path::new("R"), &[1, 3, 3], &[1, 3].into(), &mut breaches);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
    }
}
