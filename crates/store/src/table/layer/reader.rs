//! Answers lookups and scans from one layer file through a bounded cache of decompressed blocks.

use std::sync::{Arc, OnceLock};

use types::{ClusterState, Key, KeyBytes, Lsn};

use super::format::{ENTRY_BYTES, Entry, Footer, TOP_BYTES, VERSION_FIRST, unframe, wide, word};
use super::object_name;
use crate::error::{Result, StoreError};
use crate::limits::CHAIN_MAX;
use crate::log::waypoint::{self, WAYPOINT_BYTES};
use crate::memory::BlockCache;
use crate::object::ObjectStore;
use crate::table::value::{Lookup, Newest, Slice, Version};

struct TopRow {
    key: KeyBytes,
    lsn: Lsn,
    at: u64,
    len: u32,
}

/// An open layer: its footer and top index in memory.
pub(crate) struct Layer {
    id: u64,
    name: String,
    objects: Arc<dyn ObjectStore>,
    cache: Arc<BlockCache>,
    footer: Footer,
    top: Vec<TopRow>,
    waypoints_len: u32,
    last_waypoint: OnceLock<ClusterState>,
}

/// The states stored with a layer, encoded, oldest first.
struct Waypoints {
    bytes: Arc<Vec<u8>>,
    from: usize,
}

impl Waypoints {
    fn records(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or(&[])
    }

    fn count(&self) -> usize {
        self.records().len() / WAYPOINT_BYTES
    }

    fn get(&self, number: usize) -> Option<ClusterState> {
        let from = number.checked_mul(WAYPOINT_BYTES)?;
        waypoint::decode(self.records().get(from..from.checked_add(WAYPOINT_BYTES)?)?)
    }
}

/// Index entries of one block, decompressed.
struct Rows(Arc<Vec<u8>>);

impl Rows {
    fn count(&self) -> usize {
        self.0.len() / ENTRY_BYTES
    }

    fn get(&self, row: usize) -> Option<Entry> {
        let from = row.checked_mul(ENTRY_BYTES)?;
        Entry::decode(self.0.get(from..from.checked_add(ENTRY_BYTES)?)?)
    }

    /// Number of entries for which `before` holds; they come first.
    fn partition(&self, before: impl Fn(&Entry) -> bool) -> Option<usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = (low + high) / 2;
            if before(&self.get(middle)?) { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }
}

impl Layer {
    /// Opens layer `id`: reads its footer and top index.
    pub(crate) fn open(id: u64, objects: Arc<dyn ObjectStore>, cache: Arc<BlockCache>) -> Result<Self> {
        let name = object_name(id);
        let len =
            objects.len(&name)?.ok_or_else(|| StoreError::corrupt(&*name, 0, "the layer is missing"))?;
        let footer_at = len
            .checked_sub(Footer::BYTES as u64)
            .ok_or_else(|| StoreError::corrupt(&*name, 0, "shorter than a footer"))?;
        let footer = Footer::decode(&name, len, &objects.get_range(&name, footer_at, Footer::BYTES)?)?;
        let waypoints_len = footer_at.saturating_sub(footer.waypoints_at);
        let waypoints_len = u32::try_from(waypoints_len)
            .map_err(|_| StoreError::corrupt(&*name, footer.waypoints_at, "too many waypoints"))?;
        let (top, last_waypoint) = (Vec::new(), OnceLock::new());
        let mut layer = Self { id, name, objects, cache, footer, top, waypoints_len, last_waypoint };
        let raw = layer.section(footer.top_at, footer.waypoints_at)?;
        if raw.len() % TOP_BYTES != 0 {
            return Err(layer.corrupt(footer.top_at, "top index of a wrong length"));
        }
        let row = |row: &[u8]| {
            Some(TopRow {
                key: *row.first_chunk()?,
                lsn: Lsn::from_raw(wide(row, 18)?)?,
                at: wide(row, 26)?,
                len: word(row, 34)?,
            })
        };
        layer.top = raw
            .chunks_exact(TOP_BYTES)
            .map(row)
            .collect::<Option<_>>()
            .ok_or_else(|| layer.corrupt(footer.top_at, "bad top index"))?;
        Ok(layer)
    }

    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn corrupt(&self, at: u64, reason: &str) -> StoreError {
        StoreError::corrupt(&*self.name, at, reason)
    }

