//! Every decoder of what a socket, Postgres or a file of an endpoint says, as functions of bytes: what fuzzers and, in each
//! run of the tests, changed samples are given to. A panic is a bug. Only tests and fuzzers are built with this.
//!
//! Not here: what the kernel asks a file system (`fs`), whose numbers it checks itself.

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use types::{ClusterState, Lsn, ServerLimits, TimelineId};
use wal::{ShutdownCheckpoint, control as control_file, segment};

use crate::EndpointSpec;
use crate::control::{Answer, Command, Status};
use crate::postgres::shared_memory;
use crate::protocol::{Reply, Request, read_frame, read_reply_into};
use crate::sql::pg_client::replication_message;
use crate::sql::{pg_message, predefined};

/// Frames of requests, as the page service reads them.
pub fn request(data: &[u8]) {
    frames::<Request>(data);
}

/// Frames of replies, as an endpoint reads them.
pub fn reply(data: &[u8]) {
    frames::<Reply>(data);
    let mut page = [0; types::BLOCK_SIZE];
    let mut stream = data;
    while read_reply_into(&mut stream, &mut page).is_ok() && !stream.is_empty() {}
}

fn frames<T: DeserializeOwned>(data: &[u8]) {
    let (mut stream, mut payload) = (data, Vec::new());
    while let Ok(Some(_)) = read_frame::<T>(&mut stream, &mut payload) {}
}

/// What Postgres says to a replication client, WAL among it.
pub fn server_message(data: &[u8]) {
    let (mut buffer, mut wal) = (BytesMut::from(data), Vec::new());
    while let Ok(Some(answer)) = pg_message::next(&mut buffer) {
        if let pg_message::Answer::CopyData(body) = answer {
            replication_message(body, &mut wal);
        }
    }
    replication_message(Bytes::copy_from_slice(data), &mut wal);
}

/// A line of the control socket, a status, a spec.
pub fn json(data: &[u8]) {
    fn read<T: DeserializeOwned>(data: &[u8]) {
        let _ = serde_json::from_slice::<T>(data); // an error is as good
    }
    read::<Command>(data);
    read::<Answer>(data);
    read::<Status>(data);
    read::<EndpointSpec>(data);
}

/// The `pg_control` that the store gives, of which the one of a data directory is made.
pub fn control(data: &[u8]) {
    let state = state();
    let timeline = TimelineId::new(2);
    let checkpoint = ShutdownCheckpoint { state: &state, timeline, at: state.lsn, time_unix_s: 7 };
    let Ok(made) = control_file::shut_down_at(data, &checkpoint) else { return };
    assert_eq!(made.len(), types::BLOCK_SIZE);
}

/// Pages of `pg_authid`.
pub fn roles(data: &[u8]) {
    let mut pages = data.to_vec();
    pages.resize(data.len().next_multiple_of(types::BLOCK_SIZE), 0);
    predefined::are_guarded(&pages);
}

/// Names of log segments, and what a killed Postgres left: lock files, the kernel's table, a control segment.
pub fn leftovers(data: &[u8]) {
    shared_memory::handles(data);
    let text = String::from_utf8_lossy(data);
    for segment_bytes in [0, 1 << 20, 16 << 20] {
        if let Some((timeline, number)) = segment::parse_segment_name(&text, segment_bytes) {
            let again = segment::segment_name(timeline, number, segment_bytes);
            assert_eq!(segment::parse_segment_name(&again, segment_bytes), Some((timeline, number)));
        }
    }
    if let Some(pid) = shared_memory::postmaster(&text) {
        shared_memory::segments_of(pid, &text);
    }
}

/// Any state does.
fn state() -> ClusterState {
    ClusterState {
        lsn: Lsn::MAX,
        last_record: Lsn::MAX,
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
        last_commit: None,
        latest_xact_time: None,
    }
}

#[cfg(test)]
mod tests {
    use oracle::mutate::stands;
    use serde::Serialize;
    use types::{Fork, RelFork, RelTag};

    use super::*;
    use crate::protocol::{Failure, FailureKind, Hello, NewTimeline, tests as protocol, write_frame};
    use crate::sql::pg_message::tests::{said, said_error};

