//! Processes, mounts and shared memory of one endpoint, or of a cluster that is being made, that nobody answers for any
//! more.
//!
//! A `scion compute` that was killed leaves its Postgres behind, with a data directory that answers no more. Before
//! the endpoint starts again, and when it is deleted, nothing of it may be left.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use compute::wait_exit;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::limits::KILLED_WITHIN;

/// Kills what runs in the directory `dir` of an endpoint or a cluster, takes down its mount and releases its shared
/// memory.
pub fn clear_leftovers(dir: &Path) {
    let deadline = Instant::now() + KILLED_WITHIN;
    loop {
        // Handles, as a process that is ending can soon not be told from a stranger's: its memory, and with the mount
        // its working directory, go before the port it listens on is free.
        let left: Vec<OwnedFd> = processes_of(dir)
            .into_iter()
            .filter_map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
            .collect();
        for process in &left {
            // Gone already is as good.
            let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        }
        // A backend that waits for the dead mount ends only when that is gone.
        unmount(&dir.join("mnt"));
        if left.is_empty() || Instant::now() > deadline {
            break;
        }
        for process in &left {
            wait_exit(process, Some(deadline.saturating_duration_since(Instant::now())));
        }
    }
    compute::release_shared_memory(dir);
}

/// Processes that are this endpoint's: its compute by the spec it was started with, its Postgres by where it works. Of a
/// cluster that is being made, `initdb` by what it was told to make.
fn processes_of(dir: &Path) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok().and_then(Pid::from_raw))
        .filter(|pid| *pid != own && belongs_to(*pid, dir))
        .collect()
}

fn belongs_to(pid: Pid, dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    // A zombie has no working directory and no command line: it is nobody's. Whoever else stands in the directory, such as
    // the shell of an administrator, is left alone.
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    if is_postgres(&proc) && (cwd.starts_with(dir) || cwd == Path::new("/") && holds_lock(&proc, dir)) {
        return true;
    }
    let line = fs::read(proc.join("cmdline")).unwrap_or_default();
    let spec = dir.join("spec.json");
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let compute = arguments.contains(&b"compute".as_slice());
    let data = [dir.join("mnt"), dir.to_owned()];
    let is_data = |at: &[u8]| data.iter().any(|data| data.as_os_str().as_encoded_bytes() == at);
    let postgres = arguments.windows(2).any(|two| matches!(two, [b"-D", at] if is_data(at)));
    (compute && arguments.contains(&spec.as_os_str().as_encoded_bytes())) || postgres
}

/// Whether a process holds the lock that all processes of an endpoint's Postgres do. A backend that was forked while others
/// were looked for still waits for its postmaster when the mount is down already, and works nowhere then: in `/`.
fn holds_lock(proc: &Path, dir: &Path) -> bool {
    let lock = compute::lock_path(dir);
    let descriptors = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|at| at == lock))
}

/// Whether a process runs the program `postgres`, which an upgrade may have replaced on disk since.
fn is_postgres(proc: &Path) -> bool {
    let program = fs::read_link(proc.join("exe")).unwrap_or_default();
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == "postgres"
}

/// Takes down a mount, even one that answers no more; nothing if there is none.
fn unmount(at: &Path) {
    if !is_mounted(at) {
        return;
    }
    if let Err(error) = compute::unmount(at) {
        tracing::warn!(mount = %at.display(), "cannot unmount: {error}");
    }
}

/// Looks in the table of mounts, as a mount whose process is gone or silent answers nothing itself.
fn is_mounted(at: &Path) -> bool {
    let table = fs::read("/proc/self/mounts").unwrap_or_default();
    let mut lines = table.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let mounted = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        OsStr::from_bytes(&unescaped(mounted)) == at.as_os_str()
    })
}

/// A field of a table of mounts, in which blanks, tabs, line ends and backslashes are three octal digits (`mangle_path` of
/// Linux's fs/seq_file.c).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_processes_of_this_endpoint_are_killed() {
        let temp = tempfile::tempdir().unwrap();
        let (mine, other) = (temp.path().join("ep-a"), temp.path().join("ep-ab"));
        fs::create_dir_all(mine.join("mnt")).unwrap();
        fs::create_dir_all(other.join("mnt")).unwrap();
        let sleeps = |program: &Path, at: PathBuf| {
            let mut command = Command::new(program);
            command.arg("60").current_dir(at).spawn().unwrap()
        };
        // What runs is told by its program's name.
        let postgres = temp.path().join("postgres");
        fs::copy("/bin/sleep", &postgres).unwrap();
        let mut server = sleeps(&postgres, mine.join("mnt"));
        let mut others =
            vec![sleeps(&postgres, other.join("mnt")), sleeps(Path::new("sleep"), mine.join("mnt"))];
        // One whose mount is gone, and its like of another endpoint.
        let unmounted = |dir: &Path| {
            let lock = fs::File::create(compute::lock_path(dir)).unwrap();
            Command::new(&postgres).arg("60").current_dir("/").stdin(lock).spawn().unwrap()
        };
        let mut backend = unmounted(&mine);
        others.push(unmounted(&other));
        clear_leftovers(&mine);
        assert!(!server.wait().unwrap().success());
        assert!(!backend.wait().unwrap().success());
        for other in &mut others {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }

    #[test]
    fn a_path_is_read_from_the_table_of_mounts_whatever_is_in_it() {
        let plain = |text: &str| String::from_utf8(unescaped(text.as_bytes())).unwrap();
        assert_eq!(plain(r"/tmp/a\040b\011c\134\012d"), "/tmp/a b\tc\\\nd");
        assert_eq!(plain(r"/tmp/\04"), r"/tmp/\04");
        assert!(is_mounted(Path::new("/")) && !is_mounted(Path::new("/tmp/nothing here")));
    }

    /// A client or a tool may have the path in its arguments, too.
    #[test]
    fn a_postgres_is_told_by_its_data_directory_and_whoever_only_names_that_lives_on() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("ep-a");
        fs::create_dir_all(dir.join("mnt")).unwrap();
        // A shell waits with its arguments in its command line, wherever it works.
        let shell = |option: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 60; :", "sh", option]).arg(dir.join("mnt")).current_dir("/");
            let child = command.process_group(0).spawn().unwrap();
            // For a moment after it was started the kernel has no command line of it.
            let line = format!("/proc/{}/cmdline", child.id());
            while fs::read(&line).unwrap().is_empty() {}
            child
        };
        let (mut server, mut client) = (shell("-D"), shell("--pgdata"));
        clear_leftovers(&dir);
        assert!(!server.wait().unwrap().success());
        assert!(client.try_wait().unwrap().is_none());
        for group in [&server, &client].map(Pid::from_child) {
            // The one of the dead has its `sleep` left.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        client.wait().unwrap();
    }
}
