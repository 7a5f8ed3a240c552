//! The state of a cluster at one LSN that is not in any page of a relation: what a checkpoint record and `pg_control`
//! carry, and what a data directory needs beside.

use crate::{BLOCK_SIZE, Lsn, PgTime, RelFork, SlruKind, SlruRun, TimelineId};

/// Settings that a standby must match, kept in `pg_control` and changed by `XLOG_PARAMETER_CHANGE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// `max_connections`.
    pub max_connections: i32,
    /// `max_worker_processes`.
    pub max_worker_processes: i32,
    /// `max_wal_senders`.
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`.
    pub max_prepared_xacts: i32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_xact: i32,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

/// Everything a checkpoint at this LSN would say, exact at every record boundary.
///
/// Follows `CheckPoint` in `catalog/pg_control.h`; kept current by replaying records as `StartupXLOG` and the
/// `*_redo` functions do. A next xid one too low makes an uncommitted row visible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterState {
    /// Position this state holds at: the end of the last record applied.
    pub lsn: Lsn,
    /// Start of the last record applied; the `xl_prev` of the next one.
    pub last_record: Lsn,
    /// Timeline of the last record applied.
    pub timeline: TimelineId,
    /// Next transaction id, with its epoch in the upper half.
    pub next_xid: u64,
    /// Next OID.
    pub next_oid: u32,
    /// Next multixact id.
    pub next_multi: u32,
    /// Next offset in the multixact members area.
    pub next_multi_offset: u32,
    /// Oldest unfrozen transaction id of any database.
    pub oldest_xid: u32,
    /// Database with that id.
    pub oldest_xid_database: u32,
    /// Oldest multixact id of any database.
    pub oldest_multi: u32,
    /// Database with that id.
    pub oldest_multi_database: u32,
    /// Oldest transaction with a commit timestamp; 0 if none.
    pub oldest_commit_ts_xid: u32,
    /// Newest transaction with a commit timestamp; 0 if none.
    pub newest_commit_ts_xid: u32,
    /// Whether full page writes were on.
    pub full_page_writes: bool,
    /// Settings of the server that wrote the WAL.
    pub limits: ServerLimits,
    /// Commit time of the last transaction that committed, and the end LSN of its commit record.
    pub last_commit: Option<(PgTime, Lsn)>,
    /// Latest time in any commit or abort record so far; what time lookups compare with.
    pub latest_xact_time: Option<PgTime>,
}

/// Everything a data directory needs at one LSN that is not relation pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateAt {
    /// What a checkpoint would say.
    pub cluster: ClusterState,
    /// Forks that exist, with their length in blocks. No free space maps.
    pub relations: Vec<(RelFork, u32)>,
    /// Databases as (tablespace, database).
    pub databases: Vec<(u32, u32)>,
    /// User-made tablespaces.
    pub tablespaces: Vec<u32>,
    /// (tablespace, database, content of `pg_filenode.map`); that of (1664, 0) is the shared map.
    pub relmaps: Vec<(u32, u32, Vec<u8>)>,
    /// Prepared transactions: id and file content without its CRC.
    pub two_phase: Vec<(u64, Vec<u8>)>,
    /// Replication origins: id and the position in the origin's log up to which it was applied.
    pub origins: Vec<(u16, u64)>,
    /// Pages of every SLRU, by page number, unless there are many.
    pub slru: Vec<(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)>,
    /// If there are many, which there are: they are read when Postgres reads them.
    pub slru_runs: Vec<SlruRun>,
}