    fn frame(header: &impl Serialize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header, payload).unwrap();
        bytes
    }

    #[test]
    fn changed_requests_are_refused_or_understood() {
        let lsn = Lsn::from_raw(0x0200_0100).unwrap();
        let timeline = TimelineId::new(3);
        let rel = RelTag { tablespace: 1663, database: 5, relation: 16_384 };
        let rel = RelFork { rel, fork: Fork::Visibility };
        let hello = Hello {
            version: crate::protocol::PROTOCOL_VERSION,
            project: "p".to_owned(),
            branch: "br-a".to_owned(),
            endpoint: "ep-a".to_owned(),
        };
        let all = [
            frame(&Request::Hello(hello), &[]),
            frame(&Request::Head, &[]),
            frame(&Request::AppendWal { timeline, at: lsn }, b"wal"),
            frame(&Request::ReadPages { lsn, rel, first: 7, count: 1 }, &[]),
            frame(&Request::ReadSlru { lsn, kind: types::SlruKind::Clog, first: 0, count: 1 }, &[]),
            frame(&Request::StateAt { lsn }, &[]),
        ];
        stands("compute_request", &[&all[..], &[all.concat()]].concat(), request);
    }

    #[test]
    fn changed_replies_are_refused_or_understood() {
        let mut state = protocol::state();
        state.slru.clear();
        let begun = NewTimeline {
            timeline: TimelineId::new(3),
            start: state.cluster.lsn,
            segment_bytes: 16 << 20,
            system_id: 7,
            catalog_version: 202_209_061,
            control_template: vec![1; 40],
            history: vec![(TimelineId::new(1), state.cluster.lsn)],
            state: state.clone(),
        };
        let failure = Failure::new(FailureKind::Corrupt, "layer 7: checksum");
        let all = [
            frame(&Reply::State(Box::new(state)), &[]),
            frame(&Reply::Timeline(Box::new(begun)), &[]),
            frame(&Reply::Bytes, &[7; types::BLOCK_SIZE]),
            frame(&Reply::Failed(failure), &[]),
        ];
        stands("compute_reply", &all, reply);
    }

    #[test]
    fn changed_messages_of_a_server_are_refused_or_understood() {
        let row = said(b'D', &[0, 2, 0, 0, 0, 1, b'x', 0xFF, 0xFF, 0xFF, 0xFF]);
        let wal = said(b'd', &[&b"w"[..], &[0; 24], b"log"].concat());
        let alive = said(b'd', &[&b"k"[..], &[0; 16], &[1]].concat());
        let asides =
            [said(b'S', b"is_superuser\0on\0"), said(b'N', b"Mnote\0\0"), said(b'K', &[0; 8])].concat();
        let all = [said(b'R', &[0; 4]), said(b'W', &[0, 0, 0]), row, wal, alive, asides];
        let failed = said_error("57P03", "it starts");
        stands("compute_server_message", &[&all[..], &[failed, all.concat()]].concat(), server_message);
    }

    #[test]
    fn changed_commands_answers_statuses_and_specs_are_refused_or_understood() {
        let commands = [Command::Status, Command::FlushLsn].map(|it| serde_json::to_vec(&it).unwrap());
        let answers = [Answer::FlushLsn("0/16B3748".to_owned()), Answer::Error("full".to_owned())];
        let answers = answers.map(|it| serde_json::to_vec(&it).unwrap());
        let status = br#"{"state":"running","reason":null,"postgres_pid":7,"compute_pid":6,"port":20000,"timeline":2,
            "start_lsn":"0/1","shipped_lsn":null,"restarts":0,"overlay_bytes":8192,"phases":{"tail":0.1,"state":1,
            "datadir":2,"mount":3,"postgres_start":40,"total":46.1}}"#;
        serde_json::from_slice::<Status>(status).expect("a status");
        let spec = br#"{"project":"p","branch":"br-a","endpoint":"ep-a","dir":"/d","serve_socket":"/s","pg_bin":"/b",
            "port":20000,"run_as":[1,2],"superuser":"postgres","passwords":{"verifiers":{"a":"b"},"no_others":true}}"#;
        serde_json::from_slice::<EndpointSpec>(spec).expect("a spec");
        let all = [&commands[..], &answers, &[status.to_vec(), spec.to_vec()]].concat();
        stands("compute_json", &all, json);
    }

    #[test]
    fn changed_control_files_are_refused_or_made_into_others() {
        let mut template = vec![7; 300];
        for (at, number) in [(8, 1300_u32), (12, 202_209_061)] {
            template[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        assert!(control_file::major_of(&template).is_ok());
        stands("compute_control", &[template], control);
    }

    #[test]
    fn changed_pages_of_roles_are_looked_at() {
        let page = predefined::tests::page(&[4569, 4570, 4571].map(|role| (role, true, 0, 0x0B00)));
        stands("compute_roles", &[page], roles);
    }

    #[test]
    fn changed_leftovers_are_looked_at() {
        let table = b"77\n key shmid perms size cpid lpid nattch\n 1 10 600 56 77 77 0 999 999 999 999\n";
        let control = [&0x9a50_3d32_u32.to_ne_bytes()[..], &2_u32.to_ne_bytes(), &[1; 88]].concat();
        assert_eq!(shared_memory::handles(&control).len(), 2);
        stands(
            "compute_leftovers",
            &[b"00000001000000000000002A".to_vec(), table.to_vec(), control],
            leftovers,
        );
    }
}
