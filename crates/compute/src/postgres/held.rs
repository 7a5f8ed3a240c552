//! What every process of a Postgres is held to, from before it is one: user, limits, the lock, the rules of the kernel.
//!
//! Not here: the rules themselves (`confine`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::error::{Error, While, done};
use crate::limits::PROCESSES_SHARE;
use crate::postgres::confine;
use crate::spec::EndpointSpec;

/// A core would hold what others wrote, and grow as it likes.
static NO_CORE: libc::rlimit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };

/// What every process of an endpoint's Postgres is held to.
pub struct Held {
    user: Option<(u32, u32)>,
    processes: Option<libc::rlimit>,
    parent: u32,
    lock: RawFd,
    dies_by: libc::c_int,
    rules: Option<OwnedFd>,
}

impl Held {
    /// For a child that has `lock`, which must be open until then, and dies by a signal when the calling thread ends.
    ///
    /// # Errors
    /// `Io` for what the kernel refuses.
    pub fn new(spec: &EndpointSpec, lock: &File, dies_by: libc::c_int) -> Result<Self, Error> {
        Ok(Self {
            user: spec.run_as,
            processes: spec.run_as.and_then(|_| processes_of_a_user()),
            parent: std::process::id(),
            lock: lock.as_raw_fd(),
            dies_by,
            rules: confine::rules(spec).while_(|| "confine postgres to its directories".to_owned())?,
        })
    }

    /// Puts it in force for the calling process, between fork and exec. Makes system calls only.
    ///
    /// # Errors
    /// Those of the kernel, and one if the parent has died.
    pub fn enter(&self) -> io::Result<()> {
        self.user.map_or(Ok(()), become_user)?;
        // SAFETY: plain system calls on values of our own; async-signal-safe all of them.
        unsafe {
            libc::setsid();
            // Changing the user clears this, so it stands here and not before.
            done(libc::prctl(libc::PR_SET_PDEATHSIG, self.dies_by))?;
            done(libc::fcntl(self.lock, libc::F_SETFD, 0))?;
            done(libc::setrlimit(libc::RLIMIT_CORE, &raw const NO_CORE))?;
            if let Some(most) = &self.processes {
                done(libc::setrlimit(libc::RLIMIT_NPROC, most))?;
            }
            if libc::getppid().cast_unsigned() != self.parent {
                return Err(io::Error::from_raw_os_error(libc::ECHILD));
            }
        }
        self.rules.as_ref().map_or(Ok(()), |rules| confine::enter(rules.as_raw_fd()))
    }
}

/// How many processes and threads a project's user may have, all its endpoints together; `None` if the kernel does not say
/// how many it has.
fn processes_of_a_user() -> Option<libc::rlimit> {
    let all: libc::rlim_t = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let now = rustix::process::getrlimit(rustix::process::Resource::Nproc).maximum;
    let most = now.map_or(all / PROCESSES_SHARE, |now| now.min(all / PROCESSES_SHARE));
    Some(libc::rlimit { rlim_cur: most, rlim_max: most })
}

/// Gives up all that root may, between fork and exec.
fn become_user((uid, gid): (u32, u32)) -> io::Result<()> {
    // SAFETY: plain system calls on values of our own; async-signal-safe all of them.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()))?;
        done(libc::setgid(gid))?;
        done(libc::setuid(uid))
    }
}
