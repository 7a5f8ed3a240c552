//! The regression suites of extensions that Debian packages: what their authors thought of, on pages that are theirs.
//!
//! The suites' files come from `scripts/extension-suites`, and are of another version of the extension where Debian's own has
//! none. What a statement of theirs answers does not matter here, as what it logged is judged all the same; how many fail
//! is reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::{Server, run};
use crate::suites::{Outcome, makefile_list};

/// Where in a suite's directory its statements are, of which one is there.
const SQL: [&str; 3] = ["test/sql", "sql", "regress/core"];
/// Longest wait for a server that recovers.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// Longest that one of its statements may take.
const OPTIONS: &str = "-c client_min_messages=error -c statement_timeout=60s";

/// Runs the suites of those extensions that the server has.
pub(crate) fn load(server: &Server) -> Outcome {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/extension-suites");
    let entries = fs::read_dir(&store).expect("no suites of extensions: run scripts/extension-suites first");
    let mut suites: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    // One that a script which was killed was unpacking.
    suites.retain(|suite| !suite.file_name().unwrap().as_encoded_bytes().starts_with(b"."));
    suites.sort();
    let said: Vec<String> = suites.iter().map(|suite| suite_of(server, suite)).collect();
    assert!(said.iter().any(|said| said.contains("files")), "the server has none of them: {said:?}");
    Outcome { said: said.join("; "), failed: Vec::new() }
}

/// Runs one suite in a database of its own; what came of it.
fn suite_of(server: &Server, suite: &Path) -> String {
    let name = suite.file_name().unwrap().to_str().unwrap();
    let database = format!("suite_{name}");
    let work = server.dir().join(&database);
    run(Command::new("cp").arg("-a").arg(suite).arg(&work));
    server.give_away(&work);
    wait_for(server);
    server.psql(&format!("CREATE DATABASE \"{database}\""));
    let psql = |arguments: &[&str]| {
        let mut psql = server.client("psql");
        psql.args(["-X", "-q", "-d", &database]).args(arguments).current_dir(&work);
        psql.env("PGOPTIONS", OPTIONS).env("PG_ABS_SRCDIR", &work);
        let output = psql.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).matches("ERROR:").count()
    };
    let created = |extension: &String| {
        psql(&["-c", &format!("CREATE EXTENSION IF NOT EXISTS \"{extension}\" CASCADE")]) == 0
    };
    if !extensions(&work).iter().all(created) {
        return format!("{name}: not on this server");
    }
    let files = files(&work);
    let errors = files.iter().map(|file| {
        let errors = psql(&["-f", file.to_str().unwrap()]);
        wait_for(server);
        errors
    });
    let errors: usize = errors.sum();
    format!("{name}: {} files, {errors} errors", files.len())
}

/// A suite may end a server that is older than it; what is written after recovery goes on where the log was.
fn wait_for(server: &Server) {
    let deadline = Instant::now() + RECOVERED_WITHIN;
    let open = || {
        let mut psql = server.client("psql");
        psql.args(["-X", "-q", "-d", "postgres", "-c", ""]).stdin(Stdio::null());
        psql.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    while !open() {
        assert!(Instant::now() < deadline, "the server does not take connections again");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The extensions whose suite it is.
fn extensions(suite: &Path) -> Vec<String> {
    let controls = fs::read_dir(suite).unwrap().map(|entry| entry.unwrap().path());
    let controls = controls.filter(|path| path.extension().is_some_and(|extension| extension == "control"));
    let named: Vec<_> = controls.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    // The control file of PostGIS is made when it is built.
    if named.is_empty() { vec!["postgis".to_owned()] } else { named }
}

/// The suite's files in the order that its Makefile names, then those it does not name.
fn files(suite: &Path) -> Vec<PathBuf> {
    let dir = SQL.iter().map(|sql| suite.join(sql)).find(|dir| dir.is_dir());
    let dir = dir.unwrap_or_else(|| panic!("{} has no statements", suite.display()));
    let makefile = fs::read_to_string(suite.join("Makefile")).unwrap_or_default();
    let named = makefile_list(&makefile, "REGRESS").into_iter().map(|test| dir.join(test + ".sql"));
    let mut files: Vec<PathBuf> = named.filter(|file| file.is_file()).collect();
    let mut all: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|file| file.extension().is_some_and(|extension| extension == "sql") && !files.contains(file));
    all.sort();
    files.extend(all);
    files
}
