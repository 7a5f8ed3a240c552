//! Records become versions in the memtable of a branch.
//!
//! Invariants
//! - Everything a record does becomes visible at once, at its end LSN; if any of it fails, nothing does.
//! - Relation sizes are exact, and no block that a fork gains shows what it held in an earlier life: blocks between
//!   the old end and a touched one get explicit zeros, and so does the touched one unless its record rebuilds it.
//! - After `CHAIN_MAX` records on a page in memory since its last full version the page itself is stored; what lies in
//!   layers is counted when a memtable is written (`memtable`).
//!
//! Not here: durability of the WAL (`append`), where it ends (`tip`), what a record changes (`wal::interpret`), layers
//! (`flush`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use types::{BlockNumber, ClusterState, Fork, Key, Lsn, RelFork, RelTag, SlruKind};
use wal::{BlockChange, Change, InterpretContext, RawRecord, Record, RmgrId};

use crate::branch::Branch;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::extension::Extensions;
use crate::ingest::slru;
use crate::limits::{CHAIN_MAX, GAP_MAX, LOOKED_UP_AT_ONCE, REMEMBERED_MAX, REPLAY_MAX, WAYPOINT_EVERY};
use crate::read::pages::{self, database_value, origin_in};
use crate::table::memtable::{ArenaRef, Memtable};
use crate::table::value::{Kind, Lookup};

/// What a remembered length costs, roughly.
const SIZE_COST: usize = 64;

/// What a record does to one key.
enum What {
    Record(BlockChange),
    Zero,
    Meta(Vec<u8>),
    Tombstone,
    Unreadable(u8),
}

/// Turns records into versions.
pub(crate) struct Filing {
    state: ClusterState,
    /// Lengths of forks at `state.lsn`; `None` if they do not exist.
    sizes: HashMap<RelFork, Option<u32>>,
    waypoint: Lsn,
    frozen: Lsn,
    /// What the record at hand does, in order.
    puts: Vec<(Key, What)>,
    /// Where in `puts` the length of a fork is: one a record, its last.
    resized: HashMap<RelFork, usize>,
    /// Pages whose chains became too long with it.
    long: Vec<Key>,
    /// What extensions' records left; loaded with the first record.
    extensions: Option<Extensions>,
}

impl Filing {
    /// Goes on at `state`.
    pub(crate) fn new(state: ClusterState) -> Self {
        let at = state.lsn;
        Self {
            state,
            sizes: HashMap::new(),
            waypoint: at,
            frozen: at,
            puts: Vec::new(),
            resized: HashMap::new(),
            long: Vec::new(),
            extensions: None,
        }
    }

    /// The state at the end of the last record filed.
    pub(crate) fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Counts what the open memtable and what is remembered hold by now.
    pub(crate) fn count(&self, branch: &Branch) {
        branch.view.write().active.count(self.sizes.len() * SIZE_COST);
    }

    /// Files one record whole.
    ///
    /// # Errors
    /// Then nothing of it is filed, and the same record can be filed later.
    pub(crate) fn record(&mut self, core: &Core, branch: &Branch, raw: &RawRecord<'_>) -> Result<()> {
        let outcome = self.file_record(core, branch, raw);
        if outcome.is_err() {
            // What is remembered may be of the record that was not filed.
            self.sizes.clear();
            self.extensions = None;
        }
        outcome
    }

    fn file_record(&mut self, core: &Core, branch: &Branch, raw: &RawRecord<'_>) -> Result<()> {
        let record = Record::decode(raw.start, raw.bytes)?;
        let cx = InterpretContext {
            format: core.wal.format(),
            track_commit_timestamp: self.state.limits.track_commit_timestamp,
        };
        let mut state = self.state.clone();
        wal::advance(&mut state, &cx.format, &record, raw)?;
        let mut changes = Vec::new();
        let interpreted = wal::interpret(&cx, &record, raw.end, &mut |change| changes.push(change));
        #[cfg(test)]
        let interpreted = crate::ingest::tip::tests::upgraded(interpreted);
        interpreted?;
        self.puts.clear();
        self.resized.clear();
        self.long.clear();
        self.extensions(branch)?;
        self.learn_sizes(branch, &changes)?;
        for change in changes {
            if record.rmgr != RmgrId::SMGR || self.has_block(branch, &change)? {
                self.change(branch, change)?;
            }
        }
        self.file(branch, raw, state);
        self.store_long_pages(core, branch, raw.end);
        let view = branch.view.read();
        let full = view.active.bytes() >= core.options.memtable_bytes;
        drop(view);
        if full || raw.end.bytes_since(self.frozen).is_some_and(|bytes| bytes >= REPLAY_MAX) {
            self.freeze(branch);
        }
        Ok(())
    }

