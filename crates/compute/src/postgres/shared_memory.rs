//! What a killed Postgres leaves in the machine's shared memory, and its removal.
//!
//! A postmaster makes one System V segment, whose kind a machine has 4,096 of, and two or more files in `/dev/shm`. It
//! removes them when it ends by itself, and the next one on the same data directory removes what is left; ours have a
//! new data directory each time.
//!
//! What must hold
//! - Nothing is removed that a living process may use: only a segment that nobody is attached to and that says a process
//!   of our postmaster's number made it, and the files that it leads to. If that number was another's since, that is dead.
//!
//! Follows PostgreSQL's `pg_shmem.h` (`PGShmemHeader`), `sysv_shmem.c` and `dsm.c` (`dsm_cleanup_using_control_segment`),
//! the same in 15 to 18.
//!
//! Not here: what decides that a Postgres is dead (`process`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::limits::DETACHED_WITHIN;
use crate::postgres::lock::lock_path;

/// Where the kernel lists System V segments, and says of them who made them and how many are attached.
const SEGMENTS: &str = "/proc/sysvipc/shm";
/// `PGShmemMagic`.
const SEGMENT_MAGIC: u32 = 679_834_894;
/// Bytes of `PGShmemHeader`.
const SEGMENT_HEADER: usize = 56;
/// Where `PGShmemHeader` has `dsm_control`.
const CONTROL_AT: usize = 24;
/// `PG_DYNSHMEM_CONTROL_MAGIC`.
const CONTROL_MAGIC: u32 = 0x9a50_3d32;
/// Bytes of `dsm_control_header` before its items, and of an item, which begins with `handle` and `refcnt`.
const CONTROL_HEADER: usize = 16;
const CONTROL_ITEM: usize = 40;

/// Between two looks whether somebody is attached.
const PAUSE: Duration = Duration::from_millis(10);

/// Removes the shared memory of the Postgres that last ran in `dir`, the directory of an endpoint or a cluster, if
/// none of its processes lives. What cannot be removed is left, and said in the log.
///
/// A process that ends has no name, program or directory any more a moment before its memory goes (`exit_mm` of Linux's
/// kernel/exit.c): nobody finds it, and it is waited for here.
pub fn release_shared_memory(dir: &Path) {
    let deadline = Instant::now() + DETACHED_WITHIN;
    for file in [lock_path(dir), dir.join("postmaster.pid")] {
        // Neither is there of an endpoint that was never started.
        let Some(pid) = fs::read_to_string(file).ok().and_then(|text| postmaster(&text)) else { continue };
        let segments = || segments_of(pid, &fs::read_to_string(SEGMENTS).unwrap_or_default());
        while segments().iter().any(|segment| segment.attached) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        for Segment { id, attached } in segments() {
            if attached {
                tracing::warn!(segment = id, pid, "shared memory of a dead postgres: somebody uses it");
            } else if let Err(error) = release(id, pid) {
                tracing::warn!(segment = id, pid, "shared memory of a dead postgres: {error}");
            }
        }
    }
}

/// A System V segment, and whether a process is attached to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    id: i32,
    attached: bool,
}

/// The process id in the first line; one of a server without a postmaster is negative there.
pub(crate) fn postmaster(text: &str) -> Option<u32> {
    text.lines().next()?.trim().trim_start_matches('-').parse().ok()
}

/// Segments large enough for a header that `pid` made.
pub(crate) fn segments_of(pid: u32, table: &str) -> Vec<Segment> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [_key, id, _mode, size, maker, _last, attached, ..] => {
            let ours = maker.parse() == Ok(pid);
            let large = size.parse::<usize>().is_ok_and(|size| size >= SEGMENT_HEADER);
            let id = id.parse().ok().filter(|_| ours && large)?;
            Some(Segment { id, attached: *attached != "0" })
        }
        _ => None,
    })
    .collect()
}

