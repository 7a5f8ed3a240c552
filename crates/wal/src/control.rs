//! `global/pg_control`: what a cluster says about itself.
//!
//! | offset | bytes | field                    |      | offset | bytes | field                       |
//! |-------:|------:|--------------------------|------|-------:|------:|-----------------------------|
//! |      0 |     8 | system identifier        |      |    196 |     4 | max_locks_per_transaction   |
//! |      8 |     4 | control version          |      |    200 |     1 | track_commit_timestamp      |
//! |     12 |     4 | catalog version          |      |    204 |     4 | alignment, 8                |
//! |     16 |     4 | state                    |      |    208 |     8 | 1234567.0                   |
//! |     24 |     8 | time, Unix seconds       |      |    216 |     4 | block size                  |
//! |     32 |     8 | last checkpoint's start  |      |    220 |     4 | blocks in a relation segment|
//! |     40 |    88 | the checkpoint           |      |    224 |     4 | WAL block size              |
//! |    128 |     8 | unlogged LSN             |      |    228 |     4 | WAL segment size            |
//! |    136 |    33 | recovery and backup      |      |    252 |     4 | page checksum version       |
//! |    172 |     4 | wal_level                |      |    256 |    32 | mock authentication nonce   |
//! |    176 |     1 | wal_log_hints            |      |    288 |     4 | CRC-32C of 0..288           |
//! |    180 |    16 | four more server limits  |      |        |       | zeros up to 8192            |
//!
//! In 18 the signedness of `char` is at 256, the nonce at 257 and the CRC at 292. Versions 15 and 16 have the same
//! control version and are told apart by the catalog's. Follows `ControlFileData` in `catalog/pg_control.h`.

use types::path::SEGMENT_BLOCKS;
use types::{BLOCK_SIZE, ClusterState, Lsn, ServerLimits};

use crate::bytes::{i32_at, u8_at, u32_at, u64_at};
use crate::checkpoint::{CHECKPOINT_SIZE, CheckPoint};
use crate::major::{self, Major};
use crate::page::{WAL_PAGE_BYTES, record_end, segment_size_is_valid};
use crate::record::RECORD_HEADER_SIZE;
use crate::{WalError, WalFormat};

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_SIZE: usize = 8192;

/// Bytes of a checkpoint record: header, short main data header, checkpoint.
pub const SHUTDOWN_RECORD_SIZE: usize = RECORD_HEADER_SIZE + 2 + CHECKPOINT_SIZE;

const VERSION: usize = 8;
const CHECKPOINT: usize = 40;
const CATALOG_VERSION: usize = 12;
const SEGMENT_BYTES: usize = 228;

/// What the server was doing when it last wrote the file (`DBState`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DbState {
    /// Being made by `initdb`.
    Startup,
    /// Cleanly shut down.
    ShutDown,
    /// Cleanly shut down while in recovery.
    ShutDownInRecovery,
    /// In the middle of shutting down.
    ShuttingDown,
    /// In crash recovery.
    InCrashRecovery,
    /// In archive recovery: a standby.
    InArchiveRecovery,
    /// Running, or killed while it ran.
    InProduction,
}

/// `pg_control`, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlFile {
    /// The cluster's identifier.
    pub system_id: u64,
    /// Postgres major version.
    pub major: u32,
    /// Catalog version (`CATALOG_VERSION_NO`).
    pub catalog_version: u32,
    /// What the server was doing.
    pub state: DbState,
    /// Where the last checkpoint's record starts.
    pub checkpoint_start: Lsn,
    /// What that record says.
    pub checkpoint: CheckPoint,
    /// Settings that a standby must match.
    pub limits: ServerLimits,
    /// Bytes of a WAL segment.
    pub segment_bytes: u64,
    /// 0 without page checksums, else 1.
    pub checksum_version: u32,
}

