//! Versions in memory, newest part of a branch; written as one layer when full.
//!
//! Invariants
//! - Versions of a key are added in order of LSN; those of one LSN in the order they apply.
//! - A record's bytes are held once, however many keys it touches.
//! - Everything here is also in the branch's WAL: a memtable may be lost at any time.
//!
//! Pages of relations are in a hash table, all other keys in a sorted map, because only those are scanned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use types::{BLOCK_SIZE, ClusterState, Key, Lsn, Page};

use crate::error::{Result, StoreError};
use crate::limits::CHAIN_MAX;
use crate::memory::{Account, Charge};
use crate::table::layer::{LayerWriter, ValueRef};
use crate::table::value::{Kind, Lookup, Newest, Slice, Version};

/// What of a branch is older than a memtable being written.
pub(crate) trait Older {
    /// Records on a page since its last full version, up to `CHAIN_MAX`.
    fn chain(&self, key: &Key) -> Result<u8>;
    /// The page at that position; `None` if it cannot be made, for now or for good: its records stay.
    fn page(&self, key: &Key, lsn: Lsn) -> Option<Page>;
}

/// Chunks of a memtable grow with it, from the first to the last: what of them is not used stays less than what is.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What an entry and its share of the tables cost, roughly.
const ENTRY_COST: usize = 48;
const KEY_COST: usize = 96;
/// The first key that sorts after `RelBlock`.
const FIRST_AFTER_PAGES: Key = Key::ReplOrigin(0);

/// Where bytes lie in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ArenaRef {
    chunk: u32,
    offset: u32,
    len: u32,
}

impl ArenaRef {
    /// No bytes.
    pub(crate) const NONE: Self = Self { chunk: 0, offset: 0, len: 0 };
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    lsn: Lsn,
    kind: Kind,
    aux: u8,
    at: ArenaRef,
}

/// The entries at or below `cap`. A hot page may have a hundred thousand.
fn upto(entries: &[Entry], cap: Lsn) -> &[Entry] {
    let count = entries.partition_point(|entry| entry.lsn <= cap);
    entries.get(..count).unwrap_or(entries)
}

/// Versions in memory.
pub(crate) struct Memtable {
    pages: HashMap<Key, Vec<Entry>>,
    others: BTreeMap<Key, Vec<Entry>>,
    chunks: Vec<Vec<u8>>,
    bytes: usize,
    /// States at boundaries within this memtable; the last, once frozen, is its end.
    pub(crate) waypoints: Vec<ClusterState>,
    /// End and resource manager of the first record here that is of an extension's resource manager new to the branch.
    pub(crate) extension: Option<(Lsn, u8)>,
    charge: Charge,
}

