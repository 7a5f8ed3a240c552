//! What `scion` says and how it exits when there is no server, which is how everybody meets it first.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `scion` with an empty data directory and no environment of its own.
fn scion(args: &[&str]) -> Output {
    let empty = std::env::temp_dir().join(format!("scion-cli-no-server-{}", std::process::id()));
    Command::new(env!("CARGO_BIN_EXE_scion"))
        .args(args)
        .env_remove("SCION_API")
        .env_remove("SCION_API_KEY")
        .env_remove("SCION_PROJECT")
        .env("SCION_DATA_DIR", empty)
        .output()
        .expect("cargo built the program for this test")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_server_every_verb_that_needs_one_exits_with_6_and_says_how_to_start_it() {
    let verbs: [&[&str]; 6] = [
        &["status"],
        &["project", "list"],
        &["branch", "list"],
        &["branch", "create", "x", "--at", "5 minutes ago"],
        &["connection-string", "main"],
        &["psql", "main"],
    ];
    for verb in verbs {
        let output = scion(verb);
        assert_eq!(output.status.code(), Some(6), "{verb:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("hint:  start one with `scion serve"),
            "{verb:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{verb:?}: words belong on stderr");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let lines: [&[&str]; 4] = [
        &["branch"],
        &["branch", "create"],
        &["branch", "create", "x", "--at", "soon"],
        &["status", "--api", "ftp://127.0.0.1:1", "--api-key", "k"],
    ];
    for line in lines {
        let output = scion(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {}", stderr(&output));
    }
}

#[test]
fn stopping_what_does_not_run_is_done_already() {
    let output = scion(&["stop"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn doctor_answers_without_a_server_and_names_every_remedy() {
    let output = scion(&["doctor", "--output", "json", "--pg-bin", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1), "no PostgreSQL in /nonexistent");
    let checks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(checks.iter().any(|check| check["check"] == "PostgreSQL" && check["outcome"] == "MISSING"));
    for check in checks {
        let remedied =
            check["outcome"] == "found" || check["remedy"].as_str().is_some_and(|text| !text.is_empty());
        assert!(remedied, "{check}");
    }
}

#[test]
fn nothing_is_coloured_when_it_does_not_go_to_a_terminal() {
    let output = scion(&["doctor"]);
    assert!(!output.stdout.contains(&0x1b));
    assert!(!scion(&["status"]).stderr.contains(&0x1b));
}

#[test]
fn the_printed_description_of_the_api_is_the_checked_in_one() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/openapi.json");
    let output = scion(&["openapi"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == std::fs::read(checked_in).unwrap(), "run: cargo xtask openapi");
}
