//! How long each part of a run took, and which tests took longest: printed whatever came of the run, so that nobody has
//! to guess where its time goes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cargo::root;

/// Where nextest writes what its last run was (`.config/nextest.toml`).
const JUNIT: &str = "target/nextest/default/junit.xml";
/// How many of the slowest tests are printed.
const SLOWEST: usize = 20;

/// The parts of a run, in order; printed when this is dropped.
#[derive(Default)]
pub struct Lanes {
    parts: Vec<(String, Duration)>,
    tests: Vec<(f64, String)>,
}

impl Lanes {
    /// Does one part.
    pub fn part(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let outcome = work();
        self.parts.push((name.to_owned(), began.elapsed()));
        outcome
    }

    /// Does one part that is a run of nextest.
    pub fn tests(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let report = root().join(JUNIT);
        let _ = fs::remove_file(&report);
        let outcome = self.part(name, work);
        self.tests.extend(tests_in(&fs::read_to_string(report).unwrap_or_default()));
        outcome
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let mut slowest: Vec<_> = self.tests.iter().collect();
        slowest.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (seconds, test) in slowest.into_iter().take(SLOWEST) {
            let _ = writeln!(text, "{seconds:>8.1} s  {test}");
        }
        let total: Duration = self.parts.iter().map(|(_, took)| *took).sum();
        let parts = self.parts.iter().map(|(name, took)| (name.as_str(), *took));
        for (name, took) in parts.chain([("in all", total)]) {
            let _ = writeln!(text, "{:>8.1} s  {name}", took.as_secs_f64());
        }
        text
    }
}

/// Where tests write that they were skipped, and why.
pub fn skipped_list() -> PathBuf {
    root().join("target/skipped-tests")
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let skipped = fs::read_to_string(skipped_list()).unwrap_or_default();
        for line in skipped.lines().collect::<BTreeSet<_>>() {
            eprintln!("SKIPPED: {line}");
        }
        eprint!("\nthe {SLOWEST} slowest tests, and each part of the run:\n{}", self.table());
    }
}

/// Seconds and name of each test of a report.
fn tests_in(report: &str) -> Vec<(f64, String)> {
    let test = |element: &str| {
        let name = attribute(element, "name")?;
        Some((
            attribute(element, "time")?.parse().ok()?,
            format!("{} {name}", attribute(element, "classname")?),
        ))
    };
    report.split("<testcase ").skip(1).filter_map(test).collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = element
        .split('>')
        .next()?
        .split_once(&format!(" {name}=\""))
        .or_else(|| element.strip_prefix(&format!("{name}=\"")).map(|value| ("", value)))?;
    value.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_a_report_are_read_with_their_times() {
        let report = r#"<testsuite name="a" time="9"><testcase name="x::y" classname="a" timestamp="t" time="1.500">
            </testcase><testcase name="z" classname="a::b" time="0.25"/></testsuite>"#;
        assert_eq!(tests_in(report), [(1.5, "a x::y".to_owned()), (0.25, "a::b z".to_owned())]);
        assert_eq!(tests_in(""), []);
    }
}
