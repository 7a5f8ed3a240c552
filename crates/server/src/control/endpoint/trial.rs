//! Whether Postgres starts with settings: a start is tried, of a server without data that nobody reaches.
//!
//! ```text
//!   DIR/bootstrap/try-..   PG_VERSION, global/pg_control of the project, postgresql.conf   and nothing else
//!   postgres -D that       reads its settings, loads its libraries, takes its shared memory, and then ends for want of
//!                          a directory, `pg_notify`
//! ```
//!
//! What it says before that is the answer: of a value that is none, of a library that does not load, of memory that is
//! not there. It takes some hundredths of a second and touches no endpoint.
//!
//! Not here: which settings may be given (`settings`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::fleet::hidden::hidden_permit;
use crate::fleet::process::clear_leftovers;
use crate::limits::TRIED_WITHIN;
use crate::names;

/// How such a start ends if nothing is wrong with the settings.
const ENDS: [&str; 2] = ["could not open directory \"pg_", "no socket created for listening"];

/// Checks that settings may be given to an endpoint of a project, and that its Postgres starts with them.
///
/// # Errors
/// `Malformed` for one that may not be given, `Refused` with Postgres's words; those of the store.
pub fn check_settings(control: &Control, project: &str, settings: &BTreeMap<String, String>) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let store = control.storage.store(project)?;
    check_settings_of(control, (project, control.storage.major(project)?), settings, store.control_template())
}

/// As `check_settings`, for a cluster of this project and major whose `pg_control` is given.
///
/// # Errors
/// As `check_settings`; `Unavailable` if there is no place for the Postgres that is tried.
pub fn check_settings_of(
    control: &Control,
    (project, major): (&str, i32),
    settings: &BTreeMap<String, String>,
    pg_control: &[u8],
) -> Result<()> {
    check_given(control, major, settings)?;
    if settings.is_empty() {
        return Ok(());
    }
    let _place = hidden_permit(&control.fleet, project)?;
    let dir = control.dir.bootstrap(&format!("try-{}", names::uuid()?));
    let said = try_start(control, major, &dir, settings, pg_control);
    clear_leftovers(&dir);
    if let Err(error) = fs::remove_dir_all(&dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot be removed; the next start will");
    }
    match refusal(&said?) {
        None => Ok(()),
        Some(why) if why.contains("No space left on device") => Err(Error::disk_full(why)),
        Some(why) => {
            let text =
                format!("nothing was changed: PostgreSQL {major} does not start with these settings: {why}");
            Err(Error::refused("SETTINGS_REFUSED", text))
        }
    }
}

/// Checks that settings may be given to an endpoint of this major.
///
/// # Errors
/// `Malformed` for one that may not be given.
pub fn check_given(control: &Control, major: i32, settings: &BTreeMap<String, String>) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let ask = || control.postgres.output(major, "postgres", &["--describe-config"]);
    control
        .settings
        .of(control.postgres.bin(major)?, ask)?
        .check(settings, &control.fleet.launch.postgres_paths)
}

