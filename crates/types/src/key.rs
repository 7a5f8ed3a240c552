//! What the store versions: every thing that has a value at an LSN.
//!
//! A key's byte form sorts as the key does, so that one relation's blocks, all relation sizes, and all pages of an
//! SLRU are each one contiguous range.
//!
//! | byte 0 | key         | then (big-endian)                                        |
//! |-------:|-------------|----------------------------------------------------------|
//! |      1 | `Database`  | tablespace 4, database 4                                 |
//! |      2 | `RelMap`    | tablespace 4, database 4                                 |
//! |      3 | `Tablespace`| tablespace 4                                             |
//! |      4 | `TwoPhase`  | xid 8                                                    |
//! |      5 | `RelSize`   | tablespace 4, database 4, relation 4, fork 1             |
//! |      6 | `SlruBlock` | kind 1, page 4                                           |
//! |      7 | `RelBlock`  | tablespace 4, database 4, relation 4, fork 1, block 4    |
//! |      8 | `ReplOrigin`| id 2                                                     |
//! |      9 | `Extension` | resource manager 1                                       |
//! |     10 | `Unreadable`| tablespace 4, database 4, relation 4, fork 1             |
//!
//! Unused bytes are zero.

use crate::{BlockNumber, Fork, RelFork, RelTag};

/// Pages in one SLRU segment file (`SLRU_PAGES_PER_SEGMENT`).
pub const SLRU_PAGES_PER_SEGMENT: u32 = 32;

/// Postgres's "simple LRU" areas that the store keeps. `pg_subtrans`, `pg_notify` and `pg_serial` start empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum SlruKind {
    /// `pg_xact`: two bits a transaction.
    Clog = 0,
    /// `pg_multixact/offsets`: four bytes a multixact.
    MultiXactOffsets = 1,
    /// `pg_multixact/members`: groups of four members in 20 bytes.
    MultiXactMembers = 2,
    /// `pg_commit_ts`: ten bytes a transaction, if `track_commit_timestamp` is on.
    CommitTs = 3,
}

impl SlruKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Clog, Self::MultiXactOffsets, Self::MultiXactMembers, Self::CommitTs];

    /// Its directory below the data directory.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Clog => "pg_xact",
            Self::MultiXactOffsets => "pg_multixact/offsets",
            Self::MultiXactMembers => "pg_multixact/members",
            Self::CommitTs => "pg_commit_ts",
        }
    }

    /// The kind with number `raw`; `None` above 3.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::Clog),
            1 => Some(Self::MultiXactOffsets),
            2 => Some(Self::MultiXactMembers),
            3 => Some(Self::CommitTs),
            _ => None,
        }
    }
}

/// Pages of an SLRU that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlruRun {
    /// Of which SLRU.
    pub kind: SlruKind,
    /// Number of the first page.
    pub first: u32,
    /// How many there are.
    pub pages: u32,
}

/// One versioned thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A database's directory in a tablespace exists.
    Database {
        /// OID of the tablespace.
        tablespace: u32,
        /// OID of the database.
        database: u32,
    },
    /// `pg_filenode.map` of a database, or of the cluster with `GLOBAL_TABLESPACE` and database 0.
    RelMap {
        /// OID of the tablespace.
        tablespace: u32,
        /// OID of the database; 0 for the shared map.
        database: u32,
    },
    /// A user-made tablespace exists.
    Tablespace(u32),
    /// State of a prepared transaction, without the file's trailing CRC.
    TwoPhase(u64),
    /// A fork exists and has this many blocks.
    RelSize(RelFork),
    /// A page of an SLRU.
    SlruBlock(SlruKind, u32),
    /// A page of a relation.
    RelBlock(RelFork, BlockNumber),
    /// How far a replication origin's changes were applied.
    ReplOrigin(u16),
    /// The log holds records of this resource manager, an extension's, which cannot be replayed.
    Extension(u8),
    /// Blocks of the fork were written by such records.
    Unreadable(RelFork),
}

/// A key in its sortable form.
pub type KeyBytes = [u8; Key::ENCODED_LEN];

impl Key {
    /// Bytes of every encoded key.
    pub const ENCODED_LEN: usize = 18;

