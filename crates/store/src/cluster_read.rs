//! Everything but relation pages at one LSN.

use types::{BLOCK_SIZE, Fork, Key, Lsn, RelFork, RelTag, SlruKind};

use crate::answer::StateAt;
use crate::branch::Branch;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::page_read::{build, origin_in, size_in};
use crate::value::Lookup;

const MAX_REL: RelTag = RelTag { tablespace: u32::MAX, database: u32::MAX, relation: u32::MAX };

/// The state of the cluster at the record boundary `lsn`.
pub(crate) fn state_at(core: &Core, branch: &Branch, lsn: Lsn) -> Result<StateAt> {
    let cluster = branch.exact_state(core, lsn)?;
    let mut state = StateAt {
        cluster,
        relations: Vec::new(),
        databases: Vec::new(),
        tablespaces: Vec::new(),
        relmaps: Vec::new(),
        two_phase: Vec::new(),
        origins: Vec::new(),
        slru: Vec::new(),
    };
    let last = Key::RelSize(RelFork { rel: MAX_REL, fork: Fork::Init });
    for (key, version) in branch.scan(Key::Database { tablespace: 0, database: 0 }, last, lsn)? {
        match key {
            Key::Database { tablespace, database } => state.databases.push((tablespace, database)),
            Key::RelMap { tablespace, database } => {
                state.relmaps.push((tablespace, database, version.bytes.to_vec()));
            }
            Key::Tablespace(oid) => state.tablespaces.push(oid),
            Key::TwoPhase(xid) => state.two_phase.push((xid, version.bytes.to_vec())),
            Key::RelSize(RelFork { fork: Fork::FreeSpace, .. }) => {}
            Key::RelSize(rel) => state.relations.push((rel, size_in(&version)?)),
            Key::SlruBlock(..)
            | Key::RelBlock(..)
            | Key::ReplOrigin(_)
            | Key::Extension(_)
            | Key::Unreadable(_) => {
                return Err(StoreError::corrupt("a scan", 0, "gave a key out of its range"));
            }
        }
    }
    for (key, version) in branch.scan(Key::ReplOrigin(0), Key::ReplOrigin(u16::MAX), lsn)? {
        if let Key::ReplOrigin(origin) = key {
            state.origins.push((origin, origin_in(&version)?));
        }
    }
    read_slrus(core, branch, lsn, &mut state)?;
    Ok(state)
}

/// Bytes of all relations at `lsn`, free space maps aside.
pub(crate) fn logical_bytes(branch: &Branch, lsn: Lsn) -> Result<u64> {
    let none = RelTag { tablespace: 0, database: 0, relation: 0 };
    let first = Key::RelSize(RelFork { rel: none, fork: Fork::Main });
    let last = Key::RelSize(RelFork { rel: MAX_REL, fork: Fork::Init });
    let mut blocks = 0;
    for (key, version) in branch.scan(first, last, lsn)? {
        if !matches!(key, Key::RelSize(RelFork { fork: Fork::FreeSpace, .. })) {
            blocks += u64::from(size_in(&version)?);
        }
    }
    Ok(blocks * BLOCK_SIZE as u64)
}

fn read_slrus(core: &Core, branch: &Branch, lsn: Lsn, state: &mut StateAt) -> Result<()> {
    for kind in SlruKind::ALL {
        let pages = branch.scan(Key::SlruBlock(kind, 0), Key::SlruBlock(kind, u32::MAX), lsn)?;
        let mut lookups: Vec<Lookup> = pages.into_keys().map(|key| Lookup::new(key, lsn)).collect();
        branch.lookup(&mut lookups)?;
        for lookup in &lookups {
            let Key::SlruBlock(kind, number) = lookup.key else { continue };
            let page = build(core, lookup, lsn)?;
            state.slru.push((kind, number, Box::new(*page)));
        }
    }
    Ok(())
}
