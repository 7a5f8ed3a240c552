//! Frames round-trip, and hostile bytes end in an error.

use super::*;
use types::{ClusterState, Fork, PgTime, RelTag, ServerLimits, SlruRun};

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

pub(crate) fn state() -> StateAt {
    let limits = ServerLimits {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_xacts: 64,
        max_locks_per_xact: 64,
        wal_level: 1,
        wal_log_hints: true,
        track_commit_timestamp: false,
    };
    let cluster = ClusterState {
        lsn: lsn(0x0200_0100),
        last_record: lsn(0x0200_0080),
        timeline: TimelineId::new(3),
        next_xid: 1 << 33,
        next_oid: 16_384,
        next_multi: 2,
        next_multi_offset: 7,
        oldest_xid: 717,
        oldest_xid_database: 1,
        oldest_multi: 1,
        oldest_multi_database: 5,
        oldest_commit_ts_xid: 0,
        newest_commit_ts_xid: 0,
        full_page_writes: true,
        limits,
        last_commit: Some((PgTime::from_pg_us(-5), lsn(9))),
        latest_xact_time: None,
    };
    let rel = RelFork { rel: RelTag { tablespace: 1663, database: 5, relation: 16_384 }, fork: Fork::Init };
    StateAt {
        cluster,
        relations: vec![(rel, 131_073)],
        databases: vec![(1663, 5)],
        tablespaces: vec![16_400],
        relmaps: vec![(1664, 0, vec![1, 2, 3])],
        two_phase: vec![(745, vec![9; 40])],
        origins: vec![(1, 0x0123_4567_89AB_CDEF)],
        slru_runs: vec![SlruRun { kind: SlruKind::CommitTs, first: 7, pages: 140_000 }],
        slru: vec![(SlruKind::MultiXactMembers, 4, Box::new([7; 8192]))],
    }
}

#[test]
fn a_state_survives_the_wire() {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &Reply::State(Box::new(state())), b"raw").unwrap();
    let mut payload = vec![1; 10];
    let reply: Reply = read_frame(&mut bytes.as_slice(), &mut payload).unwrap().unwrap();
    assert_eq!(payload, b"raw");
    let Reply::State(got) = reply else { panic!("{reply:?}") };
    assert_eq!(*got, state());
}

#[test]
fn a_cut_or_damaged_frame_is_an_error_and_never_a_panic() {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &Reply::State(Box::new(state())), &[5; 100]).unwrap();
    let mut payload = Vec::new();
    for len in (1..bytes.len()).step_by(97) {
        assert!(read_frame::<Reply>(&mut bytes.get(..len).unwrap(), &mut payload).is_err(), "{len}");
    }
    for at in 0..300 {
        let mut damaged = bytes.clone();
        *damaged.get_mut(at).unwrap() ^= 0xFF;
        let _ = read_frame::<Reply>(&mut damaged.as_slice(), &mut payload);
    }
    assert!(read_frame::<Reply>(&mut [].as_slice(), &mut payload).unwrap().is_none());
}
