//! The lock that every process of a Postgres inherits: who holds it knows that none of an earlier one can still write.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::{Error, While};

/// How long an earlier server may take to die.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The lock that every process of an endpoint's Postgres holds; its text is the process id of the postmaster.
pub fn lock_path(dir: &Path) -> PathBuf {
    dir.join("postgres.lock")
}

/// Takes the lock on `path`, waiting for processes that still hold it.
///
/// # Errors
/// `Postgres` if they do not end.
pub fn lock_when_free(path: &Path) -> Result<File, Error> {
    let file = open_lock(path)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                return Err(io::Error::from(error))
                    .while_(|| format!("lock {}: an earlier process lives", path.display()));
            }
        }
    }
}

/// Takes the lock on `path`, or says who may have it.
///
/// # Errors
/// `Spec` if another process has it.
pub fn lock_now(path: &Path) -> Result<File, Error> {
    let file = open_lock(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::Spec(format!("{} is locked: this endpoint already has a process", path.display()))
    })?;
    Ok(file)
}

fn open_lock(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.while_(|| format!("open {}", path.display()))
}
