//! Pages at an LSN: versions collected from the tables, put together by redo.
//!
//! - A page starts from its newest full version and takes the records after it, oldest first.
//! - A database copied by file is an alias: what it has not written since comes from its source at the LSN of the
//!   copy, under the source's key, and so on if that is a copy too.
//! - An SLRU page without a full version starts as zeros. So does a visibility map page, and any doubt about one
//!   is answered with zeros: no bit set is always safe.

use redo::RedoContext;
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag};
use wal::Record;

use crate::branch::Branch;
use crate::error::{Result, StoreError};
use crate::table::value::{Kind, Lookup, Version};

/// First byte of a `Database` value: nothing follows, or the source's tablespace and database do.
const PLAIN: u8 = 0;
const ALIAS: u8 = 1;

/// The value of a database that is no copy, or a copy of (tablespace, database).
pub(crate) fn database_value(copy_of: Option<(u32, u32)>) -> Vec<u8> {
    let Some((tablespace, database)) = copy_of else { return vec![PLAIN] };
    let mut value = vec![ALIAS];
    value.extend(tablespace.to_le_bytes());
    value.extend(database.to_le_bytes());
    value
}

fn alias_in(value: &[u8]) -> Option<(u32, u32)> {
    let (&ALIAS, rest) = value.split_first()? else { return None };
    let (tablespace, rest) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*tablespace), u32::from_le_bytes(*rest.first_chunk()?)))
}

struct Alias {
    source: (u32, u32),
    lsn: Lsn,
}

fn alias_of(branch: &Branch, rel: RelTag, cap: Lsn) -> Result<Option<Alias>> {
    if rel.database == 0 {
        return Ok(None);
    }
    let key = Key::Database { tablespace: rel.tablespace, database: rel.database };
    let found = branch.newest(key, cap)?;
    Ok(found.and_then(|version| Some(Alias { source: alias_in(&version.bytes)?, lsn: version.lsn })))
}

/// The length of a fork at `lsn`; `None` if it does not exist.
pub(crate) fn size(branch: &Branch, rel: RelFork, lsn: Lsn) -> Result<Option<u32>> {
    branch.newest(Key::RelSize(rel), lsn)?.map(|version| size_in(&version)).transpose()
}

/// The length in a `RelSize` value.
pub(crate) fn size_in(version: &Version) -> Result<u32> {
    let bytes: &[u8] = &version.bytes;
    let raw = bytes.try_into().map_err(|_| StoreError::corrupt("a relation size", 0, "not four bytes"))?;
    Ok(u32::from_le_bytes(raw))
}

/// The position in a `ReplOrigin` value.
pub(crate) fn origin_in(version: &Version) -> Result<u64> {
    let bytes: &[u8] = &version.bytes;
    let raw =
        bytes.try_into().map_err(|_| StoreError::corrupt("an origin's position", 0, "not eight bytes"))?;
    Ok(u64::from_le_bytes(raw))
}

/// Versions of `count` blocks of `rel` from `first` on, following aliases.
fn collect(branch: &Branch, rel: RelFork, first: u32, count: u32, lsn: Lsn) -> Result<Vec<Lookup>> {
    let blocks = first..first.saturating_add(count);
    let (mut rel, mut cap) = (rel, lsn);
    let mut all: Vec<Lookup> = Vec::new();
    loop {
        let alias = alias_of(branch, rel.rel, cap)?;
        let ask = |block| Lookup {
            floor: alias.as_ref().map(|alias| alias.lsn),
            ..Lookup::new(Key::RelBlock(rel, BlockNumber::new(block)), cap)
        };
        let mut lookups: Vec<Lookup> = blocks.clone().map(ask).collect();
        let unfinished = |lookup: &Lookup| !lookup.found.last().is_some_and(|last| last.kind.is_full());
        if all.is_empty() {
            branch.lookup(&mut lookups)?;
            all = lookups;
        } else {
            for (known, lookup) in all.iter().zip(&mut lookups) {
                lookup.done = !unfinished(known);
            }
            branch.lookup(&mut lookups)?;
            for (known, lookup) in all.iter_mut().zip(lookups) {
                known.found.extend(lookup.found);
            }
        }
        match alias {
            Some(alias) if all.iter().any(unfinished) => {
                (rel.rel.tablespace, rel.rel.database) = alias.source;
                cap = alias.lsn;
            }
            _ => return Ok(all),
        }
    }
}

