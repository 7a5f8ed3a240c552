//! How much of each thing that can grow an endpoint's process takes, and what happens beyond; every wait that has a
//! deadline, and which.
//!
//! Not here: what the mounted data directory takes (`limits` of `fs`), what Postgres takes (`config`).

use std::time::Duration;

/// Connections to the page service that are kept while nobody uses them. One in use is one thread that waits, and those
/// are bounded where they are made: the threads of the mount, the WAL stream, a start.
pub(crate) const IDLE_CONNECTIONS: usize = 8;

/// Page reads that failed which the status of an endpoint lists; of more, only how many.
pub(crate) const READ_ERRORS_KEPT: usize = 20;

/// Longest wait for the answer to a page read, then the connection is taken for dead and another asked. There is no limit
/// on asking again: an endpoint outlives its server.
pub(crate) const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections to the control socket that are served at once, each by a thread. One more hears so and is closed: whoever asks
/// makes one for each question, and the server asks few at a time.
pub(crate) const CONTROL_CONNECTIONS: usize = 32;

/// Between two tries to take a connection to the control socket for which there was no descriptor.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a start waits for a place among the connections of its Postgres, which clients may all have taken first.
pub(crate) const FREE_WITHIN: Duration = Duration::from_secs(10);

/// How long Postgres may take in single-user mode; most of it is reading pages.
pub(crate) const MENDED_WITHIN: Duration = Duration::from_secs(120);

/// Most bytes that are taken of what it prints there, for rows of two roles.
pub(crate) const MENDING_PRINTS_BYTES: u64 = 64 << 10;

/// Size past which a log begins again. Of the one before, at most twice this is kept: its end.
pub(crate) const LOG_BYTES: u64 = 8 << 20;

/// Most bytes of one header, or of one payload, of a message of the page service. What would be larger (pages, the SLRUs) is
/// asked for in parts.
pub(crate) const MESSAGE_PART_BYTES: u32 = 1 << 30;

/// WAL that the store has not taken yet, for as long as it is slow or away. Half of it is a warning; at all of it Postgres
/// writes no more until the store has taken some. `SCION_UNSHIPPED_WAL_MB` of the server's environment sets another.
pub(crate) const UNSHIPPED_WAL_BYTES: u64 = 16 << 30;

/// Free space of the disk under `pg_wal` that WAL the store does not take may not use up, and the share of the disk that is
/// the most of it.
pub(crate) const DISK_RESERVE_BYTES: u64 = 512 << 20;
/// See `DISK_RESERVE_BYTES`.
pub(crate) const DISK_RESERVE_SHARE: u64 = 20;

/// Share of the machine's processes that the user of one project may have, where each has its own: beyond, Postgres says that
/// it could not fork, and goes on.
pub(crate) const PROCESSES_SHARE: libc::rlim_t = 2;

/// Longest wait for the page service to take a connection or any bytes of a request, before it is tried again.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether the certificate is another.
pub(crate) const CERTIFICATE_EVERY: Duration = Duration::from_secs(10);

/// How long the shared memory of a Postgres whose processes have all ended may stay attached, before it is left.
pub(crate) const DETACHED_WITHIN: Duration = Duration::from_secs(2);