/// What Postgres says at a start with `settings` in `dir`, which must not exist.
fn try_start(
    control: &Control,
    major: i32,
    dir: &Path,
    settings: &BTreeMap<String, String>,
    pg_control: &[u8],
) -> Result<String> {
    let conf =
        compute::trial_conf(settings, pg_control).map_err(|error| Error::internal(error.to_string()))?;
    let failed = |error| Error::io(format!("try settings in {}", dir.display()))(error);
    fs::create_dir_all(dir.join("global")).map_err(failed)?;
    let version = format!("{major}\n");
    let files: [(&str, &[u8]); 4] = [
        ("PG_VERSION", version.as_bytes()),
        ("global/pg_control", pg_control),
        ("postgresql.conf", conf.as_bytes()),
        ("pg_hba.conf", b""),
    ];
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).map_err(failed)?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let log = dir.join("log");
    let output = File::create(&log).map_err(failed)?;
    let files = files.map(|(name, _)| name);
    for name in ["", "global", "log"].iter().chain(&files).filter(|_| control.postgres.run_as.is_some()) {
        let (uid, gid) = control.postgres.run_as.unzip();
        std::os::unix::fs::chown(dir.join(name), uid, gid).map_err(failed)?;
    }
    let mut command = control.postgres.command(control.postgres.bin(major)?, "postgres");
    // Its words are read, whatever it is to say to others.
    command.arg("-D").arg(dir).args(["-c", "lc_messages=C", "-c", "log_min_messages=warning"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let mut child = command.spawn().map_err(failed)?;
    let deadline = Instant::now() + TRIED_WITHIN;
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() > deadline {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Ok(format!("FATAL:  not within {} s", TRIED_WITHIN.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(String::from_utf8_lossy(&fs::read(&log).map_err(failed)?).into_owned())
}

/// What is wrong with the settings of a start that was tried, if anything is.
fn refusal(log: &str) -> Option<String> {
    let after = |line: &str, level: &str| line.split_once(level).map(|(_, text)| text.trim().to_owned());
    let of_a_setting = |text: &String| {
        ["parameter \"", "parameter name \"", "syntax error in file"].iter().any(|words| text.contains(words))
    };
    let (mut wrong, mut fatal, mut hint) = (Vec::new(), None, None);
    for line in log.lines() {
        if let Some(text) = after(line, "LOG:  ").or_else(|| after(line, "WARNING:  ")) {
            wrong.extend(Some(without_file(&text)).filter(of_a_setting));
        } else if let Some(text) = after(line, "FATAL:  ").or_else(|| after(line, "PANIC:  ")) {
            fatal = fatal.or(Some(text));
        } else if let Some(text) = after(line, "HINT:  ") {
            hint = hint.or(Some(text));
        }
    }
    let ends = |text: &String| ENDS.iter().any(|end| text.starts_with(end));
    if wrong.is_empty() && fatal.as_ref().is_some_and(ends) {
        return None;
    }
    let text = match (wrong.is_empty(), fatal) {
        (false, _) => wrong.join("; "),
        (true, Some(text)) => text,
        (true, None) => log.lines().last().unwrap_or("it said nothing").to_owned(),
    };
    Some(hint.map_or(text.clone(), |hint| format!("{text}\nhint: {hint}")))
}

/// `text` without the file and line, which are gone.
fn without_file(text: &str) -> String {
    text.split_once(" in file \"").map_or(text, |(said, _)| said).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::machine::postgres::Owner;

    fn settings(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_that_postgres_does_not_start_with_are_found_without_an_endpoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let control = crate::control::tests::control(&dir);
        for major in control.postgres.installed.by_major.keys().copied() {
            let cluster = dir.path().join(format!("cluster-{major}"));
            let owner = Owner { role: "o", verifier: "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", database: "d" };
            control.postgres.make_cluster(major, &cluster, &owner).unwrap();
            let pg_control = fs::read(cluster.join("global/pg_control")).unwrap();
            let check = |list: &[(&str, &str)]| {
                check_settings_of(&control, ("p", major), &settings(list), &pg_control)
            };
            for good in [
                &[("work_mem", "8MB"), ("wal_level", "logical"), ("DateStyle", "ISO, DMY")][..],
                &[
                    ("shared_preload_libraries", "auto_explain, \"pg_prewarm\""),
                    ("auto_explain.log_analyze", "on"),
                ],
                &[("log_min_messages", "fatal"), ("jit_provider", "llvmjit")],
                &[("max_connections", "20"), ("max_worker_processes", "2")],
            ] {
                assert_eq!(check(good), Ok(()), "{major}: {good:?}");
            }
            for (bad, words) in [
                (&[("work_mem", "a lot"), ("jit", "off")][..], "\"work_mem\": \"a lot\""),
                (&[("work_mem", "-7")], "outside the valid range"),
                (&[("jit", "perhaps"), ("work_mem", "a lot")], "\"work_mem\""),
                (&[("plan_cache_mode", "never"), ("log_min_messages", "fatal")], "force_generic_plan"),
                (&[("log_min_messages", "loud")], "log_min_messages"),
                (&[("shared_buffers", "900TB")], "shared_buffers"),
                (&[("shared_buffers", "7TB")], "memory"),
                (&[("superuser_reserved_connections", "200")], "superuser_reserved_connections"),
                (
                    &[("shared_preload_libraries", "auto_explain"), ("auto_explain.log_format", "x")],
                    "log_format",
                ),
                (
                    &[("shared_preload_libraries", "auto_explain"), ("auto_explain.lo", "x")],
                    "auto_explain.lo",
                ),
            ] {
                let error = check(bad).unwrap_err();
                assert_eq!(error.kind, Kind::Refused, "{major}: {bad:?}: {error}");
                assert!(error.message.contains(words), "{major}: {bad:?}: {error}");
                assert!(error.message.starts_with("nothing was changed"), "{error}");
            }
            assert_eq!(check(&[("port", "5432")]).unwrap_err().kind, Kind::Malformed);
        }
        assert_eq!(control.dir.names_in("bootstrap").unwrap(), [""; 0]);
    }
}
