//! The checkpoint a new timeline begins with: what a promotion at the same LSN would have written.
//!
//! The 88 bytes of `CheckPoint` (`catalog/pg_control.h`) stand in the record and again in `pg_control`:
//!
//! | offset | bytes | field                                | offset | bytes | field                         |
//! |-------:|------:|--------------------------------------|-------:|------:|-------------------------------|
//! |      0 |     8 | redo: the record's own position      |     48 |     4 | oldestXidDB                   |
//! |      8 |     4 | ThisTimeLineID                       |     52 |     4 | oldestMulti                   |
//! |     12 |     4 | PrevTimeLineID                       |     56 |     4 | oldestMultiDB                 |
//! |     16 |     1 | fullPageWrites                       |     64 |     8 | time, Unix seconds            |
//! |     24 |     8 | nextXid                              |     72 |     4 | oldestCommitTsXid             |
//! |     32 |     4 | nextOid                              |     76 |     4 | newestCommitTsXid             |
//! |     36 |     8 | nextMulti, nextMultiOffset           |     80 |     4 | oldestActiveXid: 0            |
//! |     44 |     4 | oldestXid                            |        |       | gaps are zero                 |
//!
//! From 17 on wal_level is at 20.

use types::{ClusterState, Lsn, TimelineId};

use crate::cluster::major::Major;

/// Bytes of `CheckPoint`.
pub const BODY_BYTES: usize = 88;
/// Bytes of the whole record: 24 of header, 2 of data header, the body.
pub const RECORD_BYTES: usize = 24 + 2 + BODY_BYTES;

/// A shutdown checkpoint at the start of a new timeline.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// Counters of the cluster where the timeline begins.
    pub state: &'a ClusterState,
    /// The new timeline.
    pub timeline: TimelineId,
    /// Position of the record itself, after any page header.
    pub at: Lsn,
    /// Unix time in seconds.
    pub time: i64,
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    for (slot, byte) in out.iter_mut().skip(at).zip(bytes) {
        *slot = byte;
    }
}

impl Checkpoint<'_> {
    /// The body, as record and `pg_control` carry it.
    pub fn encode(&self, major: &Major) -> [u8; BODY_BYTES] {
        let state = self.state;
        let mut out = [0; BODY_BYTES];
        put(&mut out, 0, self.at.raw().to_le_bytes());
        put(&mut out, 8, self.timeline.get().to_le_bytes());
        put(&mut out, 12, state.timeline.get().to_le_bytes());
        put(&mut out, 16, [u8::from(state.full_page_writes)]);
        if major.checkpoint_has_wal_level {
            put(&mut out, 20, state.limits.wal_level.to_le_bytes());
        }
        put(&mut out, 24, state.next_xid.to_le_bytes());
        put(&mut out, 32, state.next_oid.to_le_bytes());
        put(&mut out, 36, state.next_multi.to_le_bytes());
        put(&mut out, 40, state.next_multi_offset.to_le_bytes());
        put(&mut out, 44, state.oldest_xid.to_le_bytes());
        put(&mut out, 48, state.oldest_xid_database.to_le_bytes());
        put(&mut out, 52, state.oldest_multi.to_le_bytes());
        put(&mut out, 56, state.oldest_multi_database.to_le_bytes());
        put(&mut out, 64, self.time.to_le_bytes());
        put(&mut out, 72, state.oldest_commit_ts_xid.to_le_bytes());
        put(&mut out, 76, state.newest_commit_ts_xid.to_le_bytes());
        out
    }

    /// The whole `XLOG_CHECKPOINT_SHUTDOWN` record (`XLogRecord` and `XLogRecordDataHeaderShort`).
    pub fn record(&self, major: &Major) -> [u8; RECORD_BYTES] {
        const XLR_BLOCK_ID_DATA_SHORT: u8 = 255;
        let mut out = [0; RECORD_BYTES];
        put(&mut out, 0, (RECORD_BYTES as u32).to_le_bytes());
        put(&mut out, 8, self.state.last_record.raw().to_le_bytes());
        put(&mut out, 24, [XLR_BLOCK_ID_DATA_SHORT, BODY_BYTES as u8]);
        put(&mut out, 26, self.encode(major));
        let (header, data) = out.split_at(24);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), header.get(..20).unwrap_or_default());
        put(&mut out, 20, crc.to_le_bytes());
        out
    }
}