/// Removes a segment of the dead postmaster `pid`, and first the files that it leads to.
fn release(segment: i32, pid: u32) -> io::Result<()> {
    let header = read_header(segment)?;
    if word(&header, 0) != Some(SEGMENT_MAGIC) || word(&header, 4) != Some(pid) {
        return Ok(());
    }
    if let Some(control) = word(&header, CONTROL_AT).filter(|control| *control != 0) {
        let path = dynamic(control);
        let text = fs::read(&path).unwrap_or_default();
        for handle in handles(&text) {
            remove(&dynamic(handle))?;
        }
        remove(&path)?;
    }
    // SAFETY: takes a number; what it names was made by a process that is dead, and nobody is attached to it.
    if unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The first bytes of a segment.
fn read_header(segment: i32) -> io::Result<[u8; SEGMENT_HEADER]> {
    // SAFETY: the kernel chooses an address that is free, and says -1 if it cannot.
    let at = unsafe { libc::shmat(segment, std::ptr::null(), libc::SHM_RDONLY) };
    if at as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the segment is at least this long, and mapped at `at` until the call below.
    let header = unsafe { at.cast::<[u8; SEGMENT_HEADER]>().read_volatile() };
    // SAFETY: `at` came from `shmat`, and nothing refers to it any more.
    unsafe { libc::shmdt(at) };
    Ok(header)
}

/// The dynamic segments in use that a control segment lists.
pub(crate) fn handles(control: &[u8]) -> Vec<u32> {
    if word(control, 0) != Some(CONTROL_MAGIC) {
        return Vec::new();
    }
    let count = word(control, 4).unwrap_or_default() as usize;
    let items = control.get(CONTROL_HEADER..).unwrap_or_default().chunks_exact(CONTROL_ITEM).take(count);
    items.filter(|item| word(item, 4) != Some(0)).filter_map(|item| word(item, 0)).collect()
}

fn dynamic(handle: u32) -> PathBuf {
    PathBuf::from(format!("/dev/shm/PostgreSQL.{handle}"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_of_the_dead_postmaster_are_chosen() {
        let table = "\
        key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid\n\
          1         10   600                    56    77    77      0   999   999   999   999\n\
          2         11   600                    56    77    77      1   999   999   999   999\n\
          3         12   600                    56   770   770      0   999   999   999   999\n\
          4         13   600                     8    77    77      0   999   999   999   999\n\
        garbage\n";
        let of = |id, attached| Segment { id, attached };
        assert_eq!(segments_of(77, table), [of(10, false), of(11, true)]);
        assert_eq!(postmaster("77\n/data\n"), Some(77));
        assert_eq!(postmaster("-77\n"), Some(77));
        assert_eq!(postmaster(""), None);
    }

    /// As a backend does whose postmaster was killed: it ends by itself, and nobody can find it while its memory goes.
    #[test]
    fn memory_that_is_let_go_of_a_moment_later_is_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        fs::write(lock_path(dir.path()), pid.to_string()).unwrap();
        // SAFETY: a segment of its own, written within its size and detached once.
        let (id, memory) = unsafe {
            let id = libc::shmget(libc::IPC_PRIVATE, SEGMENT_HEADER, libc::IPC_CREAT | 0o600);
            let memory = libc::shmat(id, std::ptr::null(), 0);
            memory.cast::<u32>().write(SEGMENT_MAGIC);
            memory.cast::<u32>().add(1).write(pid);
            (id, memory as usize)
        };
        let there = || segments_of(pid, &fs::read_to_string(SEGMENTS).unwrap()).iter().any(|it| it.id == id);
        assert!(there());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                // SAFETY: what `shmat` gave, which nobody uses any more.
                unsafe { libc::shmdt(memory as *const libc::c_void) };
            });
            release_shared_memory(dir.path());
        });
        assert!(!there(), "the segment is left");
    }

    #[test]
    fn a_control_segment_lists_what_is_in_use() {
        let mut control = vec![0; CONTROL_HEADER + 3 * CONTROL_ITEM];
        let mut put = |at: usize, value: u32| control[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(0, CONTROL_MAGIC);
        put(4, 2);
        for (item, (handle, references)) in [(100, 2), (102, 0), (104, 2)].into_iter().enumerate() {
            put(CONTROL_HEADER + item * CONTROL_ITEM, handle);
            put(CONTROL_HEADER + item * CONTROL_ITEM + 4, references);
        }
        assert_eq!(handles(&control), [100]);
        assert!(handles(&control[..20]).is_empty());
        control[0] = 0;
        assert!(handles(&control).is_empty());
    }
}
