//! Programs of Postgres that run to their end: with a time limit, and never for longer than this server lives.
//!
//! ```text
//!   spawn in a process group of its own --> ends by itself            : what it printed
//!                                       --> time is up, too much said : the group is killed
//!                                       --> nobody waits any more     : the group is killed
//!                                       --> the server dies           : the kernel kills it
//! ```
//!
//! Not here: which programs with what arguments (`postgres`, `schema`, `schema_only`).

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use compute::wait_exit;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::limits::{PRINTED_BYTES, UNWANTED_LOOK};
use crate::machine::work;

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It was not started, or not waited for.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It did not end in time.
    #[error("it did not end within {} s and was killed", .0.as_secs_f64())]
    TooSlow(Duration),
    /// It printed more than is kept.
    #[error("it printed more than {PRINTED_BYTES} bytes and was killed")]
    TooMuch,
    /// The client that asked hung up.
    #[error("the client hung up, so it was killed")]
    Unwanted,
}

/// Runs a program to its end, for `within` at most; it reads `input`. What it printed.
///
/// # Errors
/// See there. An exit status that says failure is none.
pub fn run(command: &mut Command, input: &str, within: Duration) -> Result<Output, ProgramError> {
    let parent = rustix::process::getpid();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, which are async-signal-safe. The signal comes
    // when the thread that started it ends, which waits for it below.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The server may have died before.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    let mut child = Running(command.spawn()?);
    let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    std::thread::scope(|scope| {
        let thread = || std::thread::Builder::new().name("program".to_owned());
        let follow = |child: &mut Running| {
            // A program that ended early says why on its standard error.
            thread().spawn_scoped(scope, move || drop(stdin.map(|mut it| it.write_all(input.as_bytes()))))?;
            let printed = thread().spawn_scoped(scope, move || read(stdout))?;
            let said = thread().spawn_scoped(scope, move || read(stderr))?;
            let status = child.wait(within, || printed.is_finished() && said.is_finished())?;
            let of = |reader: ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
                reader.join().unwrap_or_else(|_| Err(io::Error::other("a bug: a reader panicked")))
            };
            let (stdout, stderr) = (of(printed)?, of(said)?);
            if stdout.len().max(stderr.len()) > PRINTED_BYTES {
                return Err(ProgramError::TooMuch);
            }
            Ok(Output { status, stdout, stderr })
        };
        // The threads end with it, and the scope waits for them.
        follow(&mut child).inspect_err(|_| child.kill())
    })
}

/// A byte more than is kept tells that there was more.
fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(PRINTED_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A program that was started.
struct Running(Child);

impl Running {
    fn handle(&self) -> io::Result<OwnedFd> {
        let pid =
            i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Waits for its end, and until all that it started has closed its pipes.
    fn wait(
        &mut self,
        within: Duration,
        pipes_closed: impl Fn() -> bool,
    ) -> Result<ExitStatus, ProgramError> {
        let (handle, deadline) = (self.handle()?, Instant::now() + within);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            wait_exit(&handle, Some(left.min(UNWANTED_LOOK)));
            let ended = self.0.try_wait()?;
            match ended {
                Some(status) if pipes_closed() => return Ok(status),
                _ if Instant::now() >= deadline => return Err(ProgramError::TooSlow(within)),
                _ if work::unwanted() => return Err(ProgramError::Unwanted),
                Some(_) => std::thread::sleep(Duration::from_millis(1)),
                None => {}
            }
        }
    }

    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// The process that a script wrote the id of is gone.
    fn is_gone(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn what_is_printed_and_how_it_ended_comes_back() {
        let output = run(&mut shell("cat; echo no >&2; exit 3"), &"x".repeat(200_000), LONG).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.as_slice()), (200_000, b"no\n".as_slice()));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
        let temp = tempfile::tempdir().unwrap();
        let pid = temp.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        let error = run(&mut shell(&script), "", Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error, ProgramError::TooSlow(_)), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let deadline = Instant::now() + LONG;
        while !is_gone(&pid) {
            assert!(Instant::now() < deadline, "what it started runs on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_program_that_nobody_waits_for_any_more_is_killed() {
        let unwanted = Arc::new(AtomicBool::new(false));
        let _work = work::begin(Arc::clone(&unwanted));
        unwanted.store(true, Ordering::Release);
        let error = run(&mut shell("sleep 600"), "", LONG).unwrap_err();
        assert!(matches!(error, ProgramError::Unwanted), "{error}");
    }

    #[test]
    fn a_program_that_prints_without_end_is_ended() {
        let error = run(&mut shell("yes"), "", LONG).unwrap_err();
        assert!(matches!(error, ProgramError::TooMuch), "{error}");
    }
}
