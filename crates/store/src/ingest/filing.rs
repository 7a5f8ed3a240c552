//! Records become versions in the memtable of a branch.
//!
//! Invariants
//! - Everything a record does becomes visible at once, at its end LSN; if any of it fails, nothing does.
//! - Relation sizes are exact, and no block that a fork gains shows what it held in an earlier life: blocks between
//!   the old end and a touched one get explicit zeros, and so does the touched one unless its record rebuilds it.
//! - After `CHAIN_MAX` records on a page in memory since its last full version the page itself is stored; what lies in
//!   layers is counted when a memtable is written (`table::memtable`).
//!
//! Not here: durability of the WAL (`append`), where it ends (`branch::writer`), what a record changes (`wal::interpret`), layers
//! (`core::flush`).

use std::collections::VecDeque;
use std::sync::Arc;

use redo::RedoContext;
use types::{BlockNumber, ClusterState, Fork, Key, Lsn, RelFork, RelTag, SlruKind};
use wal::{BlockChange, Change, InterpretContext, RawRecord, Record, RmgrId, WalFormat};

use crate::branch::Branch;
use crate::branch::extension::{Extensions, FIRST, LAST};
use crate::branch::filed::{Filed, Put};
use crate::error::{Result, StoreError};
use crate::ingest::slru;
use crate::limits::{CHAIN_MAX, GAP_MAX, LOOKED_UP_AT_ONCE, REMEMBERED_MAX, REPLAY_MAX, WAYPOINT_EVERY};
use crate::read::pages::{self, database_value, origin_in};
use crate::table::memtable::{ArenaRef, Memtable};
use crate::table::value::{Kind, Lookup};

/// Turns records of one branch into versions.
pub(crate) struct Filing<'a> {
    pub(crate) format: WalFormat,
    pub(crate) redo: RedoContext,
    /// The memtable is frozen at so many bytes.
    pub(crate) memtable_bytes: usize,
    pub(crate) branch: &'a Branch,
    /// Where it is, and what it knows there.
    pub(crate) filed: &'a mut Filed,
}

