//! The 88 bytes of a checkpoint, as checkpoint records and `pg_control` hold them.
//!
//! | offset | bytes | field                    |      | offset | bytes | field                 |
//! |-------:|------:|--------------------------|------|-------:|------:|-----------------------|
//! |      0 |     8 | redo                     |      |     44 |     4 | oldest xid            |
//! |      8 |     4 | timeline                 |      |     48 |     4 | its database          |
//! |     12 |     4 | previous timeline        |      |     52 |     4 | oldest multixact      |
//! |     16 |     1 | full page writes         |      |     56 |     4 | its database          |
//! |     24 |     8 | next xid with epoch      |      |     64 |     8 | time, Unix seconds    |
//! |     32 |     4 | next OID                 |      |     72 |     4 | oldest commit ts xid  |
//! |     36 |     4 | next multixact           |      |     76 |     4 | newest commit ts xid  |
//! |     40 |     4 | next multixact offset    |      |     80 |     4 | oldest active xid     |
//!
//! From 17 on `wal_level` is at 20, where there is padding before. Follows `CheckPoint` in `catalog/pg_control.h`.

use types::{ClusterState, Lsn, TimelineId};

use crate::bytes::{self, i32_at, i64_at, u8_at, u32_at, u64_at};
use crate::major::Major;
use crate::record::{self, RECORD_HEADER_SIZE};

/// Bytes of a checkpoint.
pub const CHECKPOINT_SIZE: usize = 88;
/// Bytes of a checkpoint record: header, short main data header, checkpoint.
pub const SHUTDOWN_RECORD_SIZE: usize = RECORD_HEADER_SIZE + 2 + CHECKPOINT_SIZE;

/// A checkpoint, field by field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each field is what the module's table and `ClusterState` say")]
pub struct CheckPoint {
    /// Where replay from this checkpoint starts; a shutdown checkpoint's own start.
    pub redo: u64,
    pub timeline: TimelineId,
    /// Differs from `timeline` if this checkpoint begins it.
    pub previous_timeline: TimelineId,
    pub full_page_writes: bool,
    /// 0 before 17.
    pub wal_level: i32,
    pub next_xid: u64,
    pub next_oid: u32,
    pub next_multi: u32,
    pub next_multi_offset: u32,
    pub oldest_xid: u32,
    pub oldest_xid_database: u32,
    pub oldest_multi: u32,
    pub oldest_multi_database: u32,
    pub time_unix_s: i64,
    pub oldest_commit_ts_xid: u32,
    pub newest_commit_ts_xid: u32,
    /// 0 in a shutdown checkpoint.
    pub oldest_active_xid: u32,
}

/// The shutdown checkpoint that begins a timeline: what a promotion at the same position would have written.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownCheckpoint<'a> {
    /// What the cluster is where the timeline begins.
    pub state: &'a ClusterState,
    /// The new timeline.
    pub timeline: TimelineId,
    /// Where the record starts, behind any page header.
    pub at: Lsn,
    /// When, in seconds since 1970.
    pub time_unix_s: i64,
}

