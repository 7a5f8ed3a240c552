//! Every bound of the store, by name: what may grow, how far, and what happens there.
//!
//! What a caller chooses is in `StoreOptions`.

use std::time::Duration;

/// Bytes of memtables that all projects of a server hold together; then writers wait.
pub(crate) const MEMTABLES_BYTES: usize = 256 << 20;

/// The part of them above which the largest memtables are written: numerator and denominator.
pub(crate) const FREEZE_ABOVE: (usize, usize) = (3, 4);

/// The part of them, one in so many, that projects may hold whose layers cannot be written.
pub(crate) const FAILING_SHARE: usize = 2;

/// The part of them, one in so many, that is set aside at most for WAL about to be taken.
pub(crate) const ROOM_SHARE: usize = 8;

/// How long `append_wal` waits for memory; then it is refused, to be sent again.
pub(crate) const MEMORY_WAIT: Duration = Duration::from_secs(10);

/// Bytes of decompressed layer blocks that all projects of a server keep together.
pub(crate) const CACHE_BYTES: u64 = 64 << 20;

/// A branch that nobody used for so long is closed.
pub(crate) const BRANCH_IDLE: Duration = Duration::from_secs(300);

/// Open branches of a server; of more, those that nobody uses now and were not used for longest are closed.
pub(crate) const OPEN_BRANCHES_MAX: usize = 1000;

/// Frozen memtables of a branch that may wait for the disk; then `append_wal` waits.
pub(crate) const FROZEN_MAX: usize = 2;

/// How long `append_wal` waits there for the disk to take one; then it is refused, to be sent again.
pub(crate) const FLUSH_WAIT: Duration = Duration::from_secs(30);

/// Layer files that one project keeps open.
pub(crate) const OPEN_FILES_MAX: usize = 128;

/// Of the descriptors that the process may have, one in so many is for layer files that all its projects keep open.
pub(crate) const OPEN_FILES_SHARE: u64 = 4;

/// Files remembered to be removed because that failed; what is more is removed at the next open.
pub(crate) const LEFTOVERS_MAX: usize = 1000;

/// Old manifests deleted at once.
pub(crate) const OLD_MANIFESTS_MAX: u64 = 100;

/// As `FROZEN_MAX` while a branch is opened or catches up and the disk takes nothing: then the rest of its WAL is
/// left for later.
pub(crate) const FROZEN_AT_OPEN_MAX: usize = 4;

/// Bytes made durable and taken at once, so that memtables stay near their limit.
pub(crate) const PIECE_BYTES: usize = 4 << 20;

/// WAL read at once when a branch is opened or catches up.
pub(crate) const REPLAY_BYTES: u64 = 1 << 20;

/// WAL read at once by a walk to a state or a time.
pub(crate) const STEP_BYTES: u64 = 256 << 10;

/// WAL that may be replayed at an open, however little of it changes anything: then the memtable is written.
pub(crate) const REPLAY_MAX: u64 = 256 << 20;

/// WAL between two waypoints.
pub(crate) const WAYPOINT_EVERY: u64 = 256 << 10;

/// Records on a page since its last full version: at so many in memory the page itself is stored, and at so many in
/// layers with the memtable that is written. So a page is made of at most twice as many.
pub(crate) const CHAIN_MAX: u8 = 128;

/// Relations whose lengths are looked up at once when a record drops many.
pub(crate) const LOOKED_UP_AT_ONCE: usize = 4096;

/// Lengths of forks that a branch remembers to save lookups; then all are forgotten, as with each memtable. They count as
/// its memtable's bytes.
pub(crate) const REMEMBERED_MAX: usize = 200_000;

/// Blocks a fork may grow by at once (32 GiB); more is a damaged record.
pub(crate) const GAP_MAX: u32 = 1 << 22;

#[cfg(test)]
mod tests;