    /// False for a block that its fork does not have: a cut clears the tail of the map's last page if there is one,
    /// and makes none.
    fn has_block(&mut self, branch: &Branch, change: &Change<'_>) -> Result<bool> {
        let Change::Block { rel, block, .. } = change else { return Ok(true) };
        Ok(self.size(branch, *rel)?.is_some_and(|blocks| block.get() < blocks))
    }

    fn put(&mut self, key: Key, what: What) {
        self.puts.push((key, what));
    }

    fn change(&mut self, branch: &Branch, change: Change<'_>) -> Result<()> {
        match change {
            Change::Block { rel, block, how } => self.block(branch, rel, block, What::Record(how))?,
            Change::Extension { rmgr } => {
                if self.extensions(branch)?.is_first_of(rmgr) {
                    self.put(Key::Extension(rmgr), What::Meta(Vec::new()));
                }
            }
            Change::Unreadable { rel, block, rmgr } => {
                if self.extensions(branch)?.is_first_in(rel, rmgr) {
                    self.put(Key::Unreadable(rel), What::Meta(vec![rmgr]));
                }
                self.block(branch, rel, block, What::Unreadable(rmgr))?;
            }
            Change::ForkCreated(rel) => {
                if self.size(branch, rel)?.is_none() {
                    self.resize(rel, Some(0));
                }
            }
            Change::ForkTruncated { rel, blocks } => {
                if self.size(branch, rel)?.is_some_and(|size| size > blocks) {
                    self.resize(rel, Some(blocks));
                }
            }
            Change::RelDropped(rel) => {
                for fork in Fork::ALL {
                    let rel = RelFork { rel, fork };
                    if self.size(branch, rel)?.is_some() {
                        self.resize(rel, None);
                    }
                }
            }
            Change::DatabaseCreated { tablespace, database, copy_of } => {
                self.database_created(branch, (tablespace, database), copy_of)?;
            }
            Change::DatabaseDropped { tablespace, database } => {
                for (rel, _) in self.relations_of(branch, (tablespace, database))? {
                    self.resize(rel, None);
                }
                self.put(Key::RelMap { tablespace, database }, What::Tombstone);
                self.put(Key::Database { tablespace, database }, What::Tombstone);
            }
            Change::TablespaceCreated(oid) => self.put(Key::Tablespace(oid), What::Meta(Vec::new())),
            Change::TablespaceDropped(oid) => self.put(Key::Tablespace(oid), What::Tombstone),
            Change::RelMap { tablespace, database, bytes } => {
                self.put(Key::RelMap { tablespace, database }, What::Meta(bytes.to_vec()));
            }
            Change::Slru { kind, page, how } => self.put(Key::SlruBlock(kind, page), What::Record(how)),
            Change::SlruTruncated { kind, cutoff } => self.slru_truncated(branch, kind, cutoff)?,
            Change::Prepared { xid, bytes } => self.put(Key::TwoPhase(xid), What::Meta(bytes.to_vec())),
            Change::PreparedDone { xid } => self.put(Key::TwoPhase(xid), What::Tombstone),
            Change::OriginAdvanced { origin, upto, backward } => {
                self.origin_advanced(branch, origin, upto, backward)?;
            }
            Change::OriginDropped { origin } => self.put(Key::ReplOrigin(origin), What::Tombstone),
        }
        Ok(())
    }

    /// The length of a fork after what was put so far.
    fn size(&mut self, branch: &Branch, rel: RelFork) -> Result<Option<u32>> {
        if let Some(size) = self.sizes.get(&rel) {
            return Ok(*size);
        }
        let size = pages::size(branch, rel, Lsn::MAX)?;
        if self.sizes.len() >= REMEMBERED_MAX && self.puts.is_empty() {
            self.sizes.clear();
        }
        self.sizes.insert(rel, size);
        Ok(size)
    }

