//! Tablespaces may have any path, though nothing is ever kept there.
//!
//! `CREATE TABLESPACE x LOCATION '/path'` and its redo (`create_tablespace_directories` in PostgreSQL's `tablespace.c`) make
//! `/path` private, look whether it has a directory `PG_15_202209061` already, make that, and then the link in the data
//! directory which the mount makes a directory of (`filesystem` of `fs`). The path would have to be there on every machine
//! and for every branch, belong to the user Postgres runs as, and be open to it. So the kernel asks here before the first
//! three (seccomp's user notification, [seccomp_unotify(2)]), and they are answered as done without being done.
//!
//! All other calls go on, as what this user may do. What holds them back is elsewhere (`confine`): a path can be another one
//! when the kernel reads it again.
//!
//! A kernel that cannot ask (before Linux 5.5, or within a sandbox that asks itself) is not asked to: Postgres then does on
//! the path what it does everywhere.
//!
//! [seccomp_unotify(2)]: https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_long, seccomp_data, sock_filter};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Error, While};

/// Longest path Postgres knows (`MAXPGPATH`).
const PATH_BYTES: usize = 1024;
/// Size of the pieces a process's memory is there in or not.
const MEMORY_PAGE: usize = 4096;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SYNC_WAKE_UP: u64 = 1;

/// What Postgres does to a tablespace's path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    /// `chmod`: makes the path private.
    Protect,
    /// `stat`: looks for the directory of its version.
    Look,
    /// `mkdir`: makes that.
    Make,
}

/// How a call is named to the kernel: its number, and which argument is the path.
struct Entry {
    number: c_long,
    path: usize,
    call: Call,
}

const fn entry(number: c_long, path: usize, call: Call) -> Entry {
    Entry { number, path, call }
}

/// Calls with a directory before the path; they count where that is the working directory.
const AT: [Entry; 3] = [
    entry(libc::SYS_fchmodat, 1, Call::Protect),
    entry(libc::SYS_newfstatat, 1, Call::Look),
    entry(libc::SYS_mkdirat, 1, Call::Make),
];
#[cfg(target_arch = "x86_64")]
const PLAIN: [Entry; 3] = [
    entry(libc::SYS_chmod, 0, Call::Protect),
    entry(libc::SYS_stat, 0, Call::Look),
    entry(libc::SYS_mkdir, 0, Call::Make),
];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN: [Entry; 0] = [];

/// What a process of Postgres is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// The call succeeded.
    Done,
    /// There is nothing of that name.
    Missing,
    /// The kernel is to do it.
    GoOn,
}

/// Decides on a call of a Postgres whose own directories are `own`.
fn answer(call: Call, path: &Path, own: &[PathBuf]) -> Answer {
    let outside = path.is_absolute() && !own.iter().any(|directory| path.starts_with(directory));
    match call {
        _ if !outside => Answer::GoOn,
        Call::Protect => Answer::Done,
        Call::Look if is_version_directory(path) => Answer::Missing,
        Call::Make if is_version_directory(path) => Answer::Done,
        Call::Look | Call::Make => Answer::GoOn,
    }
}

/// True for `.../PG_15_202209061` (`TABLESPACE_VERSION_DIRECTORY`: the major version and that of the catalogs).
fn is_version_directory(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("PG_").and_then(|numbers| numbers.split_once('_'));
    numbers.is_some_and(|(major, catalogs)| number(major) && number(catalogs))
}

/// What makes the kernel ask for a process that enters it.
pub struct Asked {
    filter: Vec<sock_filter>,
    /// Leads to who answers.
    there: OwnedFd,
}

/// Answers for one Postgres whose own directories are `own`, from before its first call until its last process has ended.
///
/// # Errors
/// `Io` if the system has no thread or socket for it.
pub fn answered(own: Vec<PathBuf>) -> Result<Asked, Error> {
    let (here, there) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)
            .while_(|| "make a socket to postgres".to_owned())?;
    let thread = std::thread::Builder::new().name("tablespace-paths".to_owned());
    let spawned = thread.spawn(move || match receive(&here) {
        Ok(Some(asks)) => serve(&asks, &own),
        Ok(None) => tracing::warn!("tablespaces can only have paths that postgres may use: no seccomp here"),
        Err(error) => tracing::error!("learn what postgres asks of paths: {error}"),
    });
    spawned.while_(|| "start a thread for the paths of tablespaces".to_owned())?;
    Ok(Asked { filter: filter(), there })
}

/// What [`Asked::enter`] sent, once there; `None` if the kernel cannot ask.
fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
    })?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received)
}

