//! Postgres in single-user mode on an endpoint's directory: one session of the role that the cluster was made with, which
//! no role, setting or event trigger keeps out (`InitializeSessionUserIdStandalone` in `miscinit.c`).
//!
//! What must hold
//! - It is held to the endpoint's directories as every other Postgres is, and dies with us.
//! - Nothing of a user's runs in it: it preloads no library, and has the options of scion's own sessions.
//!
//! Not here: what is run in it (`agent::mend`).

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use wal::Major;

use crate::error::{Error, While};
use crate::limits::MENDING_PRINTS_BYTES;
use crate::postgres::held::Held;
use crate::shipping::synced::WalIsDurable;
use crate::spec::EndpointSpec;
use crate::sql::session;

/// A database that nobody drops or enters. Whether one takes connections is not asked here.
const DATABASE: &str = "template0";
/// Settings of an endpoint, which would have users' libraries loaded.
const NO_LIBRARIES: [&str; 2] = ["-c", "shared_preload_libraries="];

/// Where users have their names.
const NAMES: &str = "/etc/passwd";
/// A user who has nothing and a name on every machine, with its group.
const NOBODY: (u32, u32) = (65534, 65534);

/// The spec of an endpoint whose Postgres is to run in single-user mode: it is no standby, as it may have to write, and has a
/// user with a name, as `postgres --single` looks for one (`get_user_name`). The users of projects have none.
pub fn spec(of: &EndpointSpec) -> EndpointSpec {
    let named = |(uid, gid)| if has_name(uid) { (uid, gid) } else { NOBODY };
    let mut spec = EndpointSpec { read_only: false, run_as: of.run_as.map(named), ..of.clone() };
    spec.reaches.push(NAMES.into());
    spec
}

fn has_name(uid: u32) -> bool {
    let mut buffer = vec![0; 16 << 10];
    let mut entry = std::mem::MaybeUninit::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to values of ours that live through the call, and the length is the buffer's.
    let asked = unsafe {
        libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    asked == 0 && !found.is_null()
}

/// Runs `statements`, a line each, on the mounted directory; `lock` goes to the process. Its end is to be waited for.
///
/// # Errors
/// `Io` if it cannot be executed.
pub fn spawn(
    spec: &EndpointSpec,
    (lock, _): (&File, WalIsDurable),
    major: &Major,
    statements: &str,
) -> Result<Child, Error> {
    let program = spec.pg_bin.join("postgres");
    let log_path = spec.postgres_log();
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.while_(|| format!("open {}", log_path.display()))?;
    let mut command = Command::new(&program);
    command.arg("--single").arg("-D").arg(spec.mount_dir());
    command.args(session::arguments(major.number.cast_signed())).args(NO_LIBRARIES).arg(DATABASE);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let held = Held::new(spec, lock, libc::SIGKILL)?;
    // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
    unsafe { command.pre_exec(move || held.enter()) };
    let mut child = command.spawn().while_(|| format!("run {} --single", program.display()))?;
    // Less than a pipe holds, so that nobody waits for anybody. One that has ended says why in its log.
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(statements.as_bytes())
    {
        tracing::warn!("hand postgres its statements: {error}");
    }
    Ok(child)
}

/// What a process that has ended printed.
///
/// # Errors
/// Those of its pipe.
pub fn printed(child: &mut Child) -> Result<String, Error> {
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MENDING_PRINTS_BYTES).read_to_end(&mut text);
        read.while_(|| "read what postgres printed".to_owned())?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The values of a column that has this name, in what single-user mode printed (`printatt` in `printtup.c`).
pub fn values<'a>(printed: &'a str, column: &str) -> Vec<&'a str> {
    let start = format!(": {column} = \"");
    let value = |line: &'a str| Some(line.split_once(&start)?.1.split_once("\"\t(typeid")?.0);
    printed.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_told_from_one_with() {
        assert!(has_name(0) && has_name(NOBODY.0));
        assert!(!has_name(2_060_913_674));
    }

    #[test]
    fn values_are_those_of_one_column() {
        let printed = "\nPostgreSQL stand-alone backend 15.18\nbackend> \t 1: was\t(typeid = 25, len = -1)\n\t----\n\
                       \t 1: was = \"10 t 7a\"\t(typeid = 25, len = -1, typmod = -1, byval = f)\n\t----\nbackend> \
                       \t 1: is = \"10\"\t(typeid = 25, len = -1, typmod = -1, byval = f)\n\t----\nbackend> ";
        assert_eq!(values(printed, "was"), ["10 t 7a"]);
        assert_eq!(values(printed, "is"), ["10"]);
        assert!(values(printed, "none").is_empty());
    }
}
