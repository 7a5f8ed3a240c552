//! Mounting, and unmounting for certain.
//!
//! Unmounting never waits for whoever uses the mount: the overlay is worthless afterwards anyway, so the connection is
//! aborted (readers and writers get an error) and the mount point detached.

use crate::FileSystem;
use crate::fuse::Adapter;
use crate::limits::ANSWERING_THREADS;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Resource, Rlimit};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the program is called, the better one first.
const FUSERMOUNTS: [&str; 2] = ["fusermount3", "fusermount"];
/// Where the kernel is asked for a connection.
const DEVICE: &str = "/dev/fuse";
/// Said when `fusermount` finds nothing.
const NO_FUSERMOUNT: &str = "there is no fusermount3, which mounts for users other than root";
/// How long `unmount` waits for the threads that answered the kernel; those that wait for the page source end by themselves.
const THREADS_WAIT: Duration = Duration::from_secs(5);
/// How often a dead mount is removed before giving up; they can be stacked.
const STALE_ROUNDS: usize = 8;

/// How a file system is mounted.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Threads that answer the kernel; `limits.rs` says how many unless something was measured.
    pub threads: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self { threads: ANSWERING_THREADS }
    }
}

/// A mounted file system. Dropping it unmounts.
pub struct Mounted {
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Unmounts and waits a little for the threads. If something still uses the mount it is cut off: its connection
    /// is aborted and the mount point detached, so this returns with the mount point free. What the kernel had not
    /// written back is lost.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let detached = unmount(&self.at);
        let deadline = Instant::now() + THREADS_WAIT;
        while !session.guard.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if session.guard.is_finished() {
            match session.umount_and_join() {
                // It asks the kernel once more to unmount what no longer is.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                Err(error) => tracing::warn!("file system threads of {}: {error}", self.at.display()),
                Ok(()) => {}
            }
        } else {
            tracing::warn!("file system threads of {} are still busy", self.at.display());
            // Dropping it would unmount the path once more, and by then something else may be mounted there.
            std::mem::forget(session);
        }
        detached
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("unmount {}: {error}", self.at.display());
        }
    }
}

/// Mounts `fs` at the directory `at`; a dead mount left there by a killed process is removed first.
///
/// As root every user may enter and ordinary permission bits decide; another user needs `fusermount3`, and only that
/// user may enter.
pub fn mount(fs: Arc<FileSystem>, at: &Path, options: MountOptions) -> io::Result<Mounted> {
    remove_dead_mounts(at)?;
    allow_many_files();
    let at = at.canonicalize()?;
    let root = rustix::process::geteuid().is_root();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("scion".to_owned()),
        MountOption::Subtype("scion".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    config.acl = if root { SessionACL::All } else { SessionACL::Owner };
    let threads = options.threads.max(1);
    config.n_threads = Some(threads);
    config.clone_fd = true;
    let session = Session::new(Adapter::new(fs, threads), &at, &config)
        .map_err(|error| refusal(root, error))?
        .spawn()?;
    Ok(Mounted { at, session: Some(session) })
}

/// Why this machine does not let us mount, in words that say what is missing; the error as it came if nothing is.
fn refusal(root: bool, error: io::Error) -> io::Error {
    let reason = error.to_string();
    if let Err(device) = File::options().read(true).write(true).open(DEVICE) {
        return io::Error::new(device.kind(), format!("{DEVICE} cannot be opened: {device}"));
    }
    if root {
        // When the kernel says no, fusermount3 was tried as well, which says the same or is not there. In a container,
        // opening the device and mounting are two permissions.
        return io::Error::new(
            error.kind(),
            format!("{} (a container needs SYS_ADMIN to mount)", reason.trim()),
        );
    }
    if error.kind() == io::ErrorKind::NotFound {
        return io::Error::new(error.kind(), NO_FUSERMOUNT);
    }
    // What fusermount3 says ends in a newline.
    io::Error::new(error.kind(), reason.trim().to_owned())
}

/// Removes mounts at `at` whose process has died. Only `statfs` is sure to say "not connected": the kernel goes on
/// believing the root's attributes for as long as it was told to.
fn remove_dead_mounts(at: &Path) -> io::Result<()> {
    for _ in 0..STALE_ROUNDS {
        match rustix::fs::statvfs(at) {
            Err(Errno::NOTCONN | Errno::CONNABORTED) => unmount(at)?,
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
    Err(Errno::BUSY.into())
}

/// Aborts the connection of the mount at `at` and takes the mount away. Not mounted is fine.
///
/// # Errors
/// Those of the kernel, or of `fusermount` for users other than root.
pub fn unmount(at: &Path) -> io::Result<()> {
    match rustix::mount::unmount(at, UnmountFlags::FORCE | UnmountFlags::DETACH) {
        Err(Errno::PERM) => fusermount_lazily(at),
        Err(Errno::INVAL) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The way of a user who is not root.
fn fusermount_lazily(at: &Path) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, NO_FUSERMOUNT);
    let program = fusermount().ok_or_else(missing)?;
    let mut command = Command::new(&program);
    command.args(["-u", "-q", "-z", "--"]).arg(at).stdin(Stdio::null()).stderr(Stdio::null());
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} -u {}: {status}", program.display(), at.display())))
    }
}

/// The program that mounts and unmounts for users other than root. Found as the `fuser` crate finds it to mount: the one
/// that `FUSERMOUNT_PATH` names, or else the first on the path, in `/sbin` or in `/bin`.
pub fn fusermount() -> Option<PathBuf> {
    find_fusermount(std::env::var_os("FUSERMOUNT_PATH"), std::env::var_os("PATH"))
}

fn find_fusermount(named: Option<OsString>, path: Option<OsString>) -> Option<PathBuf> {
    let named = named.map(PathBuf::from);
    let path: Vec<PathBuf> = path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let program = |dir: &Path| FUSERMOUNTS.map(|name| dir.join(name));
    let on_path = FUSERMOUNTS.into_iter().flat_map(|name| path.iter().map(move |dir| dir.join(name)));
    let elsewhere = ["/sbin", "/bin"].into_iter().flat_map(|dir| program(Path::new(dir)));
    named.or_else(|| on_path.chain(elsewhere).find(|file| file.is_file()))
}

/// Every file Postgres wrote more than a page to keeps a descriptor.
fn allow_many_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusermount_is_the_named_one_or_the_first_on_the_path() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = std::env::join_paths(dirs.iter().map(tempfile::TempDir::path)).unwrap();
        std::fs::write(dirs[0].path().join("fusermount"), "").unwrap();
        let old = find_fusermount(None, Some(path.clone()));
        assert_eq!(old, Some(dirs[0].path().join("fusermount")));
        std::fs::write(dirs[1].path().join("fusermount3"), "").unwrap();
        let new = find_fusermount(None, Some(path.clone()));
        assert_eq!(new, Some(dirs[1].path().join("fusermount3")), "3 is better wherever it is");
        let named = find_fusermount(Some("/opt/fusermount3".into()), Some(path));
        assert_eq!(named, Some("/opt/fusermount3".into()));
    }
}