    /// Looks up the lengths of all relations that a record drops, many at once.
    fn learn_sizes(&mut self, branch: &Branch, changes: &[Change<'_>]) -> Result<()> {
        let dropped = |change: &Change<'_>| match change {
            Change::RelDropped(rel) => Some(*rel),
            _ => None,
        };
        let dropped: Vec<RelTag> = changes.iter().filter_map(dropped).collect();
        for rels in dropped.chunks(LOOKED_UP_AT_ONCE) {
            let forks = rels.iter().flat_map(|&rel| Fork::ALL.map(|fork| RelFork { rel, fork }));
            let mut lookups: Vec<Lookup> = forks
                .filter(|rel| !self.sizes.contains_key(rel))
                .map(|rel| Lookup::new(Key::RelSize(rel), Lsn::MAX))
                .collect();
            lookups.sort_unstable_by_key(|lookup| lookup.key);
            branch.lookup(&mut lookups)?;
            for lookup in lookups {
                let Key::RelSize(rel) = lookup.key else { continue };
                let found = lookup.found.first().filter(|version| version.kind != Kind::Tombstone);
                self.sizes.insert(rel, found.map(pages::size_in).transpose()?);
            }
        }
        Ok(())
    }

    /// What is remembered of extensions' records.
    fn extensions(&mut self, branch: &Branch) -> Result<&mut Extensions> {
        let known = match self.extensions.take() {
            Some(known) => known,
            None => Extensions::load(branch)?,
        };
        Ok(self.extensions.insert(known))
    }

    fn resize(&mut self, rel: RelFork, blocks: Option<u32>) {
        self.sizes.insert(rel, blocks);
        let is_gone = blocks.is_none_or(|blocks| blocks == 0);
        if is_gone && self.extensions.as_mut().is_some_and(|known| known.forget(rel)) {
            self.put(Key::Unreadable(rel), What::Tombstone);
        }
        let what = blocks.map_or(What::Tombstone, |blocks| What::Meta(blocks.to_le_bytes().to_vec()));
        let put = self.resized.get(&rel).and_then(|&index| self.puts.get_mut(index));
        if let Some((_, earlier)) = put {
            *earlier = what;
            return;
        }
        self.resized.insert(rel, self.puts.len());
        self.put(Key::RelSize(rel), what);
    }

    fn block(&mut self, branch: &Branch, rel: RelFork, block: BlockNumber, what: What) -> Result<()> {
        let size = self.size(branch, rel)?;
        let had = size.unwrap_or(0);
        let key = Key::RelBlock(rel, block);
        if block.get() >= had {
            if block.get() - had > GAP_MAX {
                let reason = format!("a record touches block {block} of {rel}, which has {had} blocks");
                return Err(StoreError::corrupt("WAL", self.state.lsn.raw(), reason));
            }
            for gap in had..block.get() {
                self.put(Key::RelBlock(rel, BlockNumber::new(gap)), What::Zero);
            }
            if !matches!(what, What::Record(BlockChange::Rebuilds)) {
                self.put(key, What::Zero);
            }
            self.resize(rel, Some(block.get().saturating_add(1)));
        }
        self.put(key, what);
        Ok(())
    }

    fn relations_of(
        &self,
        branch: &Branch,
        (tablespace, database): (u32, u32),
    ) -> Result<Vec<(RelFork, u32)>> {
        let bound =
            |relation, fork| Key::RelSize(RelFork { rel: RelTag { tablespace, database, relation }, fork });
        let found = branch.scan(bound(0, Fork::Main), bound(u32::MAX, Fork::Init), Lsn::MAX)?;
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
        branch: &Branch,
        (tablespace, database): (u32, u32),
        copy_of: Option<(u32, u32)>,
    ) -> Result<()> {
        let value = database_value(copy_of);
        self.put(Key::Database { tablespace, database }, What::Meta(value));
        let Some(source) = copy_of else { return Ok(()) };
        for (mut rel, blocks) in self.relations_of(branch, source)? {
            (rel.rel.tablespace, rel.rel.database) = (tablespace, database);
            self.resize(rel, Some(blocks));
        }
        for (mut rel, rmgr) in self.extensions(branch)?.of_database(source) {
            (rel.rel.tablespace, rel.rel.database) = (tablespace, database);
            if self.extensions(branch)?.is_first_in(rel, rmgr) {
                self.put(Key::Unreadable(rel), What::Meta(vec![rmgr]));
            }
        }
        let map = branch.newest(Key::RelMap { tablespace: source.0, database: source.1 }, Lsn::MAX)?;
        if let Some(map) = map {
            self.put(Key::RelMap { tablespace, database }, What::Meta(map.bytes.to_vec()));
        }
        Ok(())
    }

