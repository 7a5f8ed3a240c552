//! One record: decoding, its name, its changes, and what it does to the cluster's state.

use types::{ClusterState, ServerLimits, TimelineId};
use wal::{InterpretContext, RawRecord, Record, names};

/// Decodes the record of an input and takes it apart.
pub fn wal_record(data: &[u8]) {
    let Some((major, bytes, _)) = crate::split(data) else { return };
    let (start, end) = crate::positions();
    let Ok(record) = Record::decode(start, bytes) else { return };
    let format = crate::format(major);
    names::describe(Some(format.major), &record);
    for track_commit_timestamp in [false, true] {
        let cx = InterpretContext { format, track_commit_timestamp };
        // The error is as good an answer as the changes.
        let _ = wal::interpret(&cx, &record, end, &mut |_| ());
    }
    let _ = wal::xact_time(&record);
    let raw = RawRecord { start, end, bytes };
    let _ = wal::advance(&mut state(), &format, &record, &raw);
}

fn state() -> ClusterState {
    let (start, _) = crate::positions();
    ClusterState {
        lsn: start,
        last_record: start,
        timeline: TimelineId::new(1),
        next_xid: 1000,
        next_oid: 20_000,
        next_multi: 5,
        next_multi_offset: 9,
        oldest_xid: 700,
        oldest_xid_database: 1,
        oldest_multi: 1,
        oldest_multi_database: 1,
        oldest_commit_ts_xid: 0,
        newest_commit_ts_xid: 0,
        last_commit: None,
        latest_xact_time: None,
        full_page_writes: true,
        limits: ServerLimits {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_xacts: 0,
            max_locks_per_xact: 64,
            wal_level: 1,
            wal_log_hints: false,
            track_commit_timestamp: false,
        },
    }
}