    fn section(&self, from: u64, to: u64) -> Result<Vec<u8>> {
        let len = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        unframe(self.footer.version, &self.name, from, &self.objects.get_range(&self.name, from, len)?)
    }

    fn states(&self) -> Result<Waypoints> {
        let at = self.footer.waypoints_at;
        let bytes = self.block(at, self.waypoints_len)?;
        let from = match bytes.split_first_chunk::<2>() {
            _ if self.footer.version == VERSION_FIRST => 0,
            Some(([waypoint::VERSION, len], _)) if usize::from(*len) == WAYPOINT_BYTES => 2,
            Some(([version, _], _)) => {
                let reads = format!("this program reads {}", waypoint::VERSION);
                return Err(self.corrupt(at, &format!("waypoints of version {version}, {reads}")));
            }
            None => return Err(self.corrupt(at, "no version of waypoints")),
        };
        let states = Waypoints { bytes, from };
        if !states.records().len().is_multiple_of(WAYPOINT_BYTES) {
            return Err(self.corrupt(at, "waypoints of a wrong length"));
        }
        Ok(states)
    }

    fn bad_waypoint(&self) -> StoreError {
        self.corrupt(self.footer.waypoints_at, "bad waypoint")
    }

    /// The last of the states stored with the layer: the one at its end.
    pub(crate) fn last_waypoint(&self) -> Result<&ClusterState> {
        if let Some(last) = self.last_waypoint.get() {
            return Ok(last);
        }
        let states = self.states()?;
        let last = states.count().checked_sub(1).and_then(|last| states.get(last));
        let last = last.ok_or_else(|| self.bad_waypoint())?;
        Ok(self.last_waypoint.get_or_init(|| last))
    }

    /// As `last_waypoint` will say without reading it.
    pub(crate) fn learn_last_waypoint(&self, last: &ClusterState) {
        self.last_waypoint.get_or_init(|| last.clone());
    }