impl Memtable {
    /// An empty one, whose memory counts as that of `account`.
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self {
            pages: HashMap::new(),
            others: BTreeMap::new(),
            chunks: Vec::new(),
            bytes: 0,
            waypoints: Vec::new(),
            extension: None,
            charge: Charge::new(account),
        }
    }

    /// An empty one, whose memory is the same project's.
    pub(crate) fn successor(&self) -> Self {
        Self::new(self.charge.account())
    }

    /// Counts what it holds by now, and `beside` that its writer remembers.
    pub(crate) fn count(&mut self, beside: usize) {
        self.charge.set(self.bytes + beside);
    }

    /// Memory held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if nothing was ever added.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.others.is_empty() && self.waypoints.is_empty()
    }

    /// Keeps bytes that entries can refer to.
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> ArenaRef {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let fits = self.chunks.last().is_some_and(|chunk| chunk.len() + len <= chunk.capacity());
        if !fits {
            let size = self.bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            self.chunks.push(Vec::with_capacity(len.max(size)));
        }
        self.bytes += len;
        let number = self.chunks.len() - 1;
        let chunk = self.chunks.last_mut().expect("a chunk was just added if there was none");
        let offset = chunk.len();
        parts.iter().for_each(|part| chunk.extend_from_slice(part));
        // A record is below 1 GiB and a memtable below 4 Gi chunks, so nothing is cut off.
        ArenaRef { chunk: number as u32, offset: offset as u32, len: len as u32 }
    }

    fn arena(&self, at: ArenaRef) -> &[u8] {
        let (from, len) = (at.offset as usize, at.len as usize);
        self.chunks.get(at.chunk as usize).and_then(|chunk| chunk.get(from..from + len)).unwrap_or(&[])
    }

    /// Files a version of `key`.
    pub(crate) fn add(&mut self, key: Key, lsn: Lsn, kind: (Kind, u8), at: ArenaRef) {
        let entries = match key {
            Key::RelBlock(..) => self.pages.entry(key).or_default(),
            _ => self.others.entry(key).or_default(),
        };
        self.bytes += ENTRY_COST + if entries.is_empty() { KEY_COST } else { 0 };
        debug_assert!(entries.last().is_none_or(|last| last.lsn <= lsn), "versions come in order");
        entries.push(Entry { lsn, kind: kind.0, aux: kind.1, at });
    }

    /// Files a page; kept compressed, because most of it is never read.
    pub(crate) fn add_image(&mut self, key: Key, lsn: Lsn, page: &[u8; BLOCK_SIZE]) {
        let packed = lz4_flex::block::compress(page);
        let at = self.store(&[&packed]);
        self.add(key, lsn, (Kind::Image, 0), at);
    }

    fn bytes_of(&self, entry: &Entry) -> Result<Slice> {
        if entry.kind != Kind::Image {
            return Ok(Slice::copy(self.arena(entry.at)));
        }
        let page = lz4_flex::block::decompress(self.arena(entry.at), BLOCK_SIZE)
            .map_err(|error| StoreError::corrupt("a page in memory", 0, error.to_string()))?;
        Ok(Slice::copy(&page))
    }

    fn version(&self, key: Key, entry: &Entry) -> Result<Version> {
        let bytes = self.bytes_of(entry)?;
        Ok(Version { key, lsn: entry.lsn, kind: entry.kind, aux: entry.aux, bytes })
    }

    /// Adds to each lookup what this memtable has for it.
    pub(crate) fn lookup(&self, lookups: &mut [Lookup]) -> Result<()> {
        for lookup in lookups.iter_mut().filter(|lookup| !lookup.done) {
            let entries = match lookup.key {
                Key::RelBlock(..) => self.pages.get(&lookup.key),
                _ => self.others.get(&lookup.key),
            };
            let Some(entries) = entries else { continue };
            for entry in upto(entries, lookup.cap).iter().rev() {
                if lookup.stops_at(entry.lsn) {
                    break;
                }
                lookup.push(self.version(lookup.key, entry)?);
                if lookup.done {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds the newest version at or below `cap` of every key in `from..=to` that `newest` does not have. Relation
    /// pages are not scanned.
    pub(crate) fn scan(&self, from: &Key, to: &Key, cap: Lsn, newest: &mut Newest) -> Result<()> {
        for (key, entries) in self.others.range(*from..=*to) {
            let Some(entry) = upto(entries, cap).last() else { continue };
            if let std::collections::btree_map::Entry::Vacant(slot) = newest.entry(*key) {
                slot.insert(match key {
                    Key::SlruBlock(..) => Version::without_bytes(*key, entry.lsn, entry.kind),
                    _ => self.version(*key, entry)?,
                });
            }
        }
        Ok(())
    }

    /// Records on a page since its last full version, this memtable's and those before it; `None` for what it has no
    /// version of.
    pub(crate) fn chain(&self, key: &Key) -> Option<u8> {
        let entries = match key {
            Key::RelBlock(..) => self.pages.get(key),
            _ => self.others.get(key),
        };
        let newest = entries?.last()?;
        Some(if newest.kind == Kind::Modify { newest.aux } else { 0 })
    }

    /// Writes every version to a layer, in order. A page of which that makes more records than `CHAIN_MAX` since its
    /// last full version, those in `older` layers counted, gets one.
    pub(crate) fn write(&self, layer: &mut LayerWriter, older: &dyn Older) -> Result<()> {
        let mut placed: HashMap<ArenaRef, ValueRef> = HashMap::new();
        let mut pages: Vec<&Key> = self.pages.keys().collect();
        pages.sort_unstable();
        let before = self.others.range(..FIRST_AFTER_PAGES);
        let after = self.others.range(FIRST_AFTER_PAGES..);
        let pages = pages.into_iter().filter_map(|key| self.pages.get_key_value(key));
        for (key, entries) in before.chain(pages).chain(after) {
            let mut chain = match entries.first() {
                Some(first) if first.kind == Kind::Modify => older.chain(key)?,
                _ => 0,
            };
            for entry in entries {
                chain = if entry.kind == Kind::Modify { chain.saturating_add(1) } else { 0 };
                let aux = if entry.kind == Kind::Modify { chain } else { entry.aux };
                let place = self.place(entry, &mut placed, layer)?;
                layer.add(key, entry.lsn, (entry.kind, aux), place)?;
            }
            if chain >= CHAIN_MAX
                && let Some(last) = entries.last()
                && let Some(page) = older.page(key, last.lsn)
            {
                let place = layer.put(&page[..])?;
                layer.add(key, last.lsn, (Kind::Image, 0), Some(place))?;
            }
        }
        Ok(())
    }

    fn place(
        &self,
        entry: &Entry,
        placed: &mut HashMap<ArenaRef, ValueRef>,
        layer: &mut LayerWriter,
    ) -> Result<Option<ValueRef>> {
        if entry.at.len == 0 {
            return Ok(None);
        }
        if !matches!(entry.kind, Kind::Modify | Kind::Rebuild) {
            return Ok(Some(layer.put(&self.bytes_of(entry)?)?));
        }
        if let Some(place) = placed.get(&entry.at) {
            return Ok(Some(*place));
        }
        let place = layer.put(self.arena(entry.at))?;
        placed.insert(entry.at, place);
        Ok(Some(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn a_memtable_counts_what_it_holds_and_not_what_it_could_hold() {
        let memory = Arc::new(Memory::default());
        let mut table = Memtable::new(&Arc::new(Account::new(memory.clone())));
        for number in 0..1000 {
            let at = table.store(&[&[0; 100]]);
            table.add(Key::TwoPhase(number), Lsn::MAX, (Kind::Meta, 0), at);
        }
        let held = 1000 * (100 + ENTRY_COST + KEY_COST);
        assert_eq!(table.bytes(), held);
        let chunks: usize = table.chunks.iter().map(Vec::capacity).sum();
        assert!(chunks < 2 * held, "{chunks} bytes for {held}");
        assert_eq!(memory.used(), 0);
        table.count(5);
        assert_eq!(memory.used(), held + 5);
        drop(table);
        assert_eq!(memory.used(), 0);
    }
}
