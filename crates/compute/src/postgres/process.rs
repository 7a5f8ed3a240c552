//! The `postgres` process of an endpoint, and everything that must be dead before its directory is used again.
//!
//! Postgres dies with us (its kernel "parent death" signal is SIGQUIT), and every process of a server inherits a lock
//! on `postgres.lock`: who holds the lock knows that no process of an earlier server can still write WAL. Its text says
//! which postmaster that was, whose shared memory is then to be released (`shared_memory`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal};

use crate::config;
use crate::error::{Error, While};
use crate::postgres::held::Held;
use crate::postgres::lock::lock_path;
use crate::postgres::owner_extensions::{self, View};
use crate::postgres::tablespace_paths;
use crate::shipping::synced::WalIsDurable;
use crate::spec::EndpointSpec;

/// A running `postgres`.
pub struct Server {
    child: Child,
    handle: Arc<OwnedFd>,
    log_start: u64,
}

impl Server {
    /// Starts `postgres` on the mounted directory, where clients may commit as soon as it is up; `lock` goes to it and all its children. The calling thread must
    /// live as long as the server should: its end is what the kernel takes for ours.
    ///
    /// # Errors
    /// `Io` if it cannot be executed.
    pub fn spawn(spec: &EndpointSpec, lock: File, _: WalIsDurable) -> Result<Self, Error> {
        let program = spec.pg_bin.join("postgres");
        let log_path = spec.postgres_log();
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let mut log = log.while_(|| format!("open {}", log_path.display()))?;
        let log_start = log.seek(SeekFrom::End(0)).while_(|| format!("read {}", log_path.display()))?;
        let log_again = log.try_clone().while_(|| format!("open {}", log_path.display()))?;

        let mut command = Command::new(&program);
        command.arg("-D").arg(spec.mount_dir()).args(config::arguments(spec));
        // Where a server is connected to without a user, that is the name Postgres runs under on most machines; its own
        // user may have none.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("PGUSER", &spec.superuser);
        command.stdin(Stdio::null()).stdout(log).stderr(log_again).current_dir("/");
        let held = Held::new(spec, &lock, libc::SIGQUIT)?;
        let own = vec![spec.mount_dir(), spec.wal_dir(), spec.socket_dir()];
        let asked = tablespace_paths::answered(own)?;
        let view = owner_extensions::view(spec)?;
        // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
        unsafe {
            command.pre_exec(move || {
                view.as_ref().map_or(Ok(()), View::enter)?;
                held.enter()?;
                asked.enter()
            });
        }
        let child = command.spawn().while_(|| format!("run {}", program.display()))?;
        if let Err(error) = std::fs::write(lock_path(&spec.dir), child.id().to_string()) {
            tracing::warn!("note the process of postgres: {error}");
        }
        let pid = rustix::process::Pid::from_child(&child);
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(io::Error::from)
            .while_(|| "watch postgres".to_owned())?;
        Ok(Self { child, handle: Arc::new(handle), log_start })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `send` and `wait_exit` take; stays valid, and harmless, after the process has ended.
    pub fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handle)
    }

    /// Collects the exit status; waits for it.
    ///
    /// # Errors
    /// Somebody else collected it.
    pub fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// The last lines this server wrote to its log.
    pub fn last_log_lines(&self, log: &Path) -> String {
        const LINES: usize = 12;
        let mut text = Vec::new();
        let read = File::open(log).and_then(|mut file| {
            let end = file.seek(SeekFrom::End(0))?;
            // A log that is shorter now has begun again since.
            let start = if end < self.log_start { 0 } else { self.log_start };
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(16 << 10))))?;
            file.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(no log: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }
}

/// Sends a signal; nothing happens if the process has ended.
pub fn send(handle: &OwnedFd, signal: Signal) {
    if let Err(error) = rustix::process::pidfd_send_signal(handle, signal)
        && error != Errno::SRCH
    {
        tracing::warn!("signal {signal:?} to postgres: {error}");
    }
}

/// Returns when the process that a pidfd names has ended and closed all its files, or after `within`; `None` waits for ever.
pub fn wait_exit(handle: &OwnedFd, within: Option<Duration>) {
    // What is too long to be told to the kernel is for ever.
    let within = within.and_then(|within| Timespec::try_from(within).ok());
    let mut ended = [PollFd::new(handle, PollFlags::IN)];
    while rustix::event::poll(&mut ended, within.as_ref()) == Err(Errno::INTR) {}
}

/// Makes orphans of a killed server our children, so that `kill_orphans` can see and collect them.
pub fn become_subreaper() {
    // A kernel without it leaves orphans to init.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Kills what a dead postmaster left behind: our children whose working directory is the data directory.
///
/// A backend that computes does not notice for long that its postmaster has died, and would go on writing WAL.
pub fn kill_orphans(mount_dir: &Path) {
    loop {
        let orphans = children_in(mount_dir);
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            // SAFETY: `pid` is our child and not collected yet, so it names that child only.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

fn children_in(directory: &Path) -> Vec<i32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own))
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
        })
        .collect()
}

fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
