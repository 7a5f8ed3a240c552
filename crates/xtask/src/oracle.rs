//! The judges: stock Postgres's own pages for redo, its own test suites for whole branches.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, root, run};
use crate::ecosystem;

/// Builds for release, gets the suites' source and the major that is asked for, and runs a judge with `args`.
pub fn oracle(args: &[String]) -> Result<()> {
    let judge = args.first().map_or("", String::as_str);
    if judge == "whole" {
        return whole(args.get(1..).unwrap_or_default());
    }
    if ["consistency", "judge", "branch", "directory"].contains(&judge) {
        let major = args.iter().skip_while(|arg| *arg != "--major").nth(1).map_or("15", String::as_str);
        // The isolation suite is 15's on every major, and so are the others where Debian has no source: of 16 never, and of
        // another while its mirrors list one that they do not hold yet.
        let source = |major: &str| run(Command::new(root().join("scripts/postgres-source")).arg(major));
        source("15")?;
        if !["15", "16"].contains(&major) && source(major).is_err() {
            eprintln!("the suites of 15 run on {major}: there is no source of {major} to be had");
        }
        // A cache that is named holds what is to be judged.
        if major != "15" && std::env::var_os("SCION_PG_CACHE").is_none() {
            run(Command::new(root().join("scripts/postgres-majors")).arg(major))?;
        }
    }
    let mut words = vec!["run", "--release", "--package"];
    words.extend(match judge {
        "branch" => {
            run(cargo().args(["build", "--release", "--package", "scion"]))?;
            ["scion-tests", "--bin", "suites", "--"]
        }
        "directory" => ["scion-tests", "--bin", "redo", "--"],
        _ => ["scion-oracle", "--bin", "oracle", "--"],
    });
    let mut command = cargo();
    command.args(words).args(if judge == "branch" { args.get(1..).unwrap_or_default() } else { args });
    if args.iter().any(|arg| arg == "extensions") {
        run(&mut Command::new(root().join("scripts/extension-suites")))?;
        let postgres = ecosystem::extensions()?;
        command.env("SCION_PG_BIN", postgres.join("15/bin"));
    }
    run(&mut command)
}

/// Every judge over every load, on version 15 unless `options` name another, then the report. Takes some 15 minutes.
fn whole(options: &[String]) -> Result<()> {
    for words in ["consistency --suite all", "judge --suite all", "directory"] {
        oracle(&words.split(' ').map(str::to_owned).chain(options.iter().cloned()).collect::<Vec<_>>())?;
    }
    oracle(&["report".to_owned()])
}

/// Builds for release and runs the program that has redo and the store together with `args`.
pub fn redo(args: &[String]) -> Result<()> {
    run(cargo().args(["run", "--release", "--package", "scion-tests", "--bin", "redo", "--"]).args(args))
}
