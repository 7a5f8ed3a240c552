//! How much WAL may wait in `pg_wal` for a store that is slow or away, and what is done about more.
//!
//! ```text
//!   unshipped   0 ......... half ............ limit, or too little free space on the disk
//!                  nothing        a warning        hold: nobody opens another file of pg_wal
//!                                            <---- three quarters of the limit: go on
//! ```
//!
//! Holding is done at the link to `pg_wal` (`fs::FileSystem::hold_links`): the process that has to begin the next segment
//! waits there, as for a slow disk, with all who have something to commit behind it. Nothing fails and nothing is lost; who
//! only reads goes on. The sender that the store is fed by may pass, so that it ends by itself.
//!
//! Not here: shipping (`stream`).

use std::path::PathBuf;
use std::time::Duration;

use types::Lsn;

use crate::limits::{DISK_RESERVE_BYTES, DISK_RESERVE_SHARE, UNSHIPPED_WAL_BYTES};

/// Another limit than `UNSHIPPED_WAL_BYTES`, in MB.
const VARIABLE: &str = "SCION_UNSHIPPED_WAL_MB";
/// An append that takes longer means that the store is slow or away.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Bytes of WAL that Postgres has flushed and the store does not have.
    pub(crate) unshipped: u64,
    /// Whether the store takes nothing now.
    pub(crate) away: bool,
    /// Free bytes of the disk, and all of it.
    pub(crate) free: u64,
    /// See `free`.
    pub(crate) disk: u64,
}

/// What that means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    Enough,
    /// There will soon be none.
    Little,
    /// No more may be written.
    None,
}

/// The limit of this process.
pub(crate) fn limit_bytes() -> u64 {
    let asked = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<u64>().ok());
    asked.map_or(UNSHIPPED_WAL_BYTES, |mb| mb.saturating_mul(1 << 20))
}

/// What room there is, if it was `before`.
pub(crate) fn room(before: Room, now: Measured, limit: u64) -> Room {
    let reserve = DISK_RESERVE_BYTES.min(now.disk / DISK_RESERVE_SHARE);
    let disk_is_full = now.away && now.unshipped > 0 && now.free < reserve;
    let hold_from = if before == Room::None { limit / 4 * 3 } else { limit };
    if disk_is_full || now.unshipped >= hold_from {
        Room::None
    } else if now.unshipped >= limit / 2 {
        Room::Little
    } else {
        Room::Enough
    }
}

/// What people are told; `None` if there is nothing to tell.
pub(crate) fn notice(room: Room, now: Measured, limit: u64) -> Option<String> {
    let (unshipped, limit, free) = (now.unshipped >> 20, limit >> 20, now.free >> 20);
    match room {
        Room::Enough => None,
        Room::Little => Some(format!(
            "{unshipped} MB of WAL are not in the store yet; at {limit} MB writes wait until it takes them"
        )),
        Room::None => Some(format!(
            "writes wait: {unshipped} MB of WAL are not in the store yet, the limit is {limit} MB, and {free} MB of \
             the disk are free; they go on when the store has taken some"
        )),
    }
}

/// Free and all bytes of the disk under `pg_wal`.
pub(crate) fn disk(wal_dir: &PathBuf) -> (u64, u64) {
    let unknown = (u64::MAX, u64::MAX);
    rustix::fs::statvfs(wal_dir).map_or(unknown, |s| (s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize))
}

/// Bytes from `shipped` to what `flushed` says.
pub(crate) fn unshipped(flushed: &str, shipped: u64) -> Option<u64> {
    Some(flushed.parse::<Lsn>().ok()?.raw().saturating_sub(shipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn measured(unshipped: u64, away: bool, free: u64) -> Measured {
        Measured { unshipped, away, free, disk: 100 * GB }
    }

    #[test]
    fn writes_stop_at_the_limit_and_go_on_well_below_it() {
        let limit = 16 * GB;
        let at = |before, unshipped| room(before, measured(unshipped, true, 50 * GB), limit);
        assert_eq!(at(Room::Enough, 8 * GB - 1), Room::Enough);
        assert_eq!(at(Room::Enough, 8 * GB), Room::Little);
        assert_eq!(at(Room::Little, 16 * GB - 1), Room::Little);
        assert_eq!(at(Room::Little, 16 * GB), Room::None);
        assert_eq!(at(Room::None, 12 * GB), Room::None, "it has just begun to take some");
        assert_eq!(at(Room::None, 12 * GB - 1), Room::Little);
        assert!(notice(Room::None, measured(limit, true, GB), limit).unwrap().contains("limit is 16384 MB"));
        assert_eq!(notice(Room::Enough, measured(0, false, GB), limit), None);
    }

    #[test]
    fn a_disk_that_the_store_leaves_to_fill_stops_writes_before_it_is_full() {
        let limit = 16 * GB;
        let at = |away, unshipped, free| room(Room::Enough, measured(unshipped, away, free), limit);
        assert_eq!(at(true, 1, 511 << 20), Room::None);
        assert_eq!(at(true, 1, 512 << 20), Room::Enough);
        assert_eq!(at(false, 1, 511 << 20), Room::Enough, "shipping frees nothing that is not its own");
        assert_eq!(at(true, 0, 0), Room::Enough, "it is not WAL that fills it");
        let small = Measured { unshipped: 1, away: true, free: 20 << 20, disk: 256 << 20 };
        assert_eq!(room(Room::Enough, small, limit), Room::Enough);
    }
}
