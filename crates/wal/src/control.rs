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
use types::{BLOCK_SIZE, ClusterState, Lsn, ServerLimits, WAL_PAGE_BYTES};

use crate::bytes::{self, i32_at, u8_at, u32_at, u64_at};
use crate::checkpoint::{CheckPoint, SHUTDOWN_RECORD_SIZE, ShutdownCheckpoint};
use crate::major::{self, Major};
use crate::page::{record_end, segment_size_is_valid};
use crate::{WalError, WalFormat};

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_SIZE: usize = 8192;

/// First value of a counter that stands in for LSNs of unlogged relations (`FirstNormalUnloggedLSN`).
const FIRST_UNLOGGED_LSN: u64 = 1000;
/// `DB_SHUTDOWNED`.
const SHUT_DOWN: u32 = 1;

const VERSION: usize = 8;
const CATALOG_VERSION: usize = 12;
const STATE: usize = 16;
const CHECKPOINT_START: usize = 32;
const CHECKPOINT: usize = 40;
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
        let short = || too_short(bytes);
        let major = major_of(bytes)?;
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

    /// Where the shutdown checkpoint ends that the last checkpoint is, if the server shut down cleanly.
    pub fn shutdown_end(&self) -> Option<Lsn> {
        let clean = self.state == DbState::ShutDown;
        clean.then(|| record_end(self.checkpoint_start, SHUTDOWN_RECORD_SIZE, self.segment_bytes))
    }

    /// The state of the cluster at the end of its shutdown checkpoint.
    ///
    /// # Errors
    /// `Unsupported` unless the cluster was cleanly shut down, not in recovery.
    pub fn cluster_state(&self) -> Result<ClusterState, WalError> {
        let start = self.checkpoint_start;
        let Some(lsn) = self.shutdown_end().filter(|_| self.checkpoint.redo == start.raw()) else {
            return Err(WalError::Unsupported(format!(
                "the cluster was not cleanly shut down: pg_control says {:?}",
                self.state
            )));
        };
        let checkpoint = &self.checkpoint;
        Ok(ClusterState {
            lsn,
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

fn refuse(reason: String) -> WalError {
    WalError::Unsupported(format!("pg_control: {reason}"))
}

fn too_short(bytes: &[u8]) -> WalError {
    refuse(format!("{} bytes are too few", bytes.len()))
}

/// The major version whose `pg_control` `bytes` are. Only its two version numbers are looked at.
///
/// # Errors
/// `Unsupported` for another version.
pub fn major_of(bytes: &[u8]) -> Result<&'static Major, WalError> {
    let short = || too_short(bytes);
    let version = u32_at(bytes, VERSION).ok_or_else(short)?;
    let catalog = u32_at(bytes, CATALOG_VERSION).ok_or_else(short)?;
    major::of_control(version, catalog).ok_or_else(|| {
        let found = major::other_of_control(version, catalog);
        let found = found.map_or_else(|| "another build".to_owned(), |major| format!("PostgreSQL {major}"));
        let supported = major::supported();
        refuse(format!(
            "of {found} (version {version}, catalog version {catalog}); supported are releases of PostgreSQL {supported}"
        ))
    })
}

/// The file of a directory that claims a clean shutdown at `checkpoint`. What never changes in a cluster (identifier,
/// versions, block sizes, checksums) is taken from `template`, the cluster's file as it once was.
///
/// # Errors
/// `Unsupported` if `template` is not of a supported version, or too short.
pub fn shut_down_at(template: &[u8], checkpoint: &ShutdownCheckpoint<'_>) -> Result<Vec<u8>, WalError> {
    let major = major_of(template)?;
    let limits = &checkpoint.state.limits;
    let mut out = template.get(..major.control_crc_at).ok_or_else(|| too_short(template))?.to_vec();
    let mut put = |at, bytes: &[u8]| bytes::put(&mut out, at, bytes);
    put(STATE, &SHUT_DOWN.to_le_bytes());
    put(24, &checkpoint.time_unix_s.to_le_bytes());
    put(CHECKPOINT_START, &checkpoint.at.raw().to_le_bytes());
    put(CHECKPOINT, &checkpoint.encode(major));
    put(128, &FIRST_UNLOGGED_LSN.to_le_bytes());
    put(136, &[0; 36]);
    put(172, &limits.wal_level.to_le_bytes());
    put(176, &[u8::from(limits.wal_log_hints), 0, 0, 0]);
    put(180, &limits.max_connections.to_le_bytes());
    put(184, &limits.max_worker_processes.to_le_bytes());
    put(188, &limits.max_wal_senders.to_le_bytes());
    put(192, &limits.max_prepared_xacts.to_le_bytes());
    put(196, &limits.max_locks_per_xact.to_le_bytes());
    put(200, &[u8::from(limits.track_commit_timestamp)]);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(CONTROL_FILE_SIZE, 0);
    Ok(out)
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
        state: db_state(u32_at(bytes, STATE)?)?,
        checkpoint_start: Lsn::from_raw(u64_at(bytes, CHECKPOINT_START)?)?,
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
        SHUT_DOWN => DbState::ShutDown,
        2 => DbState::ShutDownInRecovery,
        3 => DbState::ShuttingDown,
        4 => DbState::InCrashRecovery,
        5 => DbState::InArchiveRecovery,
        6 => DbState::InProduction,
        _ => return None,
    })
}