impl ShutdownCheckpoint<'_> {
    /// The checkpoint, as the record and `pg_control` hold it.
    pub fn encode(&self, major: &Major) -> [u8; CHECKPOINT_SIZE] {
        let state = self.state;
        CheckPoint {
            redo: self.at.raw(),
            timeline: self.timeline,
            previous_timeline: state.timeline,
            full_page_writes: state.full_page_writes,
            wal_level: if major.checkpoint_has_wal_level { state.limits.wal_level } else { 0 },
            next_xid: state.next_xid,
            next_oid: state.next_oid,
            next_multi: state.next_multi,
            next_multi_offset: state.next_multi_offset,
            oldest_xid: state.oldest_xid,
            oldest_xid_database: state.oldest_xid_database,
            oldest_multi: state.oldest_multi,
            oldest_multi_database: state.oldest_multi_database,
            time_unix_s: self.time_unix_s,
            oldest_commit_ts_xid: state.oldest_commit_ts_xid,
            newest_commit_ts_xid: state.newest_commit_ts_xid,
            oldest_active_xid: 0,
        }
        .encode()
    }

    /// The whole `XLOG_CHECKPOINT_SHUTDOWN` record (`XLogRecord` and `XLogRecordDataHeaderShort`).
    pub fn record(&self, major: &Major) -> [u8; SHUTDOWN_RECORD_SIZE] {
        let mut out = [0; SHUTDOWN_RECORD_SIZE];
        bytes::put(&mut out, 0, &(SHUTDOWN_RECORD_SIZE as u32).to_le_bytes());
        bytes::put(&mut out, 8, &self.state.last_record.raw().to_le_bytes());
        bytes::put(&mut out, RECORD_HEADER_SIZE, &[record::ID_DATA_SHORT, CHECKPOINT_SIZE as u8]);
        bytes::put(&mut out, RECORD_HEADER_SIZE + 2, &self.encode(major));
        let crc = record::crc_of(&out).expect("the record is longer than its header");
        bytes::put(&mut out, record::CRC_AT, &crc.to_le_bytes());
        out
    }
}

impl CheckPoint {
    /// Reads the checkpoint at the start of `bytes`; `None` if they are too few.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at| u32_at(bytes.get(..CHECKPOINT_SIZE)?, at);
        Some(Self {
            redo: u64_at(bytes, 0)?,
            timeline: TimelineId::new(word(8)?),
            previous_timeline: TimelineId::new(word(12)?),
            full_page_writes: u8_at(bytes, 16)? != 0,
            wal_level: i32_at(bytes, 20)?,
            next_xid: u64_at(bytes, 24)?,
            next_oid: word(32)?,
            next_multi: word(36)?,
            next_multi_offset: word(40)?,
            oldest_xid: word(44)?,
            oldest_xid_database: word(48)?,
            oldest_multi: word(52)?,
            oldest_multi_database: word(56)?,
            time_unix_s: i64_at(bytes, 64)?,
            oldest_commit_ts_xid: word(72)?,
            newest_commit_ts_xid: word(76)?,
            oldest_active_xid: word(80)?,
        })
    }

    /// The bytes Postgres writes; padding is zero.
    pub fn encode(&self) -> [u8; CHECKPOINT_SIZE] {
        let mut out = [0; CHECKPOINT_SIZE];
        let mut put = |at, bytes: &[u8]| bytes::put(&mut out, at, bytes);
        put(0, &self.redo.to_le_bytes());
        put(16, &[u8::from(self.full_page_writes)]);
        put(24, &self.next_xid.to_le_bytes());
        put(20, &self.wal_level.to_le_bytes());
        put(64, &self.time_unix_s.to_le_bytes());
        for (at, word) in [
            (8, self.timeline.get()),
            (12, self.previous_timeline.get()),
            (32, self.next_oid),
            (36, self.next_multi),
            (40, self.next_multi_offset),
            (44, self.oldest_xid),
            (48, self.oldest_xid_database),
            (52, self.oldest_multi),
            (56, self.oldest_multi_database),
            (72, self.oldest_commit_ts_xid),
            (76, self.newest_commit_ts_xid),
            (80, self.oldest_active_xid),
        ] {
            put(at, &word.to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_the_padding_survives_a_round_trip() {
        let mut bytes = [0u8; CHECKPOINT_SIZE];
        for (value, byte) in (1u8..).zip(bytes.iter_mut()) {
            *byte = value;
        }
        bytes[16] = 1;
        for padding in [17..20, 60..64, 84..88] {
            bytes[padding].fill(0);
        }
        assert_eq!(CheckPoint::parse(&bytes).unwrap().encode(), bytes);
        assert_eq!(CheckPoint::parse(&bytes[..87]), None);
    }
}
