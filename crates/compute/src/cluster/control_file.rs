//! `pg_control` of a data directory that claims a clean shutdown at the checkpoint its timeline begins with.
//!
//! What never changes in a cluster (identifier, versions, block sizes, checksums) is taken from the file as it was
//! imported. Layout of `ControlFileData` (`catalog/pg_control.h`):
//!
//! | offset | bytes | field                     | offset | bytes | field                                      |
//! |-------:|------:|---------------------------|-------:|------:|--------------------------------------------|
//! |      0 |     8 | system_identifier         |    136 |    33 | minRecoveryPoint .. backupEndRequired: 0   |
//! |      8 |     4 | pg_control_version        |    172 |     4 | wal_level                                  |
//! |     12 |     4 | catalog_version_no        |    176 |     1 | wal_log_hints                              |
//! |     16 |     4 | state: 1 DB_SHUTDOWNED    |    180 |    20 | MaxConnections, max_worker_processes, ...  |
//! |     24 |     8 | time                      |    200 |     1 | track_commit_timestamp                     |
//! |     32 |     8 | checkPoint                |    204 |    84 | kept from the imported file                |
//! |     40 |    88 | checkPointCopy            |    288 |     4 | CRC32C of all before                       |
//! |    128 |     8 | unloggedLSN: 1000         |    292 |       | zeros up to 8192                           |
//!
//! In 18 what is kept has 4 bytes more, and all after it comes 4 bytes later.

use types::Lsn;

use crate::cluster::checkpoint::{BODY_BYTES, Checkpoint};
use crate::cluster::major::{self, Major};
use crate::error::Error;

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_BYTES: usize = 8192;
const DB_SHUTDOWNED: u32 = 1;
const DB_SHUTDOWNED_IN_RECOVERY: u32 = 2;
/// First value of a counter that stands in for LSNs of unlogged relations (`FirstNormalUnloggedLSN`).
const FIRST_UNLOGGED_LSN: u64 = 1000;

/// The major version of the cluster that `template`, its imported `pg_control`, belongs to.
///
/// # Errors
/// `Answer` for another version or a file too short.
pub fn major_of(template: &[u8]) -> Result<&'static Major, Error> {
    let (version, catalog) = (get_u32(template, 8)?, get_u32(template, 12)?);
    major::of_control(version, catalog).ok_or_else(|| {
        let text =
            format!("pg_control has version {version} and catalog version {catalog}, which are not known");
        Error::Answer(text)
    })
}

/// The file for a directory that was shut down at `checkpoint`.
///
/// # Errors
/// `Answer` if `template` is no `pg_control` of a known version.
pub fn encode(template: &[u8], checkpoint: &Checkpoint<'_>) -> Result<Vec<u8>, Error> {
    let major = major_of(template)?;
    let fixed = template
        .get(..major.control_crc_at)
        .ok_or_else(|| Error::Answer("pg_control is too short".to_owned()))?;
    let limits = &checkpoint.state.limits;
    let mut out = fixed.to_vec();
    let mut put = |at: usize, bytes: &[u8]| {
        for (slot, byte) in out.iter_mut().skip(at).zip(bytes) {
            *slot = *byte;
        }
    };
    put(16, &DB_SHUTDOWNED.to_le_bytes());
    put(24, &checkpoint.time.to_le_bytes());
    put(32, &checkpoint.at.raw().to_le_bytes());
    put(40, &checkpoint.encode(major));
    put(40 + BODY_BYTES, &FIRST_UNLOGGED_LSN.to_le_bytes());
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
    out.resize(CONTROL_FILE_BYTES, 0);
    Ok(out)
}

/// The checkpoint a server that shut down cleanly left in `file`; `None` if it did not shut down cleanly.
pub fn shutdown_checkpoint(file: &[u8]) -> Option<Lsn> {
    let clean = get_u32(file, 16).ok()? == DB_SHUTDOWNED;
    let raw = u64::from(get_u32(file, 32).ok()?) | u64::from(get_u32(file, 36).ok()?) << 32;
    Lsn::from_raw(raw).filter(|_| clean)
}

/// Whether the server that left `file` shut down cleanly as a standby.
pub fn was_standby(file: &[u8]) -> bool {
    get_u32(file, 16).is_ok_and(|state| state == DB_SHUTDOWNED_IN_RECOVERY)
}

fn get_u32(file: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = file.get(at..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|bytes| u32::from_le_bytes(*bytes))
        .ok_or_else(|| Error::Answer("pg_control is too short".to_owned()))
}
