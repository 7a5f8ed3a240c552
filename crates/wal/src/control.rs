//! `global/pg_control`: what a cluster says about itself.
//!
//! | offset | bytes | field                    |      | offset | bytes | field                       |
//! |-------:|------:|--------------------------|------|-------:|------:|-----------------------------|
//! |      0 |     8 | system identifier        |      |    196 |     4 | max_locks_per_transaction   |
//! |      8 |     4 | control version, 1300    |      |    200 |     1 | track_commit_timestamp      |
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
//! Follows `ControlFileData` in `catalog/pg_control.h` of 15; 13 to 16 have the same version number.

use types::{ClusterState, Lsn, ServerLimits};

use crate::checkpoint::CheckPoint;
use crate::{WalError, WalFormat};

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_SIZE: usize = 8192;

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
        let _ = bytes;
        Err(WalError::Unsupported("not read".to_owned()))
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
        Err(WalError::Unsupported("not read".to_owned()))
    }
}