    fn origin_advanced(&mut self, branch: &Branch, origin: u16, upto: u64, backward: bool) -> Result<()> {
        let key = Key::ReplOrigin(origin);
        let known = branch.newest(key, Lsn::MAX)?.map(|version| origin_in(&version)).transpose()?;
        if backward || known.is_none_or(|known| known < upto) {
            self.put(key, What::Meta(upto.to_le_bytes().to_vec()));
        }
        Ok(())
    }

    fn slru_truncated(&mut self, branch: &Branch, kind: SlruKind, cutoff: u32) -> Result<()> {
        let pages = branch.scan(Key::SlruBlock(kind, 0), Key::SlruBlock(kind, u32::MAX), Lsn::MAX)?;
        for key in pages.into_keys() {
            if let Key::SlruBlock(_, page) = key
                && slru::is_truncated(kind, page, cutoff)
            {
                self.put(key, What::Tombstone);
            }
        }
        Ok(())
    }

    /// Makes the record's effects visible.
    fn file(&mut self, branch: &Branch, raw: &RawRecord<'_>, state: ClusterState) {
        let mut view = branch.view.write();
        let view = &mut *view;
        let (table, frozen) = (&mut view.active, &view.frozen);
        let mut record = None;
        for (key, what) in self.puts.drain(..) {
            if let Key::Extension(rmgr) = key {
                table.extension.get_or_insert((raw.end, rmgr));
            }
            match what {
                What::Record(how) => {
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
                        self.long.push(key);
                    }
                    table.add(key, raw.end, (kind, chain), at);
                }
                What::Meta(bytes) => {
                    let at = table.store(&[&bytes]);
                    table.add(key, raw.end, (Kind::Meta, 0), at);
                }
                What::Zero => table.add(key, raw.end, (Kind::Zero, 0), ArenaRef::NONE),
                What::Tombstone => table.add(key, raw.end, (Kind::Tombstone, 0), ArenaRef::NONE),
                What::Unreadable(rmgr) => {
                    table.add(key, raw.end, (Kind::Unreadable, rmgr), ArenaRef::NONE);
                }
            }
        }
        self.state = state;
        view.head = self.state.lsn;
        if self.state.lsn.bytes_since(self.waypoint).is_some_and(|bytes| bytes >= WAYPOINT_EVERY) {
            self.waypoint = self.state.lsn;
            view.active.waypoints.push(self.state.clone());
        }
    }

    fn store_long_pages(&mut self, core: &Core, branch: &Branch, end: Lsn) {
        for key in std::mem::take(&mut self.long) {
            // A page that cannot be built keeps its records; who reads it is told why.
            if let Ok(page) = pages::read_page(core.redo, branch, key, end) {
                branch.view.write().active.add_image(key, end, &page);
            }
        }
    }

    /// Freezes the open memtable, so that it is written as a layer.
    pub(crate) fn freeze(&mut self, branch: &Branch) {
        self.sizes = HashMap::new();
        let mut view = branch.view.write();
        view.active.count(0);
        if view.active.is_empty() && self.state.lsn == self.frozen {
            return;
        }
        if view.active.waypoints.last().is_none_or(|last| last.lsn < self.state.lsn) {
            view.active.waypoints.push(self.state.clone());
        }
        self.waypoint = self.state.lsn;
        self.frozen = self.state.lsn;
        let table = std::mem::replace(&mut view.active, Memtable::new(branch.account()));
        view.frozen.push_back(Arc::new(table));
    }
}

/// As `Memtable::chain`, of those that wait for the disk.
fn chain_in(frozen: &VecDeque<Arc<Memtable>>, key: &Key) -> Option<u8> {
    frozen.iter().rev().find_map(|table| table.chain(key))
}
