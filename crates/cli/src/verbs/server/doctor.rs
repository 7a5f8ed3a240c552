//! `scion doctor`: what this machine has, what it lacks, and how to get it. Works without a server.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};
use serde_json::json;
use server::OPEN_FILES_WANTED;
use server::installed::{Installation, Installed, NamedBin, how_to_install};

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::place;
use crate::verbs::server::serve::PgBin;

/// Less than this on the data directory's disk is too little to make a project.
const DISK_NEEDED_BYTES: u64 = 1 << 30;
/// Programs that come with a server and its client package.
const PROGRAMS: [&str; 5] = ["postgres", "initdb", "psql", "pg_dump", "pg_ctl"];

/// What this machine lacks to run scion, and how to get it.
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    pg_bin: PgBin,
}

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Found,
    Missing,
    /// Works, but less well.
    Degraded,
}

struct Check {
    what: &'static str,
    outcome: Outcome,
    /// What was found, or what is wrong.
    detail: String,
    /// How to put it right; empty when found.
    remedy: String,
}

impl Check {
    fn found(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Found, detail: detail.into(), remedy: String::new() }
    }

    fn missing(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Missing, detail: detail.into(), remedy: remedy.into() }
    }

    fn degraded(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Degraded, detail: detail.into(), remedy: remedy.into() }
    }
}

impl Doctor {
    /// Runs the verb; the exit code is 1 if something required is missing.
    pub fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        let root = place::is_root();
        let data_dir = place::data_dir(global)?;
        let installed = server::installed::find(&self.named(&data_dir));
        let mut checks = postgres(&installed);
        for it in installed.by_major.values() {
            checks.extend([programs(it), amcheck(it)]);
        }
        checks.push(fuse_device());
        checks.push(if root { postgres_user() } else { fusermount() });
        checks.extend([confined(compute::landlock_version()), users(root, server::users::are_there())]);
        checks.push(if root { passable(&data_dir) } else { writable(&data_dir) });
        checks.push(disk(&data_dir));
        checks.push(open_files());
        print(global.output, &checks);
        let well = checks.iter().all(|check| check.outcome != Outcome::Missing);
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Directories of Postgres servers to look at first: those named here, else those that the server on the data directory
    /// was given or found.
    fn named(&self, data_dir: &Path) -> Vec<NamedBin> {
        if !self.pg_bin.pg_bin.is_empty() {
            return self.pg_bin.pg_bin.clone();
        }
        // A file that cannot be read is as none: the other checks say what is wrong with the data directory.
        let server = place::server_json(data_dir).ok().flatten();
        let texts = server.map(|server| server.pg_bin).unwrap_or_default();
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

fn print(format: Format, checks: &[Check]) {
    if format == Format::Json {
        let checks: Vec<_> = checks
            .iter()
            .map(|it| json!({"check": it.what, "outcome": word(it.outcome), "detail": it.detail, "remedy": it.remedy}))
            .collect();
        output::json(&json!(checks));
        return;
    }
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|it| vec![it.what.to_owned(), word(it.outcome).to_owned(), it.detail.clone()])
        .collect();
    output::table(&["CHECK", "RESULT", "DETAIL"], &rows);
    for check in checks.iter().filter(|check| check.outcome != Outcome::Found) {
        output::words(&format!("{}: {}", check.what, check.remedy));
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Found => "found",
        Outcome::Missing => "MISSING",
        Outcome::Degraded => "degraded",
    }
}

const WHAT_POSTGRES: &str = "PostgreSQL";

/// Each major that there is. One is enough.
fn postgres(installed: &Installed) -> Vec<Check> {
    let found = installed.by_major.values();
    let mut checks: Vec<Check> = found
        .map(|it| Check::found(WHAT_POSTGRES, format!("{} in {}", it.version, it.bin.display())))
        .collect();
    let install = format!("run `scripts/setup`, or {}", how_to_install(15));
    let none = || "none that is supported: 15, 16, 17 or 18".to_owned();
    let wrong = installed.wrong.iter().cloned();
    let missing = wrong.chain(checks.is_empty().then(none)).collect::<Vec<_>>();
    checks.extend(missing.into_iter().map(|text| Check::missing(WHAT_POSTGRES, text, install.clone())));
    checks
}

fn programs(it: &Installation) -> Check {
    let what = "its programs";
    let absent: Vec<&str> = PROGRAMS.into_iter().filter(|name| !it.bin.join(name).is_file()).collect();
    if absent.is_empty() {
        return Check::found(what, PROGRAMS.join(", "));
    }
    let detail = format!("no {} in {}", absent.join(", "), it.bin.display());
    let remedy = format!("endpoints run; for dumps and psql install the client package of {}", it.major);
    Check::degraded(what, detail, remedy)
}

fn amcheck(it: &Installation) -> Check {
    let share = Command::new(it.bin.join("pg_config")).arg("--sharedir").output().ok();
    let share = share.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let debian = format!("/usr/share/postgresql/{}", it.major);
    let beside = it.bin.join("../share/postgresql").to_string_lossy().into_owned();
    let found = share
        .into_iter()
        .chain([debian, beside])
        .any(|dir| Path::new(&dir).join("extension/amcheck.control").is_file());
    if found {
        Check::found("contrib (amcheck)", "installed")
    } else {
        let detail = "not installed; branches work, pg_amcheck does not";
        let remedy = format!("install the contrib package of PostgreSQL {}", it.major);
        Check::degraded("contrib (amcheck)", detail, remedy)
    }
}

fn fuse_device() -> Check {
    const WHAT: &str = "/dev/fuse";
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Check::found(WHAT, "can be opened"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::missing(WHAT, "this user may not open it", "as root: chmod 0666 /dev/fuse")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::missing(WHAT, "not there", "as root: modprobe fuse; for a container: --device /dev/fuse")
        }
        Err(error) => Check::missing(
            WHAT,
            error.to_string(),
            "as root: modprobe fuse; in a container: allow the device",
        ),
    }
}

