//! Records of the `XLOG` resource manager that carry state rather than pages.
//!
//! Follows `xlog_redo` in `xlog.c` and the structs of `access/xlog_internal.h`.
//!
//! ```text
//! PARAMETER_CHANGE  | connections 4 | workers 4 | wal senders 4 | prepared 4 | locks 4 | wal_level 4 | hints 1 | commit ts 1 |
//! END_OF_RECOVERY   | time 8 | timeline 4 | previous timeline 4 | [wal_level 4, from 17 on] |
//! FPW_CHANGE        | on 1 |
//! NEXTOID           | oid 4 |
//! ```

use types::ServerLimits;

use crate::bytes::{i32_at, u8_at};
use crate::{Record, RmgrId, WalError};

pub(crate) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
pub(crate) const CHECKPOINT_ONLINE: u8 = 0x10;
pub(crate) const NEXT_OID: u8 = 0x30;
pub(crate) const SWITCH: u8 = 0x40;
pub(crate) const PARAMETER_CHANGE: u8 = 0x60;
pub(crate) const FPW_CHANGE: u8 = 0x80;
pub(crate) const END_OF_RECOVERY: u8 = 0x90;
pub(crate) const FPI_FOR_HINT: u8 = 0xA0;
pub(crate) const FPI: u8 = 0xB0;

/// `WAL_LEVEL_MINIMAL`: WAL without the content of new relations.
const WAL_LEVEL_MINIMAL: i32 = 0;

/// Bytes of `xl_parameter_change` that mean something.
const PARAMETER_CHANGE_SIZE: usize = 26;

/// The new settings, if `record` changes them.
///
/// # Errors
/// `Unsupported` if `wal_level` becomes minimal: what is done from then on cannot be replayed.
pub(crate) fn parameter_change(record: &Record<'_>) -> Result<Option<ServerLimits>, WalError> {
    if record.rmgr != RmgrId::XLOG || record.op() != PARAMETER_CHANGE {
        return Ok(None);
    }
    let limits = limits(record.main).ok_or_else(|| record.malformed("shorter than its fields"))?;
    if limits.wal_level <= WAL_LEVEL_MINIMAL {
        return Err(WalError::Unsupported(format!(
            "wal_level became minimal at {}; WAL without the content of new relations cannot be replayed",
            record.start
        )));
    }
    Ok(Some(limits))
}

fn limits(main: &[u8]) -> Option<ServerLimits> {
    let main = main.get(..PARAMETER_CHANGE_SIZE)?;
    Some(ServerLimits {
        max_connections: i32_at(main, 0)?,
        max_worker_processes: i32_at(main, 4)?,
        max_wal_senders: i32_at(main, 8)?,
        max_prepared_xacts: i32_at(main, 12)?,
        max_locks_per_xact: i32_at(main, 16)?,
        wal_level: i32_at(main, 20)?,
        wal_log_hints: u8_at(main, 24)? != 0,
        track_commit_timestamp: u8_at(main, 25)? != 0,
    })
}