    /// The sortable form.
    pub fn to_bytes(&self) -> KeyBytes {
        let mut out = [0; Self::ENCODED_LEN];
        let mut put = |at: usize, value: u32| {
            for (slot, byte) in out.iter_mut().skip(at).zip(value.to_be_bytes()) {
                *slot = byte;
            }
        };
        let (tag, byte13) = match *self {
            Self::Database { tablespace, database } => {
                put(1, tablespace);
                put(5, database);
                (1, 0)
            }
            Self::RelMap { tablespace, database } => {
                put(1, tablespace);
                put(5, database);
                (2, 0)
            }
            Self::Tablespace(tablespace) => {
                put(1, tablespace);
                (3, 0)
            }
            Self::TwoPhase(xid) => {
                put(1, (xid >> 32) as u32);
                put(5, xid as u32);
                (4, 0)
            }
            Self::RelSize(RelFork { rel, fork }) => {
                put(1, rel.tablespace);
                put(5, rel.database);
                put(9, rel.relation);
                (5, fork as u8)
            }
            Self::SlruBlock(kind, page) => {
                put(2, page);
                out[1] = kind as u8;
                out[0] = 6;
                return out;
            }
            Self::RelBlock(RelFork { rel, fork }, block) => {
                put(1, rel.tablespace);
                put(5, rel.database);
                put(9, rel.relation);
                put(14, block.get());
                (7, fork as u8)
            }
            Self::ReplOrigin(id) => {
                put(1, u32::from(id) << 16);
                (8, 0)
            }
            Self::Extension(rmgr) => {
                put(1, u32::from(rmgr) << 24);
                (9, 0)
            }
            Self::Unreadable(RelFork { rel, fork }) => {
                put(1, rel.tablespace);
                put(5, rel.database);
                put(9, rel.relation);
                (10, fork as u8)
            }
        };
        out[0] = tag;
        out[13] = byte13;
        out
    }

    /// The key whose sortable form is `bytes`; `None` if there is none.
    pub fn from_bytes(bytes: &KeyBytes) -> Option<Self> {
        let get = |at: usize| -> u32 {
            bytes.iter().skip(at).take(4).fold(0, |value, &byte| value << 8 | u32::from(byte))
        };
        let rel = || RelTag { tablespace: get(1), database: get(5), relation: get(9) };
        Some(match bytes[0] {
            1 => Self::Database { tablespace: get(1), database: get(5) },
            2 => Self::RelMap { tablespace: get(1), database: get(5) },
            3 => Self::Tablespace(get(1)),
            4 => Self::TwoPhase(u64::from(get(1)) << 32 | u64::from(get(5))),
            5 => Self::RelSize(RelFork { rel: rel(), fork: Fork::from_raw(bytes[13])? }),
            6 => Self::SlruBlock(SlruKind::from_raw(bytes[1])?, get(2)),
            7 => {
                let fork = Fork::from_raw(bytes[13])?;
                Self::RelBlock(RelFork { rel: rel(), fork }, BlockNumber::new(get(14)))
            }
            8 => Self::ReplOrigin((get(1) >> 16) as u16),
            9 => Self::Extension((get(1) >> 24) as u8),
            10 => Self::Unreadable(RelFork { rel: rel(), fork: Fork::from_raw(bytes[13])? }),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_in_order() -> Vec<Key> {
        let rel = |relation| RelTag { tablespace: 1663, database: 5, relation };
        let main = |relation| RelFork { rel: rel(relation), fork: Fork::Main };
        vec![
            Key::Database { tablespace: 1663, database: 1 },
            Key::RelMap { tablespace: 1664, database: 0 },
            Key::Tablespace(u32::MAX),
            Key::TwoPhase(7),
            Key::TwoPhase(1 << 40),
            Key::RelSize(main(1)),
            Key::RelSize(RelFork { rel: rel(1), fork: Fork::Init }),
            Key::SlruBlock(SlruKind::Clog, u32::MAX),
            Key::SlruBlock(SlruKind::MultiXactOffsets, 0),
            Key::RelBlock(main(1), BlockNumber::new(255)),
            Key::RelBlock(main(1), BlockNumber::new(256)),
            Key::RelBlock(RelFork { rel: rel(1), fork: Fork::Visibility }, BlockNumber::new(0)),
            Key::RelBlock(main(2), BlockNumber::new(0)),
            Key::ReplOrigin(1),
            Key::ReplOrigin(256),
            Key::Extension(128),
            Key::Extension(255),
            Key::Unreadable(main(1)),
            Key::Unreadable(RelFork { rel: rel(1), fork: Fork::Init }),
        ]
    }

    #[test]
    fn byte_form_sorts_as_the_key_and_round_trips() {
        let keys = keys_in_order();
        for pair in keys.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
            assert!(pair[0].to_bytes() < pair[1].to_bytes(), "{pair:?}");
        }
        for key in keys {
            assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        }
    }
}
