//! Everything but relation pages at one LSN.

use redo::RedoContext;
use types::{BLOCK_SIZE, Fork, Key, Lsn, RelFork, RelTag, SlruKind, SlruRun, StateAt};

use crate::branch::Branch;
use crate::error::{Result, StoreError};
use crate::log::segments::WalFiles;
use crate::read::pages::{build, origin_in, size_in};
use crate::read::walk;
use crate::table::value::Lookup;

const MAX_REL: RelTag = RelTag { tablespace: u32::MAX, database: u32::MAX, relation: u32::MAX };

/// Most pages of SLRUs that are part of a state; 1 MB, the commits of four million transactions. Of more, only the numbers
/// are.
const SLRU_PAGES_AT_ONCE: usize = 128;

/// The state of the cluster at the record boundary `lsn`, which the branch must hold.
pub(crate) fn state_at(files: &WalFiles, cx: RedoContext, branch: &Branch, lsn: Lsn) -> Result<StateAt> {
    let cluster = walk::exact_state(files, branch, lsn)?;
    let mut state = StateAt {
        cluster,
        relations: Vec::new(),
        databases: Vec::new(),
        tablespaces: Vec::new(),
        relmaps: Vec::new(),
        two_phase: Vec::new(),
        origins: Vec::new(),
        slru: Vec::new(),
        slru_runs: Vec::new(),
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
    read_slrus(cx, branch, lsn, &mut state)?;
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

/// The pages of all SLRUs if they are few, or else which there are: a start must not take longer the more transactions
/// there ever were.
fn read_slrus(cx: RedoContext, branch: &Branch, lsn: Lsn, state: &mut StateAt) -> Result<()> {
    let mut found = Vec::new();
    for kind in SlruKind::ALL {
        let pages = branch.scan(Key::SlruBlock(kind, 0), Key::SlruBlock(kind, u32::MAX), lsn)?;
        for key in pages.into_keys() {
            let Key::SlruBlock(kind, page) = key else { continue };
            found.push((kind, page));
        }
    }
    if found.len() > SLRU_PAGES_AT_ONCE {
        state.slru_runs = runs(&found);
        return Ok(());
    }
    let key = |(kind, page)| Lookup::new(Key::SlruBlock(kind, page), lsn);
    let mut lookups: Vec<Lookup> = found.iter().copied().map(key).collect();
    branch.lookup(&mut lookups)?;
    for ((kind, number), lookup) in found.into_iter().zip(&lookups) {
        state.slru.push((kind, number, Box::new(*build(cx, lookup, lsn)?)));
    }
    Ok(())
}

/// Sorted pages as runs.
fn runs(pages: &[(SlruKind, u32)]) -> Vec<SlruRun> {
    let mut runs: Vec<SlruRun> = Vec::new();
    for &(kind, page) in pages {
        match runs.last_mut() {
            Some(run) if run.kind == kind && run.first.checked_add(run.pages) == Some(page) => run.pages += 1,
            _ => runs.push(SlruRun { kind, first: page, pages: 1 }),
        }
    }
    runs
}

/// Fills `out` with pages of an SLRU from `first` on, as they were at `lsn`; zeros where there was none.
pub(crate) fn read_slru(
    cx: RedoContext,
    branch: &Branch,
    lsn: Lsn,
    (kind, first): (SlruKind, u32),
    out: &mut [u8],
) -> Result<()> {
    let count = u32::try_from(out.len() / BLOCK_SIZE).unwrap_or(u32::MAX);
    let pages = first..first.saturating_add(count);
    let mut lookups: Vec<Lookup> = pages.map(|page| Lookup::new(Key::SlruBlock(kind, page), lsn)).collect();
    branch.lookup(&mut lookups)?;
    for (lookup, out) in lookups.iter().zip(out.chunks_exact_mut(BLOCK_SIZE)) {
        out.copy_from_slice(&build(cx, lookup, lsn)?[..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_follow_each_other_are_one_run() {
        let (clog, members) = (SlruKind::Clog, SlruKind::MultiXactMembers);
        let pages =
            [(clog, 0), (clog, 1), (clog, 5), (members, 6), (members, u32::MAX - 1), (members, u32::MAX)];
        let run = |kind, first, pages| SlruRun { kind, first, pages };
        let expected = [run(clog, 0, 2), run(clog, 5, 1), run(members, 6, 1), run(members, u32::MAX - 1, 2)];
        assert_eq!(runs(&pages), expected);
    }
}