impl Asked {
    /// Puts it in force for the calling process and all that it starts. Makes system calls only.
    ///
    /// # Errors
    /// Those of the kernel, unless it cannot ask at all: then nothing changes.
    pub fn enter(&self) -> io::Result<()> {
        const NONE: libc::c_ulong = 0;
        let program =
            libc::sock_fprog { len: self.filter.len() as u16, filter: self.filter.as_ptr().cast_mut() };
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: plain system calls on values of our own, which the kernel copies.
        let asks = unsafe {
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, NONE, NONE, NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        let Ok(asks @ 0..) = i32::try_from(asks) else { return Ok(()) };
        // SAFETY: the kernel has just made this descriptor for us.
        let asks = unsafe { OwnedFd::from_raw_fd(asks) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [asks.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.there, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(())
    }
}

/// Answers until nobody is left who could ask.
fn serve(asks: &OwnedFd, own: &[PathBuf]) {
    // Who asks waits anyway, so who answers may run on the same processor, which is five times faster: a `stat` takes 9.5 us
    // rather than 50, and 1.5 where nobody is asked. Linux before 6.6 cannot do that.
    // SAFETY: the request takes a number.
    unsafe { libc::ioctl(asks.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    let mut told = false;
    while let Some(request) = next(asks) {
        let answer = decide(&request, own).unwrap_or_else(|error| {
            // As a rule it has died. Where the kernel does not let its memory be read, it is so each time.
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("read which path process {} of postgres means: {error}", request.pid);
            }
            Answer::GoOn
        });
        let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error: 0, flags: 0 };
        match answer {
            Answer::Done => {}
            Answer::Missing => response.error = -libc::ENOENT,
            Answer::GoOn => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        }
        // SAFETY: the structure is the one this request takes. It fails when who asked was interrupted, and asks again, or died.
        unsafe { libc::ioctl(asks.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    }
}

/// The next question; `None` when all who could ask have ended.
fn next(asks: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut poll = libc::pollfd { fd: asks.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd on our stack, whose descriptor `asks` keeps open.
        let polled = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if polled > 0 && poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: all zeros is a value of this structure, and the one the kernel insists on.
        let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is the one this request fills. It fails when who asked has died or was interrupted.
        let received =
            unsafe { libc::ioctl(asks.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
        if polled > 0 && received == 0 {
            return Some(request);
        }
    }
}

fn decide(request: &libc::seccomp_notif, own: &[PathBuf]) -> io::Result<Answer> {
    let number = c_long::from(request.data.nr);
    let Some(entry) = AT.iter().chain(&PLAIN).find(|entry| entry.number == number) else {
        return Ok(Answer::GoOn);
    };
    let address = request.data.args.get(entry.path).copied().unwrap_or_default();
    Ok(answer(entry.call, &path_at(request.pid, address)?, own))
}

/// The path at an address of a process that waits for an answer.
fn path_at(pid: u32, address: u64) -> io::Result<PathBuf> {
    let mut path = [0_u8; PATH_BYTES];
    let mut length = 0;
    while length < PATH_BYTES {
        let at = address.saturating_add(length as u64);
        // What follows on the next page of memory may not be there.
        let rest = MEMORY_PAGE - (at % MEMORY_PAGE as u64) as usize;
        let left = path.get_mut(length..).unwrap_or_default();
        let (piece, _) = left.split_at_mut(rest.min(PATH_BYTES - length));
        let here = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        let there = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: piece.len() };
        // SAFETY: `here` is memory of our own; `there` is another process's, which the kernel looks after.
        let read = unsafe { libc::process_vm_readv(pid as i32, &raw const here, 1, &raw const there, 1, 0) };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        if let Some(end) = piece.iter().take(read).position(|byte| *byte == 0) {
            let path = path.get(..length + end).unwrap_or_default();
            return Ok(PathBuf::from(OsStr::from_bytes(path)));
        }
        length += read;
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

/// What the kernel runs before each call: asks for the calls above, lets all others go on.
fn filter() -> Vec<sock_filter> {
    // Numbers mean other calls elsewhere.
    let mut filter = vec![load(offset_of!(seccomp_data, arch)), if_equal(ARCHITECTURE, 1, 0), GO_ON];
    filter.push(load(offset_of!(seccomp_data, nr)));
    for entry in &PLAIN {
        filter.extend([if_equal(entry.number as u32, 0, 1), ASK]);
    }
    for entry in &AT {
        let directory = load(offset_of!(seccomp_data, args));
        let here = if_equal(libc::AT_FDCWD as u32, 1, 0);
        filter.extend([if_equal(entry.number as u32, 0, 4), directory, here, GO_ON, ASK]);
    }
    filter.push(GO_ON);
    filter
}

const ASK: sock_filter = end(libc::SECCOMP_RET_USER_NOTIF);
const GO_ON: sock_filter = end(libc::SECCOMP_RET_ALLOW);

const fn load(offset: usize) -> sock_filter {
    let code = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    sock_filter { code, jt: 0, jf: 0, k: offset as u32 }
}

/// Goes on after as many instructions as it says for equal, or for different, from what was loaded.
const fn if_equal(value: u32, equal: u8, different: u8) -> sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    sock_filter { code, jt: equal, jf: different, k: value }
}

const fn end(result: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: result }
}

/// The kernel's name for the architecture (`AUDIT_ARCH_X86_64` and so on in `linux/audit.h`), little endian all of them. On one
/// that is not here nothing is asked.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: u32 = 0;

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_what_concerns_the_path_of_a_tablespace_is_answered() {
        let own = [PathBuf::from("/data/ep/mnt")];
        let asked = |call, path: &str| answer(call, Path::new(path), &own);
        let version = "/srv/fast/PG_15_202209061";
        assert_eq!(asked(Call::Protect, "/srv/fast"), Answer::Done);
        assert_eq!(asked(Call::Look, version), Answer::Missing);
        assert_eq!(asked(Call::Make, version), Answer::Done);
        for (call, path) in [
            (Call::Look, "/srv/fast"),
            (Call::Make, "/srv/fast"),
            (Call::Make, "/srv/PG_15_202209061/5"),
            (Call::Look, "/srv/PG_15"),
            (Call::Look, "/srv/PG__"),
            (Call::Look, "pg_tblspc/16400/PG_15_202209061"),
            (Call::Make, "/data/ep/mnt/pg_tblspc/16400/PG_15_202209061"),
            (Call::Protect, "/data/ep/mnt/base"),
            (Call::Protect, "postmaster.pid"),
        ] {
            assert_eq!(asked(call, path), Answer::GoOn, "{call:?} {path}");
        }
    }

    /// Runs a program that has entered each of these.
    fn run(program: &str, path: &str, entered: Vec<Asked>) -> bool {
        let mut command = Command::new(program);
        command.arg(path).stderr(Stdio::null()).stdout(Stdio::null());
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(move || entered.iter().try_for_each(Asked::enter)) };
        command.status().unwrap().success()
    }

    #[test]
    fn a_process_is_answered_and_so_is_one_that_the_kernel_cannot_ask_for_once_more() {
        let asked = || answered(vec![PathBuf::from("/own")]).unwrap();
        let version = "/nowhere/at/all/PG_15_202209061";
        assert!(run("mkdir", version, vec![asked()]));
        assert!(!run("mkdir", "/nowhere/at/all", vec![asked()]));
        assert!(!run("mkdir", "/own/PG_15_202209061", vec![asked()]), "its own directories are real");
        // The second cannot: a process has one that answers.
        assert!(run("mkdir", version, vec![asked(), asked()]));
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("PG_15_202209061");
        std::fs::create_dir(&there).unwrap();
        let there = there.to_str().unwrap();
        assert!(run("stat", there, vec![]));
        assert!(run("mkdir", there, vec![asked()]));
    }

    #[test]
    fn a_path_is_read_wherever_memory_ends() {
        let pid = std::process::id();
        let page = MEMORY_PAGE;
        for text in ["", "/srv/fast", &"x".repeat(PATH_BYTES - 1)] {
            // SAFETY: a mapping of our own, three pages of which the last is given back: nothing is there.
            let memory = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let access = libc::PROT_READ | libc::PROT_WRITE;
                let made = libc::mmap(std::ptr::null_mut(), 3 * page, access, flags, -1, 0);
                assert_ne!(made, libc::MAP_FAILED);
                libc::munmap(made.byte_add(2 * page), page);
                made.cast::<u8>()
            };
            for end in [2 * page, page, page + 1] {
                let start = end - text.len() - 1;
                // SAFETY: `start` and what is written there lie within the two pages.
                let address = unsafe {
                    let start = memory.add(start);
                    start.copy_from_nonoverlapping(text.as_ptr(), text.len());
                    start.add(text.len()).write(0);
                    start as u64
                };
                assert_eq!(path_at(pid, address).unwrap(), Path::new(text));
            }
            // SAFETY: the two pages that were mapped above.
            let past = unsafe {
                memory.write_bytes(b'x', 2 * page);
                memory.add(2 * page - 2) as u64
            };
            assert!(path_at(pid, past).is_err(), "a text without an end");
            // SAFETY: as above; nothing refers to them any longer.
            unsafe { libc::munmap(memory.cast(), 2 * page) };
        }
    }
}
