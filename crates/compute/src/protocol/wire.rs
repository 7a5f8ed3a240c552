//! How the values of `types` are serialized in frames: field by field, so that `types` needs no serde.
//!
//! An impossible value (an LSN of zero, a fork number of 9) is an error of the decoder, never a value.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::{
    BLOCK_SIZE, ClusterState, Fork, Lsn, PgTime, RelFork, RelTag, ServerLimits, SlruKind, SlruRun, StateAt,
    TimelineId,
};

type Tag = (u32, u32, u32, u8);

fn to_tag(rel: &RelFork) -> Tag {
    (rel.rel.tablespace, rel.rel.database, rel.rel.relation, rel.fork as u8)
}

fn from_tag<E: serde::de::Error>((tablespace, database, relation, fork): Tag) -> Result<RelFork, E> {
    let fork = Fork::from_raw(fork).ok_or_else(|| E::custom("fork number above 3"))?;
    Ok(RelFork { rel: RelTag { tablespace, database, relation }, fork })
}

fn from_raw_lsn<E: serde::de::Error>(raw: u64) -> Result<Lsn, E> {
    Lsn::from_raw(raw).ok_or_else(|| E::custom("LSN is zero"))
}

/// `Lsn` as its number.
pub mod lsn {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Lsn, out: S) -> Result<S::Ok, S::Error> {
        value.raw().serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Lsn, D::Error> {
        from_raw_lsn(u64::deserialize(input)?)
    }
}

/// `TimelineId` as its number.
pub mod timeline {
    use super::*;

    pub fn serialize<S: Serializer>(value: &TimelineId, out: S) -> Result<S::Ok, S::Error> {
        value.get().serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<TimelineId, D::Error> {
        u32::deserialize(input).map(TimelineId::new)
    }
}

/// `RelFork` as four numbers.
pub mod rel_fork {
    use super::*;

    pub fn serialize<S: Serializer>(value: &RelFork, out: S) -> Result<S::Ok, S::Error> {
        to_tag(value).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<RelFork, D::Error> {
        from_tag(Tag::deserialize(input)?)
    }
}

/// Forks with their sizes.
pub mod relations {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[(RelFork, u32)], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(|(rel, blocks)| (to_tag(rel), blocks)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<(RelFork, u32)>, D::Error> {
        let raw = Vec::<(Tag, u32)>::deserialize(input)?;
        raw.into_iter().map(|(tag, blocks)| Ok((from_tag(tag)?, blocks))).collect()
    }
}

/// Timelines and where they ended.
pub mod history {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[(TimelineId, Lsn)], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(|(timeline, ended)| (timeline.get(), ended.raw())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<(TimelineId, Lsn)>, D::Error> {
        let raw = Vec::<(u32, u64)>::deserialize(input)?;
        raw.into_iter()
            .map(|(timeline, ended)| Ok((TimelineId::new(timeline), from_raw_lsn(ended)?)))
            .collect()
    }
}

/// SLRU pages as byte strings.
pub mod slru_pages {
    use super::*;

    type Pages = Vec<(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)>;

    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            out.serialize_bytes(self.0)
        }
    }

    pub fn serialize<S: Serializer>(
        values: &[(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(|(kind, page, bytes)| (*kind as u8, page, Bytes(&bytes[..]))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Pages, D::Error> {
        let raw = Vec::<(u8, u32, &[u8])>::deserialize(input)?;
        raw.into_iter()
            .map(|(kind, page, bytes)| {
                let kind = to_slru(kind)?;
                let bytes = bytes.try_into().map_err(|_| D::Error::custom("SLRU page is not 8192 bytes"))?;
                Ok((kind, page, Box::new(bytes)))
            })
            .collect()
    }
}

fn to_slru<E: serde::de::Error>(raw: u8) -> Result<SlruKind, E> {
    SlruKind::from_raw(raw).ok_or_else(|| E::custom("SLRU number above 3"))
}

/// `SlruKind` as its number.
pub mod slru_kind {
    use super::*;

    pub fn serialize<S: Serializer>(value: &SlruKind, out: S) -> Result<S::Ok, S::Error> {
        (*value as u8).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<SlruKind, D::Error> {
        to_slru(u8::deserialize(input)?)
    }
}

/// Runs of SLRU pages as three numbers each.
pub mod slru_runs {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[SlruRun], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(|run| (run.kind as u8, run.first, run.pages)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<SlruRun>, D::Error> {
        let raw = Vec::<(u8, u32, u32)>::deserialize(input)?;
        raw.into_iter()
            .map(|(kind, first, pages)| Ok(SlruRun { kind: to_slru(kind)?, first, pages }))
            .collect()
    }
}

/// `StateAt`, flat.
#[derive(Serialize, Deserialize)]
#[serde(remote = "StateAt")]
pub struct State {
    #[serde(with = "Cluster")]
    cluster: ClusterState,
    #[serde(with = "relations")]
    relations: Vec<(RelFork, u32)>,
    databases: Vec<(u32, u32)>,
    tablespaces: Vec<u32>,
    relmaps: Vec<(u32, u32, Vec<u8>)>,
    two_phase: Vec<(u64, Vec<u8>)>,
    origins: Vec<(u16, u64)>,
    #[serde(with = "slru_pages")]
    slru: Vec<(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)>,
    #[serde(with = "slru_runs")]
    slru_runs: Vec<SlruRun>,
}

/// The same in a box.
pub mod boxed_state {
    use super::*;

    pub fn serialize<S: Serializer>(value: &StateAt, out: S) -> Result<S::Ok, S::Error> {
        State::serialize(value, out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Box<StateAt>, D::Error> {
        State::deserialize(input).map(Box::new)
    }
}

/// `ClusterState`, flat.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ClusterState")]
struct Cluster {
    #[serde(with = "lsn")]
    lsn: Lsn,
    #[serde(with = "lsn")]
    last_record: Lsn,
    #[serde(with = "timeline")]
    timeline: TimelineId,
    next_xid: u64,
    next_oid: u32,
    next_multi: u32,
    next_multi_offset: u32,
    oldest_xid: u32,
    oldest_xid_database: u32,
    oldest_multi: u32,
    oldest_multi_database: u32,
    oldest_commit_ts_xid: u32,
    newest_commit_ts_xid: u32,
    full_page_writes: bool,
    #[serde(with = "Limits")]
    limits: ServerLimits,
    #[serde(with = "commit")]
    last_commit: Option<(PgTime, Lsn)>,
    #[serde(with = "time")]
    latest_xact_time: Option<PgTime>,
}

/// `ServerLimits`, flat.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ServerLimits")]
struct Limits {
    max_connections: i32,
    max_worker_processes: i32,
    max_wal_senders: i32,
    max_prepared_xacts: i32,
    max_locks_per_xact: i32,
    wal_level: i32,
    wal_log_hints: bool,
    track_commit_timestamp: bool,
}

mod commit {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<(PgTime, Lsn)>, out: S) -> Result<S::Ok, S::Error> {
        value.map(|(time, lsn)| (time.pg_us(), lsn.raw())).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<(PgTime, Lsn)>, D::Error> {
        let raw = Option::<(i64, u64)>::deserialize(input)?;
        raw.map(|(time, lsn)| Ok((PgTime::from_pg_us(time), from_raw_lsn(lsn)?))).transpose()
    }
}

mod time {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<PgTime>, out: S) -> Result<S::Ok, S::Error> {
        value.map(PgTime::pg_us).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PgTime>, D::Error> {
        Ok(Option::<i64>::deserialize(input)?.map(PgTime::from_pg_us))
    }
}
