//! Writes a layer file in one pass, holding one data block and one index block.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{ClusterState, Key, KeyBytes, Lsn};

use super::format::{BLOCK_BYTES, ENTRY_BYTES, Entry, Footer, TOP_BYTES, VERSION, VERSION_FIRST, frame};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log::waypoint::{self, WAYPOINT_BYTES};
use crate::table::value::Kind;

/// Entries of one index block.
const INDEX_ENTRIES: usize = BLOCK_BYTES / ENTRY_BYTES;
/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// Where a value was put in the file being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueRef {
    block: usize,
    offset: u32,
    len: u32,
}

struct Pending {
    key: KeyBytes,
    lsn: Lsn,
    kind: Kind,
    aux: u8,
    place: Option<ValueRef>,
}

/// A layer file being written. Removed when dropped unfinished.
pub(crate) struct LayerWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The end of the file that is not written yet.
    buffer: Vec<u8>,
    /// Length of the file, `buffer` included.
    at: u64,
    data: Vec<u8>,
    blocks: Vec<(u64, u32)>,
    pending: Vec<Pending>,
    top: Vec<u8>,
    entries: u64,
    lsns: Option<(Lsn, Lsn)>,
    last: Option<(KeyBytes, Lsn)>,
    finished: bool,
    version: u32,
}

impl LayerWriter {
    /// As `create`, of an older format.
    #[cfg(test)]
    pub(super) fn create_version(version: u32, disk: Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let mut writer = Self::create(disk, path)?;
        writer.version = version;
        Ok(writer)
    }

    /// Begins a layer in the file `path`.
    pub(crate) fn create(disk: Arc<dyn Disk>, path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            disk.make_dirs(parent).map_err(StoreError::io(parent))?;
        }
        if let Err(error) = disk.create(path) {
            // It may be there all the same.
            disk.discard(path);
            return Err(StoreError::io(path)(error));
        }
        Ok(Self {
            disk,
            path: path.to_owned(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            at: 0,
            data: Vec::with_capacity(2 * BLOCK_BYTES),
            blocks: Vec::new(),
            pending: Vec::with_capacity(INDEX_ENTRIES),
            top: Vec::new(),
            entries: 0,
            lsns: None,
            last: None,
            finished: false,
            version: VERSION,
        })
    }

    /// Stores the bytes of a value. Entries of several keys may refer to one place.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<ValueRef> {
        if self.data.len() >= BLOCK_BYTES {
            self.close_data()?;
        }
        let narrow = |len: usize| {
            u32::try_from(len)
                .map_err(|_| StoreError::corrupt("a layer being written", self.at, "value over 4 GiB"))
        };
        let place = ValueRef {
            block: self.blocks.len(),
            offset: narrow(self.data.len())?,
            len: narrow(bytes.len())?,
        };
        self.data.extend(bytes);
        Ok(place)
    }

    /// Adds a version. Keys must come in order, versions of one key by LSN.
    ///
    /// # Errors
    /// `Corrupt` for one that does not: what the log gives after a restart is the same again, so a panic would never end.
    pub(crate) fn add(
        &mut self,
        key: &Key,
        lsn: Lsn,
        kind: (Kind, u8),
        place: Option<ValueRef>,
    ) -> Result<()> {
        let bytes = key.to_bytes();
        if self.last > Some((bytes, lsn)) {
            let reason = format!("{key:?} at {lsn} is not in the order of keys and LSNs");
            return Err(StoreError::corrupt("a layer being written", self.at, reason));
        }
        self.last = Some((bytes, lsn));
        let (first, last) = self.lsns.unwrap_or((lsn, lsn));
        self.lsns = Some((first.min(lsn), last.max(lsn)));
        self.entries += 1;
        self.pending.push(Pending { key: bytes, lsn, kind: kind.0, aux: kind.1, place });
        if self.pending.len() >= INDEX_ENTRIES {
            self.close_index()?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write_buffer()?;
        }
        self.buffer.extend(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<()> {
        let from = self.at - self.buffer.len() as u64;
        self.disk.write_at(&self.path, from, &self.buffer).map_err(StoreError::io(&self.path))?;
        self.buffer.clear();
        Ok(())
    }

    fn write_frame(&mut self, raw: &[u8]) -> Result<(u64, u32)> {
        let at = self.at;
        let bytes = frame(self.version, at, raw)?;
        self.append(&bytes)?;
        let len = u32::try_from(bytes.len())
            .map_err(|_| StoreError::corrupt("a layer being written", at, "block over 4 GiB"))?;
        Ok((at, len))
    }

    fn close_data(&mut self) -> Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.data);
        let place = self.write_frame(&data)?;
        self.blocks.push(place);
        self.data = data;
        self.data.clear();
        Ok(())
    }

    fn close_index(&mut self) -> Result<()> {
        self.close_data()?;
        let Some(first) = self.pending.first() else { return Ok(()) };
        let (key, lsn) = (first.key, first.lsn);
        let mut raw = Vec::with_capacity(self.pending.len() * ENTRY_BYTES);
        for pending in self.pending.drain(..) {
            // A value of no bytes may lie in a block that was never written; it has no place.
            let found = pending.place.and_then(|place| Some((place, *self.blocks.get(place.block)?)));
            let (block_at, block_len, offset, len) =
                found.map_or((0, 0, 0, 0), |(place, (at, len))| (at, len, place.offset, place.len));
            let Pending { key, lsn, kind, aux, .. } = pending;
            Entry { key, lsn, kind, aux, block_at, block_len, offset, len }.encode(&mut raw);
        }
        let (at, len) = self.write_frame(&raw)?;
        self.top.extend(key);
        self.top.extend(lsn.raw().to_le_bytes());
        self.top.extend(at.to_le_bytes());
        self.top.extend(len.to_le_bytes());
        debug_assert_eq!(self.top.len() % TOP_BYTES, 0, "rows are of one size");
        Ok(())
    }

    /// Writes what is left and makes the file durable. The file stays; gives its path.
    pub(crate) fn finish(mut self, waypoints: &[ClusterState]) -> Result<PathBuf> {
        self.close_index()?;
        let top_at = self.at;
        let top = std::mem::take(&mut self.top);
        self.write_frame(&top)?;
        let waypoints_at = self.at;
        let mut states = Vec::new();
        if self.version > VERSION_FIRST {
            states.extend([waypoint::VERSION, WAYPOINT_BYTES as u8]);
        }
        states.extend(waypoints.iter().flat_map(waypoint::encode));
        self.write_frame(&states)?;
        let footer = Footer {
            version: self.version,
            top_at,
            waypoints_at,
            entries: self.entries,
            lsn_first: self.lsns.map_or(0, |(first, _)| first.raw()),
            lsn_last: self.lsns.map_or(0, |(_, last)| last.raw()),
            key_last: self.last.map_or([0; Key::ENCODED_LEN], |(key, _)| key),
        };
        let bytes = footer.encode(self.at + Footer::BYTES as u64);
        self.append(&bytes)?;
        self.write_buffer()?;
        self.disk.sync(&self.path).map_err(StoreError::io(&self.path))?;
        self.finished = true;
        Ok(self.path.clone())
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.disk.discard(&self.path);
        }
    }
}