impl Filing<'_> {
    /// Files one record whole.
    ///
    /// # Errors
    /// Then nothing of it is filed, and the same record can be filed later.
    pub(crate) fn record(&mut self, raw: &RawRecord<'_>) -> Result<()> {
        let outcome = self.file_record(raw);
        if outcome.is_err() {
            // What is remembered may be of the record that was not filed.
            self.filed.sizes.clear();
            self.filed.extensions = None;
        }
        outcome
    }

    fn file_record(&mut self, raw: &RawRecord<'_>) -> Result<()> {
        let record = Record::decode(raw.start, raw.bytes)?;
        let cx = InterpretContext {
            format: self.format,
            track_commit_timestamp: self.filed.state.limits.track_commit_timestamp,
        };
        let mut state = self.filed.state.clone();
        wal::advance(&mut state, &cx.format, &record, raw)?;
        let mut changes = Vec::new();
        let interpreted = wal::interpret(&cx, &record, raw.end, &mut |change| changes.push(change));
        #[cfg(test)]
        let interpreted = crate::ingest::tests::upgraded(interpreted);
        interpreted?;
        self.filed.puts.clear();
        self.filed.resized.clear();
        self.filed.long.clear();
        self.extensions()?;
        self.learn_sizes(&changes)?;
        for change in changes {
            if record.rmgr != RmgrId::SMGR || self.has_block(&change)? {
                self.change(change)?;
            }
        }
        self.file(raw, state);
        self.store_long_pages(raw.end);
        let view = self.branch.view.read();
        let full = view.active.bytes() >= self.memtable_bytes;
        drop(view);
        if full || raw.end.bytes_since(self.filed.frozen).is_some_and(|bytes| bytes >= REPLAY_MAX) {
            self.filed.freeze(&self.branch.view);
        }
        Ok(())
    }

    /// False for a block that its fork does not have: a cut clears the tail of the map's last page if there is one,
    /// and makes none.
    fn has_block(&mut self, change: &Change<'_>) -> Result<bool> {
        let Change::Block { rel, block, .. } = change else { return Ok(true) };
        Ok(self.size(*rel)?.is_some_and(|blocks| block.get() < blocks))
    }

    fn put(&mut self, key: Key, what: Put) {
        self.filed.puts.push((key, what));
    }

    fn change(&mut self, change: Change<'_>) -> Result<()> {
        match change {
            Change::Block { rel, block, how } => self.block(rel, block, Put::Record(how))?,
            Change::Extension { rmgr } => {
                if self.extensions()?.is_first_of(rmgr) {
                    self.put(Key::Extension(rmgr), Put::Meta(Vec::new()));
                }
            }
            Change::Unreadable { rel, block, rmgr } => {
                if self.extensions()?.is_first_in(rel, rmgr) {
                    self.put(Key::Unreadable(rel), Put::Meta(vec![rmgr]));
                }
                self.block(rel, block, Put::Unreadable(rmgr))?;
            }
            Change::ForkCreated(rel) => {
                if self.size(rel)?.is_none() {
                    self.resize(rel, Some(0));
                }
            }
            Change::ForkTruncated { rel, blocks } => {
                if self.size(rel)?.is_some_and(|size| size > blocks) {
                    self.resize(rel, Some(blocks));
                }
            }
            Change::RelDropped(rel) => {
                for fork in Fork::ALL {
                    let rel = RelFork { rel, fork };
                    if self.size(rel)?.is_some() {
                        self.resize(rel, None);
                    }
                }
            }
            Change::DatabaseCreated { tablespace, database, copy_of } => {
                self.database_created((tablespace, database), copy_of)?;
            }
            Change::DatabaseDropped { tablespace, database } => {
                for (rel, _) in self.relations_of((tablespace, database))? {
                    self.resize(rel, None);
                }
                self.put(Key::RelMap { tablespace, database }, Put::Tombstone);
                self.put(Key::Database { tablespace, database }, Put::Tombstone);
            }
            Change::TablespaceCreated(oid) => self.put(Key::Tablespace(oid), Put::Meta(Vec::new())),
            Change::TablespaceDropped(oid) => self.put(Key::Tablespace(oid), Put::Tombstone),
            Change::RelMap { tablespace, database, bytes } => {
                self.put(Key::RelMap { tablespace, database }, Put::Meta(bytes.to_vec()));
            }
            Change::Slru { kind, page, how } => self.put(Key::SlruBlock(kind, page), Put::Record(how)),
            Change::SlruTruncated { kind, cutoff } => self.slru_truncated(kind, cutoff)?,
            Change::Prepared { xid, bytes } => self.put(Key::TwoPhase(xid), Put::Meta(bytes.to_vec())),
            Change::PreparedDone { xid } => self.put(Key::TwoPhase(xid), Put::Tombstone),
            Change::OriginAdvanced { origin, upto, backward } => {
                self.origin_advanced(origin, upto, backward)?;
            }
            Change::OriginDropped { origin } => self.put(Key::ReplOrigin(origin), Put::Tombstone),
        }
        Ok(())
    }

    /// The length of a fork after what was put so far.
    fn size(&mut self, rel: RelFork) -> Result<Option<u32>> {
        if let Some(size) = self.filed.sizes.get(&rel) {
            return Ok(*size);
        }
        let size = pages::size(self.branch, rel, Lsn::MAX)?;
        if self.filed.sizes.len() >= REMEMBERED_MAX && self.filed.puts.is_empty() {
            self.filed.sizes.clear();
        }
        self.filed.sizes.insert(rel, size);
        Ok(size)
    }

    /// Looks up the lengths of all relations that a record drops, many at once.
    fn learn_sizes(&mut self, changes: &[Change<'_>]) -> Result<()> {
        let dropped = |change: &Change<'_>| match change {
            Change::RelDropped(rel) => Some(*rel),
            _ => None,
        };
        let dropped: Vec<RelTag> = changes.iter().filter_map(dropped).collect();
        for rels in dropped.chunks(LOOKED_UP_AT_ONCE) {
            let forks = rels.iter().flat_map(|&rel| Fork::ALL.map(|fork| RelFork { rel, fork }));
            let mut lookups: Vec<Lookup> = forks
                .filter(|rel| !self.filed.sizes.contains_key(rel))
                .map(|rel| Lookup::new(Key::RelSize(rel), Lsn::MAX))
                .collect();
            lookups.sort_unstable_by_key(|lookup| lookup.key);
            self.branch.lookup(&mut lookups)?;
            for lookup in lookups {
                let Key::RelSize(rel) = lookup.key else { continue };
                let found = lookup.found.first().filter(|version| version.kind != Kind::Tombstone);
                self.filed.sizes.insert(rel, found.map(pages::size_in).transpose()?);
            }
        }
        Ok(())
    }

    /// What is remembered of extensions' records.
    fn extensions(&mut self) -> Result<&mut Extensions> {
        let known = match self.filed.extensions.take() {
            Some(known) => known,
            None => Extensions::new(self.branch.scan(FIRST, LAST, Lsn::MAX)?)?,
        };
        Ok(self.filed.extensions.insert(known))
    }

    fn resize(&mut self, rel: RelFork, blocks: Option<u32>) {
        self.filed.sizes.insert(rel, blocks);
        let is_gone = blocks.is_none_or(|blocks| blocks == 0);
        if is_gone && self.filed.extensions.as_mut().is_some_and(|known| known.forget(rel)) {
            self.put(Key::Unreadable(rel), Put::Tombstone);
        }
        let what = blocks.map_or(Put::Tombstone, |blocks| Put::Meta(blocks.to_le_bytes().to_vec()));
        let put = self.filed.resized.get(&rel).and_then(|&index| self.filed.puts.get_mut(index));
        if let Some((_, earlier)) = put {
            *earlier = what;
            return;
        }
        self.filed.resized.insert(rel, self.filed.puts.len());
        self.put(Key::RelSize(rel), what);
    }

    fn block(&mut self, rel: RelFork, block: BlockNumber, what: Put) -> Result<()> {
        let size = self.size(rel)?;
        let had = size.unwrap_or(0);
        let key = Key::RelBlock(rel, block);
        if block.get() >= had {
            if block.get() - had > GAP_MAX {
                let reason = format!("a record touches block {block} of {rel}, which has {had} blocks");
                return Err(StoreError::corrupt("WAL", self.filed.state.lsn.raw(), reason));
            }
            for gap in had..block.get() {
                self.put(Key::RelBlock(rel, BlockNumber::new(gap)), Put::Zero);
            }
            if !matches!(what, Put::Record(BlockChange::Rebuilds)) {
                self.put(key, Put::Zero);
            }
            self.resize(rel, Some(block.get().saturating_add(1)));
        }
        self.put(key, what);
        Ok(())
    }

    fn relations_of(&self, (tablespace, database): (u32, u32)) -> Result<Vec<(RelFork, u32)>> {
        let bound =
            |relation, fork| Key::RelSize(RelFork { rel: RelTag { tablespace, database, relation }, fork });
        let found = self.branch.scan(bound(0, Fork::Main), bound(u32::MAX, Fork::Init), Lsn::MAX)?;
        let mut relations = Vec::with_capacity(found.len());
        for (key, version) in found {
            if let Key::RelSize(rel) = key {
                relations.push((rel, pages::size_in(&version)?));
            }
        }
        Ok(relations)
    }

    fn database_created(
        &mut self,
        (tablespace, database): (u32, u32),
        copy_of: Option<(u32, u32)>,
    ) -> Result<()> {
        let value = database_value(copy_of);
        self.put(Key::Database { tablespace, database }, Put::Meta(value));
        let Some(source) = copy_of else { return Ok(()) };
        for (mut rel, blocks) in self.relations_of(source)? {
            (rel.rel.tablespace, rel.rel.database) = (tablespace, database);
            self.resize(rel, Some(blocks));
        }
        for (mut rel, rmgr) in self.extensions()?.of_database(source) {
            (rel.rel.tablespace, rel.rel.database) = (tablespace, database);
            if self.extensions()?.is_first_in(rel, rmgr) {
                self.put(Key::Unreadable(rel), Put::Meta(vec![rmgr]));
            }
        }
        let map = self.branch.newest(Key::RelMap { tablespace: source.0, database: source.1 }, Lsn::MAX)?;
        if let Some(map) = map {
            self.put(Key::RelMap { tablespace, database }, Put::Meta(map.bytes.to_vec()));
        }
        Ok(())
    }

    fn origin_advanced(&mut self, origin: u16, upto: u64, backward: bool) -> Result<()> {
        let key = Key::ReplOrigin(origin);
        let known = self.branch.newest(key, Lsn::MAX)?.map(|version| origin_in(&version)).transpose()?;
        if backward || known.is_none_or(|known| known < upto) {
            self.put(key, Put::Meta(upto.to_le_bytes().to_vec()));
        }
        Ok(())
    }

    fn slru_truncated(&mut self, kind: SlruKind, cutoff: u32) -> Result<()> {
        let pages = self.branch.scan(Key::SlruBlock(kind, 0), Key::SlruBlock(kind, u32::MAX), Lsn::MAX)?;
        for key in pages.into_keys() {
            if let Key::SlruBlock(_, page) = key
                && slru::is_truncated(kind, page, cutoff)
            {
                self.put(key, Put::Tombstone);
            }
        }
        Ok(())
    }

    /// Makes the record's effects visible.
    fn file(&mut self, raw: &RawRecord<'_>, state: ClusterState) {
        let mut view = self.branch.view.write();
        let view = &mut *view;
        let (table, frozen) = (&mut view.active, &view.frozen);
        let mut record = None;
        for (key, what) in self.filed.puts.drain(..) {
            if let Key::Extension(rmgr) = key {
                table.extension.get_or_insert((raw.end, rmgr));
            }
            match what {
                Put::Record(how) => {
                    let at = *record
                        .get_or_insert_with(|| table.store(&[&raw.start.raw().to_le_bytes(), raw.bytes]));
                    let (kind, chain) = match how {
                        BlockChange::Rebuilds => (Kind::Rebuild, 0),
                        BlockChange::Modifies => {
                            let before = table.chain(&key).or_else(|| chain_in(frozen, &key));
                            (Kind::Modify, before.unwrap_or(0).saturating_add(1))
                        }
                    };
                    if chain >= CHAIN_MAX {
                        self.filed.long.push(key);
                    }
                    table.add(key, raw.end, (kind, chain), at);
                }
                Put::Meta(bytes) => {
                    let at = table.store(&[&bytes]);
                    table.add(key, raw.end, (Kind::Meta, 0), at);
                }
                Put::Zero => table.add(key, raw.end, (Kind::Zero, 0), ArenaRef::NONE),
                Put::Tombstone => table.add(key, raw.end, (Kind::Tombstone, 0), ArenaRef::NONE),
                Put::Unreadable(rmgr) => {
                    table.add(key, raw.end, (Kind::Unreadable, rmgr), ArenaRef::NONE);
                }
            }
        }
        self.filed.state = state;
        view.head = self.filed.state.lsn;
        if self.filed.state.lsn.bytes_since(self.filed.waypoint).is_some_and(|bytes| bytes >= WAYPOINT_EVERY)
        {
            self.filed.waypoint = self.filed.state.lsn;
            view.active.waypoints.push(self.filed.state.clone());
        }
    }

    fn store_long_pages(&mut self, end: Lsn) {
        for key in std::mem::take(&mut self.filed.long) {
            // A page that cannot be built keeps its records; who reads it is told why.
            if let Ok(page) = pages::read_page(self.redo, self.branch, key, end) {
                self.branch.view.write().active.add_image(key, end, &page);
            }
        }
    }
}

/// As `Memtable::chain`, of those that wait for the disk.
fn chain_in(frozen: &VecDeque<Arc<Memtable>>, key: &Key) -> Option<u8> {
    frozen.iter().rev().find_map(|table| table.chain(key))
}