fn fusermount() -> Check {
    match compute::fusermount() {
        Some(path) => Check::found("fusermount3", path.display().to_string()),
        None => Check::missing(
            "fusermount3",
            "not on the path",
            "run `scripts/setup`, or `apt-get install fuse3`",
        ),
    }
}

/// Postgres refuses to run as root, so root's endpoints run as this user.
fn postgres_user() -> Check {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if users.lines().any(|line| line.starts_with("postgres:")) {
        Check::found("user postgres", "exists; new clusters are made as it")
    } else {
        let remedy = "as root: useradd --system --user-group postgres, or run scion as an ordinary user";
        Check::missing("user postgres", "no such user", remedy)
    }
}

/// Whether the kernel holds each Postgres to its own directories.
fn confined(version: u32) -> Check {
    const WHAT: &str = "Landlock";
    const WITH_SIGNALS: u32 = 6;
    let remedy =
        "nothing is missing for one user's own projects; docs/operate/security.md says what to trust";
    match version {
        0 => Check::degraded(WHAT, "the kernel does not hold Postgres to its own directories", remedy),
        1..WITH_SIGNALS => {
            let detail =
                format!("version {version}: Postgres reaches its own directories only, and may send signals");
            Check::found(WHAT, detail)
        }
        _ => Check::found(
            WHAT,
            format!("version {version}: Postgres reaches its own directories and processes only"),
        ),
    }
}

/// Whether the kernel keeps the projects' processes from each other.
fn users(root: bool, are_there: bool) -> Check {
    const WHAT: &str = "users of projects";
    match (root, are_there) {
        (true, true) => Check::found(WHAT, "each project's Postgres runs as a user of its own"),
        (true, false) => {
            let detail = "user ids from 1879048192 are not there, so all run as user postgres";
            Check::degraded(
                WHAT,
                detail,
                "in a container: map all user ids, or trust the projects' superusers alike",
            )
        }
        (false, _) => Check::found(WHAT, "all run as this user; only root's server can give each its own"),
    }
}

/// Root's endpoints run as another user, who has to get to the data directory.
fn passable(dir: &Path) -> Check {
    const WHAT: &str = "data directory";
    const OTHERS_MAY_ENTER: u32 = 0o001;
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // The directory itself is not looked at: the server opens it as far as needed.
    let closed = dir.ancestors().skip(1).find(|above| {
        std::fs::metadata(above).is_ok_and(|found| found.permissions().mode() & OTHERS_MAY_ENTER == 0)
    });
    match closed {
        None => Check::found(WHAT, format!("{} can be reached by user postgres", dir.display())),
        Some(closed) => Check::missing(
            WHAT,
            format!("only its owner may enter {}, and endpoints run as postgres", closed.display()),
            format!("as root: chmod o+x {}, or name another --data-dir", closed.display()),
        ),
    }
}

