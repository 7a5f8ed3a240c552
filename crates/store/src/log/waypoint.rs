//! The state of a cluster at a record boundary, in bytes, so that a walk of WAL can begin near any LSN.
//!
//! | offset | bytes | field                        |   | offset | bytes | field                                |
//! |-------:|------:|------------------------------|---|-------:|------:|--------------------------------------|
//! |      0 |     8 | `lsn`                        |   |     64 |     4 | `newest_commit_ts_xid`               |
//! |      8 |     8 | `last_record`                |   |     68 |     1 | flags, see `Flag`                    |
//! |     16 |     4 | `timeline`                   |   |     69 |     3 | zero                                 |
//! |     20 |     8 | `next_xid`                   |   |     72 |    24 | `max_connections` .. `wal_level`     |
//! |     28 |    32 | `next_oid` .. `oldest_multi` |   |     96 |    16 | `last_commit`: time, LSN; or zero    |
//! |     60 |     4 | `oldest_commit_ts_xid`       |   |    112 |     8 | `latest_xact_time`, if its flag says |
//!
//! The 32 bytes at 28 are `next_oid`, `next_multi`, `next_multi_offset`, `oldest_xid`, `oldest_xid_database`,
//! `oldest_multi`, `oldest_multi_database` and a zero. All little-endian; integrity and version are the layer's
//! (`layer`).

use types::{ClusterState, Lsn, PgTime, ServerLimits, TimelineId};

/// The version of these bytes; whoever keeps them notes it beside them (`layer`).
pub(crate) const VERSION: u8 = 1;

/// Bytes of one encoded state.
pub(crate) const WAYPOINT_BYTES: usize = 120;

const FULL_PAGE_WRITES: u8 = 1;
const WAL_LOG_HINTS: u8 = 2;
const TRACK_COMMIT_TIMESTAMP: u8 = 4;
const HAS_XACT_TIME: u8 = 8;

/// The bytes of `state`.
pub(crate) fn encode(state: &ClusterState) -> Vec<u8> {
    let mut out = Vec::with_capacity(WAYPOINT_BYTES);
    out.extend(state.lsn.raw().to_le_bytes());
    out.extend(state.last_record.raw().to_le_bytes());
    out.extend(state.timeline.get().to_le_bytes());
    out.extend(state.next_xid.to_le_bytes());
    let words = [
        state.next_oid,
        state.next_multi,
        state.next_multi_offset,
        state.oldest_xid,
        state.oldest_xid_database,
        state.oldest_multi,
        state.oldest_multi_database,
        0,
        state.oldest_commit_ts_xid,
        state.newest_commit_ts_xid,
    ];
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let limits = &state.limits;
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let flags = flag(state.full_page_writes, FULL_PAGE_WRITES)
        | flag(limits.wal_log_hints, WAL_LOG_HINTS)
        | flag(limits.track_commit_timestamp, TRACK_COMMIT_TIMESTAMP)
        | flag(state.latest_xact_time.is_some(), HAS_XACT_TIME);
    out.extend([flags, 0, 0, 0]);
    let numbers = [
        limits.max_connections,
        limits.max_worker_processes,
        limits.max_wal_senders,
        limits.max_prepared_xacts,
        limits.max_locks_per_xact,
        limits.wal_level,
    ];
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    let (time, lsn) = state.last_commit.map_or((0, 0), |(time, lsn)| (time.pg_us(), lsn.raw()));
    out.extend(time.to_le_bytes());
    out.extend(lsn.to_le_bytes());
    out.extend(state.latest_xact_time.map_or(0, PgTime::pg_us).to_le_bytes());
    out
}

/// The state whose bytes these are; `None` if they cannot be one.
pub(crate) fn decode(bytes: &[u8]) -> Option<ClusterState> {
    if bytes.len() != WAYPOINT_BYTES {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let number = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let wide = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let time = |at: usize| Some(PgTime::from_pg_us(wide(at)? as i64));
    let flags = *bytes.get(68)?;
    let last_commit = match Lsn::from_raw(wide(104)?) {
        Some(lsn) => Some((time(96)?, lsn)),
        None => None,
    };
    Some(ClusterState {
        lsn: Lsn::from_raw(wide(0)?)?,
        last_record: Lsn::from_raw(wide(8)?)?,
        timeline: TimelineId::new(word(16)?),
        next_xid: wide(20)?,
        next_oid: word(28)?,
        next_multi: word(32)?,
        next_multi_offset: word(36)?,
        oldest_xid: word(40)?,
        oldest_xid_database: word(44)?,
        oldest_multi: word(48)?,
        oldest_multi_database: word(52)?,
        oldest_commit_ts_xid: word(60)?,
        newest_commit_ts_xid: word(64)?,
        full_page_writes: flags & FULL_PAGE_WRITES != 0,
        limits: ServerLimits {
            max_connections: number(72)?,
            max_worker_processes: number(76)?,
            max_wal_senders: number(80)?,
            max_prepared_xacts: number(84)?,
            max_locks_per_xact: number(88)?,
            wal_level: number(92)?,
            wal_log_hints: flags & WAL_LOG_HINTS != 0,
            track_commit_timestamp: flags & TRACK_COMMIT_TIMESTAMP != 0,
        },
        last_commit,
        latest_xact_time: if flags & HAS_XACT_TIME != 0 { Some(time(112)?) } else { None },
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state with every field set to something else.
    pub(crate) fn sample(lsn: u64) -> ClusterState {
        ClusterState {
            lsn: Lsn::from_raw(lsn).unwrap(),
            last_record: Lsn::from_raw(lsn - 8).unwrap(),
            timeline: TimelineId::new(7),
            next_xid: 1 << 33,
            next_oid: 2,
            next_multi: 3,
            next_multi_offset: 4,
            oldest_xid: 5,
            oldest_xid_database: 6,
            oldest_multi: 7,
            oldest_multi_database: 8,
            oldest_commit_ts_xid: 9,
            newest_commit_ts_xid: 10,
            full_page_writes: true,
            limits: ServerLimits {
                max_connections: 11,
                max_worker_processes: 12,
                max_wal_senders: 13,
                max_prepared_xacts: 14,
                max_locks_per_xact: 15,
                wal_level: 1,
                wal_log_hints: false,
                track_commit_timestamp: true,
            },
            last_commit: Some((PgTime::from_pg_us(-5), Lsn::from_raw(99).unwrap())),
            latest_xact_time: Some(PgTime::from_pg_us(-4)),
        }
    }

    #[test]
    fn a_state_survives_its_bytes() {
        let mut state = sample(1000);
        assert_eq!(encode(&state).len(), WAYPOINT_BYTES);
        assert_eq!(decode(&encode(&state)), Some(state.clone()));
        state.last_commit = None;
        state.latest_xact_time = None;
        state.full_page_writes = false;
        state.limits.wal_log_hints = true;
        assert_eq!(decode(&encode(&state)), Some(state));
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(decode(&[0; WAYPOINT_BYTES]), None);
        assert_eq!(decode(&[1; WAYPOINT_BYTES - 1]), None);
    }
}