/// Fills `out` with blocks of `rel` from `first` on, as they were at `lsn`, checksummed.
pub(crate) fn read_blocks(
    cx: RedoContext,
    branch: &Branch,
    lsn: Lsn,
    (rel, first): (RelFork, BlockNumber),
    out: &mut [u8],
) -> Result<()> {
    let count = u32::try_from(out.len() / BLOCK_SIZE).unwrap_or(u32::MAX);
    let blocks = size(branch, rel, lsn)?;
    let blocks = blocks.ok_or_else(|| StoreError::NoRelation { branch: branch.id.clone(), rel, lsn })?;
    if first.get().checked_add(count).is_none_or(|end| end > blocks) {
        let block = BlockNumber::new(first.get().max(blocks));
        return Err(StoreError::BeyondEnd { branch: branch.id.clone(), rel, block, blocks, lsn });
    }
    let lookups = collect(branch, rel, first.get(), count, lsn)?;
    for (lookup, out) in lookups.iter().zip(out.chunks_exact_mut(BLOCK_SIZE)) {
        let mut page = build(cx, lookup, lsn)?;
        if let Key::RelBlock(_, block) = lookup.key
            && !redo::page::is_new(&page)
        {
            redo::set_checksum(&mut page, block);
        }
        out.copy_from_slice(&page[..]);
    }
    Ok(())
}

/// One page of a relation or an SLRU at `lsn`, without a checksum.
pub(crate) fn read_page(cx: RedoContext, branch: &Branch, key: Key, lsn: Lsn) -> Result<Page> {
    let lookups = match key {
        Key::RelBlock(rel, block) => collect(branch, rel, block.get(), 1, lsn)?,
        _ => {
            let mut lookups = vec![Lookup::new(key, lsn)];
            branch.lookup(&mut lookups)?;
            lookups
        }
    };
    let missing = || StoreError::corrupt("a lookup", 0, "gave no answer");
    build(cx, lookups.first().ok_or_else(missing)?, lsn)
}

/// The page that a finished lookup describes.
pub(crate) fn build(cx: RedoContext, lookup: &Lookup, lsn: Lsn) -> Result<Page> {
    match (build_strictly(cx, lookup, lsn), lookup.key) {
        (Err(StoreError::Corrupt { object, at, reason }), _) => {
            Err(StoreError::Corrupt { object, at, reason })
        }
        (Err(_), Key::RelBlock(RelFork { fork: Fork::Visibility, .. }, _)) => Ok(Page::zeroed()),
        (outcome, _) => outcome,
    }
}

fn build_strictly(cx: RedoContext, lookup: &Lookup, lsn: Lsn) -> Result<Page> {
    let mut versions = lookup.found.iter().rev();
    let full = versions.clone().next().filter(|version| version.kind.is_full());
    let mut page = match (full, lookup.key) {
        (Some(version), key) => {
            versions.next();
            base(cx, version, key)?
        }
        (None, Key::RelBlock(RelFork { fork: Fork::Visibility, .. }, _) | Key::SlruBlock(..)) => {
            Page::zeroed()
        }
        (None, Key::RelBlock(rel, block)) => return Err(StoreError::NoBase { rel, block, lsn }),
        (None, key) => return Err(StoreError::corrupt(format!("{key:?}"), 0, "is not a page")),
    };
    versions.try_for_each(|version| replay(cx, version, &mut page))?;
    Ok(page)
}

fn base(cx: RedoContext, version: &Version, key: Key) -> Result<Page> {
    match (version.kind, key) {
        (Kind::Image, _) => Page::from_slice(&version.bytes)
            .ok_or_else(|| StoreError::corrupt("a stored page", 0, "is not one block long")),
        (Kind::Rebuild, _) => {
            let mut page = Page::zeroed();
            replay(cx, version, &mut page)?;
            Ok(page)
        }
        (Kind::Unreadable, Key::RelBlock(rel, block)) => {
            Err(StoreError::Unreadable { rel, block, rmgr: version.aux })
        }
        (Kind::Zero | Kind::Tombstone, _) => Ok(Page::zeroed()),
        _ => Err(StoreError::corrupt("a stored page", 0, "is of another kind")),
    }
}

fn replay(cx: RedoContext, version: &Version, page: &mut Page) -> Result<()> {
    let bad = || StoreError::corrupt("a stored record", 0, "has no position");
    let (start, bytes) = version.bytes.split_first_chunk().ok_or_else(bad)?;
    let start = Lsn::from_raw(u64::from_le_bytes(*start)).ok_or_else(bad)?;
    let record = Record::decode(start, bytes)?;
    redo::apply(&cx, &version.key, page, &record, version.lsn)?;
    Ok(())
}