impl ControlFile {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// `Unsupported` for another version, block size or byte order, or if the checksum is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalError> {
        let refuse = |reason: String| WalError::Unsupported(format!("pg_control: {reason}"));
        let short = || refuse(format!("{} bytes are too few", bytes.len()));
        let version = u32_at(bytes, VERSION).ok_or_else(short)?;
        let catalog = u32_at(bytes, CATALOG_VERSION).ok_or_else(short)?;
        let major = major::of_control(version, catalog).ok_or_else(|| {
            let found = major::other_of_control(version, catalog);
            let found = found.map_or_else(|| "another build".to_owned(), |major| format!("PostgreSQL {major}"));
            let supported = major::supported();
            refuse(format!(
                "of {found} (version {version}, catalog version {catalog}); supported are releases of PostgreSQL {supported}"
            ))
        })?;
        let stored = u32_at(bytes, major.control_crc_at).ok_or_else(short)?;
        let computed = crc32c::crc32c(bytes.get(..major.control_crc_at).ok_or_else(short)?);
        if stored != computed {
            return Err(refuse(format!("checksum {stored:08x}, its bytes give {computed:08x}")));
        }
        check_build(bytes).map_err(refuse)?;
        fields(major, bytes).ok_or_else(|| refuse("a field is out of range".to_owned()))
    }

    /// What the cluster's WAL looks like.
    pub fn format(&self) -> WalFormat {
        WalFormat { major: self.major, segment_bytes: self.segment_bytes, system_id: self.system_id }
    }

    /// The state of the cluster at the end of its shutdown checkpoint.
    ///
    /// # Errors
    /// `Unsupported` unless the cluster was cleanly shut down, not in recovery.
    pub fn cluster_state(&self) -> Result<ClusterState, WalError> {
        let start = self.checkpoint_start;
        if self.state != DbState::ShutDown || self.checkpoint.redo != start.raw() {
            return Err(WalError::Unsupported(format!(
                "the cluster was not cleanly shut down: pg_control says {:?}",
                self.state
            )));
        }
        let checkpoint = &self.checkpoint;
        Ok(ClusterState {
            lsn: record_end(start, SHUTDOWN_RECORD_SIZE, self.segment_bytes),
            last_record: start,
            timeline: checkpoint.timeline,
            next_xid: checkpoint.next_xid,
            next_oid: checkpoint.next_oid,
            next_multi: checkpoint.next_multi,
            next_multi_offset: checkpoint.next_multi_offset,
            oldest_xid: checkpoint.oldest_xid,
            oldest_xid_database: checkpoint.oldest_xid_database,
            oldest_multi: checkpoint.oldest_multi,
            oldest_multi_database: checkpoint.oldest_multi_database,
            oldest_commit_ts_xid: checkpoint.oldest_commit_ts_xid,
            newest_commit_ts_xid: checkpoint.newest_commit_ts_xid,
            full_page_writes: checkpoint.full_page_writes,
            limits: self.limits,
            last_commit: None,
            latest_xact_time: None,
        })
    }
}

/// Refuses what was built with other sizes than Postgres's defaults, and segments of no size that it allows.
fn check_build(bytes: &[u8]) -> Result<(), String> {
    let expected = [
        ("alignment", 204, 8),
        ("block size", 216, BLOCK_SIZE as u32),
        ("blocks in a relation segment", 220, SEGMENT_BLOCKS),
        ("WAL block size", 224, WAL_PAGE_BYTES as u32),
    ];
    for (name, at, expected) in expected {
        let found = u32_at(bytes, at).unwrap_or(0);
        if found != expected {
            return Err(format!("{name} {found}; supported is {expected}"));
        }
    }
    let segment_bytes = u32_at(bytes, SEGMENT_BYTES).unwrap_or(0);
    if segment_size_is_valid(u64::from(segment_bytes)) {
        return Ok(());
    }
    Err(format!("WAL segments of {segment_bytes} bytes; supported are powers of 2 from 1 MB to 1 GB"))
}

fn fields(major: &Major, bytes: &[u8]) -> Option<ControlFile> {
    Some(ControlFile {
        system_id: u64_at(bytes, 0)?,
        major: major.number,
        catalog_version: u32_at(bytes, CATALOG_VERSION)?,
        state: db_state(u32_at(bytes, 16)?)?,
        checkpoint_start: Lsn::from_raw(u64_at(bytes, 32)?)?,
        checkpoint: CheckPoint::parse(bytes.get(CHECKPOINT..)?)?,
        limits: ServerLimits {
            wal_level: i32_at(bytes, 172)?,
            wal_log_hints: u8_at(bytes, 176)? != 0,
            max_connections: i32_at(bytes, 180)?,
            max_worker_processes: i32_at(bytes, 184)?,
            max_wal_senders: i32_at(bytes, 188)?,
            max_prepared_xacts: i32_at(bytes, 192)?,
            max_locks_per_xact: i32_at(bytes, 196)?,
            track_commit_timestamp: u8_at(bytes, 200)? != 0,
        },
        segment_bytes: u64::from(u32_at(bytes, SEGMENT_BYTES)?),
        checksum_version: u32_at(bytes, 252)?,
    })
}

fn db_state(raw: u32) -> Option<DbState> {
    Some(match raw {
        0 => DbState::Startup,
        1 => DbState::ShutDown,
        2 => DbState::ShutDownInRecovery,
        3 => DbState::ShuttingDown,
        4 => DbState::InCrashRecovery,
        5 => DbState::InArchiveRecovery,
        6 => DbState::InProduction,
        _ => return None,
    })
}
