//! What runs while nobody waits for it: the newest minor of every major, other random numbers each night, everything that
//! a change is spared.
//!
//! The newest minors that the registries have today go to a directory of their own, so that a new one is met here before
//! users meet it. All parts run, whatever one finds. What failed is kept below `target/nightly/DATE`, with the numbers that
//! make the same run again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, root, run};
use crate::lanes::Lanes;

/// Histories of the state machine in one night, and the operations in each.
const HISTORIES: u64 = 20;
const OPERATIONS: &str = "450";
/// Positions at which a branch is compared with stock recovery.
const POINTS: &str = "20";
const MAJORS: [&str; 4] = ["15", "16", "17", "18"];

/// Runs all of it; `seed` replaces the date, to run a night again.
pub fn nightly(seed: Option<&str>) -> Result<()> {
    let seed = match seed {
        Some(text) => text.parse().with_context(|| format!("{text} is no number"))?,
        None => today()?,
    };
    let mut night = Night::begin(seed)?;
    let mut lanes = Lanes::default();
    lanes.part("newest minors", || night.install())?;
    lanes.part("build", || run(cargo().args(["build", "--workspace", "--all-targets"])))?;
    lanes.part("tests", || night.tests())?;
    for major in MAJORS {
        for words in ["consistency --suite all", "judge --suite all", "directory --points 20"] {
            lanes.part(&format!("oracle {words} on {major}"), || night.judge(words, major))?;
        }
    }
    lanes.part("histories", || night.histories())?;
    lanes.part("ecosystem", || {
        night.part("ecosystem", &mut Command::new(std::env::current_exe()?), &["ecosystem"])
    })?;
    for words in ["consistency --suite extensions", "directory --suite extensions --points 20"] {
        lanes.part(&format!("oracle {words}"), || night.judge(words, "15"))?;
    }
    night.end()
}

/// Days since 1970, which each night has once.
fn today() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400)
}

struct Night {
    seed: u64,
    postgres: PathBuf,
    kept: PathBuf,
    failed: Vec<String>,
}

impl Night {
    fn begin(seed: u64) -> Result<Self> {
        let kept = root().join("target/nightly").join(seed.to_string());
        fs::create_dir_all(&kept)?;
        eprintln!("seed {seed}; `cargo xtask nightly {seed}` runs this night again");
        Ok(Self { seed, postgres: root().join("target/postgres-newest"), kept, failed: Vec::new() })
    }

    fn environment(&self) -> BTreeMap<&'static str, PathBuf> {
        let v15 = self.postgres.join("15/bin");
        BTreeMap::from([("SCION_PG_CACHE", self.postgres.clone()), ("SCION_PG_BIN", v15)])
    }

    /// A registry that does not answer is a failure; what was had of it before is judged again.
    fn install(&mut self) -> Result<()> {
        let mut script = Command::new(root().join("scripts/postgres-majors"));
        self.part("newest minors", &mut script, &["--newest"])?;
        for major in MAJORS {
            let postgres = self.postgres.join(major).join("bin/postgres");
            if !postgres.is_file() {
                bail!(
                    "there is no PostgreSQL {major} to judge\nhint: scripts/postgres-majors --newest {major}"
                );
            }
        }
        Ok(())
    }

    /// All tests, also those that a change is spared.
    fn tests(&mut self) -> Result<()> {
        let mut tests = cargo();
        tests.env("SCION_BIN", root().join("target/debug/scion")).env("SCION_ORACLE_POINTS", POINTS);
        tests.env("SCION_REQUIRE", MAJORS.join(","));
        let words = [
            "nextest",
            "run",
            "--workspace",
            "--run-ignored",
            "all",
            "--test-threads",
            "2",
            "--no-fail-fast",
        ];
        self.part("tests", &mut tests, &words)
    }

    fn judge(&mut self, words: &str, major: &str) -> Result<()> {
        let seed = self.seed.to_string();
        let name = format!("oracle {words} on {major}");
        let mut words: Vec<&str> = words.split(' ').collect();
        words.splice(..0, ["oracle"]);
        words.extend(["--major", major, "--seed", &seed]);
        self.part(&name, &mut Command::new(std::env::current_exe()?), &words)
    }

    /// Histories that nobody had before; one that failed is kept with what was done in it.
    fn histories(&mut self) -> Result<()> {
        for n in 0..HISTORIES {
            let seed = (self.seed * 1000 + n).to_string();
            let mut test = cargo();
            test.env("SCION_STATE_MACHINE_SEED", &seed).env("SCION_STATE_MACHINE_OPERATIONS", OPERATIONS);
            test.env("SCION_BIN", root().join("target/debug/scion"));
            let words = [
                "nextest",
                "run",
                "--workspace",
                "-E",
                "package(scion-tests) and test(/^state_machine::/)",
                "--no-capture",
            ];
            self.part(&format!("history of seed {seed}"), &mut test, &words)?;
        }
        Ok(())
    }

    /// Runs one part; what it said is kept if it failed.
    fn part(&mut self, name: &str, command: &mut Command, words: &[&str]) -> Result<()> {
        command.args(words).envs(self.environment()).current_dir(root());
        let log = self.kept.join(name.replace([' ', '/'], "-"));
        let file = fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        match run(command) {
            Ok(()) => fs::remove_file(&log).with_context(|| format!("remove {}", log.display())),
            Err(_) => {
                eprintln!("FAILED: {name}: {}", log.display());
                self.failed.push(name.to_owned());
                Ok(())
            }
        }
    }

    fn end(self) -> Result<()> {
        let versions: Vec<String> = MAJORS.iter().map(|major| version(&self.postgres.join(major))).collect();
        eprintln!("judged: PostgreSQL {}", versions.join(", "));
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!(
            "failed: {}\nhint: what they said is in {}; `cargo xtask nightly {}` runs them again",
            self.failed.join("; "),
            self.kept.display(),
            self.seed
        );
    }
}

/// A minor, such as `15.20`.
fn version(postgres: &Path) -> String {
    let output = Command::new(postgres.join("bin/postgres")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(2).unwrap_or("unknown").to_owned()
}