    /// The newest of the states stored with the layer that `accept` says yes to; those it does come first.
    pub(crate) fn waypoint_before(
        &self,
        accept: &dyn Fn(&ClusterState) -> bool,
    ) -> Result<Option<ClusterState>> {
        let states = self.states()?;
        let (mut low, mut high, mut found) = (0, states.count(), None);
        while low < high {
            let middle = (low + high) / 2;
            let state = states.get(middle).ok_or_else(|| self.bad_waypoint())?;
            if accept(&state) {
                (low, found) = (middle + 1, Some(state));
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// The states stored with the layer, oldest first.
    #[cfg(test)]
    pub(crate) fn waypoints(&self) -> Result<Vec<ClusterState>> {
        let states = self.states()?;
        (0..states.count()).map(|number| states.get(number).ok_or_else(|| self.bad_waypoint())).collect()
    }

    fn block(&self, at: u64, len: u32) -> Result<Arc<Vec<u8>>> {
        if let Some(block) = self.cache.get(self.id, at) {
            return Ok(block);
        }
        let bytes = self.objects.get_range(&self.name, at, len as usize)?;
        let block = Arc::new(unframe(self.footer.version, &self.name, at, &bytes)?);
        self.cache.insert(self.id, at, block.clone());
        Ok(block)
    }

    fn rows(&self, index: usize) -> Result<Option<Rows>> {
        let Some(row) = self.top.get(index) else { return Ok(None) };
        let block = self.block(row.at, row.len)?;
        if block.len() % ENTRY_BYTES != 0 {
            return Err(self.corrupt(row.at, "index block of a wrong length"));
        }
        Ok(Some(Rows(block)))
    }

    fn version(&self, key: Key, entry: &Entry) -> Result<Version> {
        let bytes = if entry.len == 0 {
            Slice::copy(&[])
        } else {
            let block = self.block(entry.block_at, entry.block_len)?;
            Slice::new(block, entry.offset as usize, entry.len as usize)
                .ok_or_else(|| self.corrupt(entry.block_at, "a value reaches beyond its block"))?
        };
        Ok(Version { key, lsn: entry.lsn, kind: entry.kind, aux: entry.aux, bytes })
    }

    /// Adds to each lookup, which are sorted by key, what this layer has for it.
    pub(crate) fn lookup(&self, lookups: &mut [Lookup]) -> Result<()> {
        for lookup in lookups.iter_mut().filter(|lookup| !lookup.done) {
            let key = lookup.key.to_bytes();
            let below = lookup.cap.raw() < self.footer.lsn_first;
            if below || self.footer.entries == 0 || key > self.footer.key_last {
                continue;
            }
            self.lookup_one(&key, lookup)?;
        }
        Ok(())
    }

    /// Walks backwards from the last entry at or below (key, cap).
    fn lookup_one(&self, key: &KeyBytes, lookup: &mut Lookup) -> Result<()> {
        let wanted = (*key, lookup.cap);
        let mut index = self.top.partition_point(|row| (row.key, row.lsn) <= wanted);
        let mut first = true;
        while let Some(previous) = index.checked_sub(1) {
            index = previous;
            let Some(rows) = self.rows(index)? else { return Ok(()) };
            let bad = || self.corrupt(0, "bad index entry");
            let mut row = if first {
                rows.partition(|entry| (entry.key, entry.lsn) <= wanted).ok_or_else(bad)?
            } else {
                rows.count()
            };
            first = false;
            while let Some(previous) = row.checked_sub(1) {
                row = previous;
                let entry = rows.get(row).ok_or_else(bad)?;
                if entry.key != *key || lookup.stops_at(entry.lsn) {
                    return Ok(());
                }
                lookup.push(self.version(lookup.key, &entry)?);
                if lookup.done {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Adds to `count` the records on a page at or below `cap` since its last full version; true if that version, or
    /// `CHAIN_MAX`, is reached. The newest of them says how many there are, but in layers of format 1.
    pub(crate) fn count_chain(&self, key: &Key, cap: Lsn, count: &mut u8) -> Result<bool> {
        let key = key.to_bytes();
        if cap.raw() < self.footer.lsn_first || self.footer.entries == 0 || key > self.footer.key_last {
            return Ok(false);
        }
        let wanted = (key, cap);
        let bad = || self.corrupt(0, "bad index entry");
        let mut index = self.top.partition_point(|row| (row.key, row.lsn) <= wanted);
        while let Some(previous) = index.checked_sub(1) {
            index = previous;
            let Some(rows) = self.rows(index)? else { return Ok(false) };
            let mut row = rows.partition(|entry| (entry.key, entry.lsn) <= wanted).ok_or_else(bad)?;
            while let Some(previous) = row.checked_sub(1) {
                row = previous;
                let entry = rows.get(row).ok_or_else(bad)?;
                if entry.key != key {
                    return Ok(false);
                }
                if entry.kind.is_full() {
                    return Ok(true);
                }
                *count = count.saturating_add(entry.aux.max(1)).min(CHAIN_MAX);
                if entry.aux != 0 || *count == CHAIN_MAX {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Adds the newest version at or below `cap` of every key in `from..=to` that `newest` does not have.
    pub(crate) fn scan(&self, from: &Key, to: &Key, cap: Lsn, newest: &mut Newest) -> Result<()> {
        let (low, high) = (from.to_bytes(), to.to_bytes());
        if self.footer.entries == 0 || low > self.footer.key_last || cap.raw() < self.footer.lsn_first {
            return Ok(());
        }
        let mut index = self.top.partition_point(|row| row.key < low).saturating_sub(1);
        let mut latest: Option<Entry> = None;
        'blocks: while let Some(rows) = self.rows(index)? {
            for row in 0..rows.count() {
                let entry = rows.get(row).ok_or_else(|| self.corrupt(0, "bad index entry"))?;
                if entry.key > high {
                    break 'blocks;
                }
                if entry.key < low || entry.lsn > cap {
                    continue;
                }
                if let Some(entry) = latest.filter(|latest| latest.key != entry.key) {
                    self.offer(&entry, newest)?;
                }
                latest = Some(entry);
            }
            index += 1;
        }
        latest.map_or(Ok(()), |entry| self.offer(&entry, newest))
    }

    fn offer(&self, entry: &Entry, newest: &mut Newest) -> Result<()> {
        let key = Key::from_bytes(&entry.key).ok_or_else(|| self.corrupt(0, "bad key"))?;
        if let std::collections::btree_map::Entry::Vacant(slot) = newest.entry(key) {
            slot.insert(match key {
                Key::SlruBlock(..) => Version::without_bytes(key, entry.lsn, entry.kind),
                _ => self.version(key, entry)?,
            });
        }
        Ok(())
    }
}