fn writable(dir: &Path) -> Check {
    const WHAT: &str = "data directory";
    let existing = nearest(dir).unwrap_or(Path::new("/"));
    if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        Check::found(WHAT, dir.display().to_string())
    } else {
        let detail = format!("this user may not write to {}", existing.display());
        Check::missing(WHAT, detail, "name another --data-dir, or run as the directory's owner")
    }
}

/// The part of `dir` that is there.
fn nearest(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.exists())
}

fn disk(dir: &Path) -> Check {
    let Some(existing) = nearest(dir) else {
        return Check::missing(
            "disk",
            format!("no part of {} exists", dir.display()),
            "name another --data-dir",
        );
    };
    let Some(free) = free_bytes(existing) else {
        return Check::degraded(
            "disk",
            format!("cannot tell how much is free at {}", existing.display()),
            "look with df",
        );
    };
    let detail = format!("{} free at {}", output::bytes(free), existing.display());
    if free >= DISK_NEEDED_BYTES {
        Check::found("disk", detail)
    } else {
        let needed = output::bytes(DISK_NEEDED_BYTES);
        Check::missing("disk", detail, format!("free at least {needed}, or name another --data-dir"))
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The soft limit does not matter: `scion serve` raises it to the hard one.
fn open_files() -> Check {
    enough_open_files(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX))
}

fn enough_open_files(most: u64) -> Check {
    const WHAT: &str = "open files";
    if most >= OPEN_FILES_WANTED {
        return Check::found(WHAT, format!("{most} at most"));
    }
    let detail = format!("{most} at most, which is too low for many endpoints and projects at once");
    let remedy = format!(
        "raise the hard limit to {OPEN_FILES_WANTED} or more: `ulimit -Hn` as root, or LimitNOFILE= of the service"
    );
    Check::degraded(WHAT, detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_postgres_says_how_to_get_one() {
        let checks = postgres(&Installed::default());
        assert_eq!(checks[0].outcome, Outcome::Missing);
        assert!(checks[0].remedy.contains("apt-get install postgresql-15"), "{}", checks[0].remedy);
    }

    #[test]
    fn a_limit_of_open_files_that_is_too_low_is_told_with_the_way_out() {
        assert_eq!(enough_open_files(OPEN_FILES_WANTED).outcome, Outcome::Found);
        let check = enough_open_files(1024);
        assert_eq!(check.outcome, Outcome::Degraded);
        assert!(check.detail.starts_with("1024 at most"), "{}", check.detail);
        assert!(check.remedy.contains("4096"), "{}", check.remedy);
    }

    #[test]
    fn what_keeps_projects_apart_here_is_said() {
        assert_eq!(confined(0).outcome, Outcome::Degraded);
        assert!(confined(3).detail.contains("signals"), "{}", confined(3).detail);
        assert_eq!(confined(7).outcome, Outcome::Found);
        assert_eq!(users(true, false).outcome, Outcome::Degraded);
        assert!(users(true, true).detail.contains("of its own"));
    }

    #[test]
    fn a_directory_that_only_its_owner_may_enter_is_named() {
        let check = passable(Path::new("/proc/self/fd/data"));
        assert_eq!(check.outcome, Outcome::Missing);
        assert!(check.remedy.contains("chmod o+x /proc/self/fd,"), "{}", check.remedy);
        assert_eq!(passable(Path::new("/proc/self/data")).outcome, Outcome::Found);
    }

    #[test]
    fn the_postgres_of_the_running_server_is_looked_at_unless_another_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = r#"{"url": "http://127.0.0.1:1", "pid": 1, "pg_bin": ["17=/opt/seventeen"]}"#;
        std::fs::write(dir.path().join("server.json"), file).unwrap();
        let of = |named: &[&str]| {
            let pg_bin = named.iter().map(|text| text.parse().unwrap()).collect();
            Doctor { pg_bin: PgBin { pg_bin } }.named(dir.path())
        };
        let bin = |text: &str| text.parse::<NamedBin>().unwrap();
        assert_eq!(of(&[]), [bin("17=/opt/seventeen")]);
        assert_eq!(of(&["/other"]), [bin("/other")]);
        assert!(Doctor { pg_bin: PgBin { pg_bin: Vec::new() } }.named(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn disk_space_is_looked_up_where_the_directory_will_be() {
        let detail = disk(Path::new("/tmp/a/b/c")).detail;
        assert!(detail.ends_with(" free at /tmp"), "{detail}");
        assert!(free_bytes(Path::new("/")).is_some());
    }
}
