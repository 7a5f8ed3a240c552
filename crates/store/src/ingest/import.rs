//! A cleanly shut down data directory becomes the first layer of a project's root branch.
//!
//! Files are read once and streamed: relations, SLRUs, relation maps, two-phase files, `pg_control`, and the WAL that
//! holds the shutdown checkpoint. Not taken: free space maps, temporary relations, the content of unlogged relations
//! (their init forks are), configuration files, statistics.
//!
//! Not here: what the files become (`read::pages`, `read::cluster`), running servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use types::path::{SEGMENT_BLOCKS, TABLESPACES, parse_relation_file, version_directory};
use types::{
    BLOCK_SIZE, BlockNumber, DEFAULT_TABLESPACE, Fork, GLOBAL_TABLESPACE, Key, Lsn, RelFork, RelTag,
    SLRU_PAGES_PER_SEGMENT, SlruKind,
};
use wal::ControlFile;
use wal::segment::segment_name;

use crate::error::{Result, StoreError};
use crate::read::pages::database_value;
use crate::table::layer::LayerWriter;
use crate::table::value::Kind;

/// Segment files of a relation, so that the number of every block fits.
const SEGMENTS_MAX: u32 = u32::MAX / SEGMENT_BLOCKS;
/// Blocks read from a relation at once.
const READ_BLOCKS: usize = 64;

/// A data directory that can be imported.
pub(crate) struct Source {
    dir: PathBuf,
    pub(crate) control: ControlFile,
    pub(crate) control_bytes: Vec<u8>,
}

/// What the directory holds besides pages, and where the pages are.
#[derive(Default)]
struct Inventory {
    values: BTreeMap<Key, Vec<u8>>,
    /// Segment files by fork and segment number.
    relations: BTreeMap<RelFork, BTreeMap<u32, PathBuf>>,
    slrus: BTreeMap<(SlruKind, u32), PathBuf>,
}

fn refuse(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Import { path: path.to_owned(), reason: reason.into() }
}

impl Source {
    /// Checks that the cluster in `dir` can be imported.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("global/pg_control");
        let control_bytes = fs::read(&path).map_err(StoreError::io(&path))?;
        let control = ControlFile::parse(&control_bytes).map_err(|error| refuse(&path, error.to_string()))?;
        control.cluster_state().map_err(|error| refuse(&path, error.to_string()))?;
        if dir.join("postmaster.pid").exists() {
            return Err(refuse(dir, "postmaster.pid exists; stop the server first"));
        }
        if control.limits.wal_level == 0 {
            return Err(refuse(dir, "wal_level is minimal; set it to replica, restart and stop the server"));
        }
        Ok(Self { dir: dir.to_owned(), control, control_bytes })
    }

    /// The WAL from the start of the segment that holds the shutdown checkpoint up to `end`.
    pub(crate) fn wal(&self, end: Lsn) -> Result<(Lsn, Vec<u8>)> {
        let segment_bytes = self.control.segment_bytes;
        let begin = self.control.checkpoint_start;
        let begin = begin.raw() - begin.offset_in_segment(segment_bytes);
        let begin =
            Lsn::from_raw(begin).ok_or_else(|| refuse(&self.dir, "the checkpoint is in segment 0"))?;
        let len = usize::try_from(end.bytes_since(begin).unwrap_or(0)).unwrap_or(0);
        let mut bytes = Vec::with_capacity(len);
        let mut at = begin;
        while at < end {
            let timeline = self.control.checkpoint.timeline;
            let name = segment_name(timeline, at.segment(segment_bytes), segment_bytes);
            let path = self.dir.join("pg_wal").join(name);
            bytes.extend(fs::read(&path).map_err(StoreError::io(&path))?);
            at = at.advanced(segment_bytes);
        }
        if bytes.len() < len {
            return Err(refuse(&self.dir, "the WAL segment of the checkpoint is too short"));
        }
        bytes.truncate(len);
        Ok((begin, bytes))
    }

    /// Writes everything the cluster holds to `layer`, as of `lsn`.
    pub(crate) fn write(&self, layer: &mut LayerWriter, lsn: Lsn) -> Result<()> {
        let inventory = self.take_inventory()?;
        for (key, value) in &inventory.values {
            let place = layer.put(value)?;
            layer.add(key, lsn, (Kind::Meta, 0), Some(place))?;
        }
        for (&(kind, segment), path) in &inventory.slrus {
            let first = segment * SLRU_PAGES_PER_SEGMENT;
            write_blocks(path, layer, lsn, &|block| Key::SlruBlock(kind, first + block))?;
        }
        for (&rel, segments) in &inventory.relations {
            for (&segment, path) in segments {
                let first = segment * SEGMENT_BLOCKS;
                let key = |block| Key::RelBlock(rel, BlockNumber::new(first + block));
                write_blocks(path, layer, lsn, &key)?;
            }
        }
        Ok(())
    }

    fn take_inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        let global = (GLOBAL_TABLESPACE, 0);
        inventory.database(&self.dir.join("global"), global)?;
        inventory.databases(&self.dir.join("base"), DEFAULT_TABLESPACE)?;
        let version = version_directory(self.control.major, self.control.catalog_version);
        for (name, path) in entries(&self.dir.join(TABLESPACES))? {
            if let Ok(oid) = name.parse() {
                inventory.values.insert(Key::Tablespace(oid), Vec::new());
                inventory.databases(&path.join(&version), oid)?;
            }
        }
        for (name, path) in entries(&self.dir.join("pg_twophase"))? {
            // From 17 on the name has the epoch too; a prepared transaction is known by its xid.
            if let Ok(xid) = u64::from_str_radix(&name, 16) {
                let xid = xid & u64::from(u32::MAX);
                let mut bytes = fs::read(&path).map_err(StoreError::io(&path))?;
                let body = bytes.len().checked_sub(4).ok_or_else(|| refuse(&path, "too short"))?;
                bytes.truncate(body);
                inventory.values.insert(Key::TwoPhase(xid), bytes);
            }
        }
        for kind in SlruKind::ALL {
            for (name, path) in entries(&self.dir.join(kind.directory()))? {
                let number = u32::from_str_radix(&name, 16).ok();
                let fits = |&number: &u32| number <= u32::MAX / SLRU_PAGES_PER_SEGMENT;
                if let Some(number) = number.filter(fits) {
                    inventory.slrus.insert((kind, number), path);
                }
            }
        }
        inventory.finish()?;
        Ok(inventory)
    }
}

impl Inventory {
    fn databases(&mut self, dir: &Path, tablespace: u32) -> Result<()> {
        for (name, path) in entries(dir)? {
            if let Ok(database) = name.parse() {
                self.values.insert(Key::Database { tablespace, database }, database_value(None));
                self.database(&path, (tablespace, database))?;
            }
        }
        Ok(())
    }

    fn database(&mut self, dir: &Path, (tablespace, database): (u32, u32)) -> Result<()> {
        for (name, path) in entries(dir)? {
            if name == "pg_filenode.map" {
                let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
                self.values.insert(Key::RelMap { tablespace, database }, bytes);
            } else if let Some((relation, fork, segment)) = parse_relation_file(&name)
                && segment < SEGMENTS_MAX
            {
                let rel = RelFork { rel: RelTag { tablespace, database, relation }, fork };
                self.relations.entry(rel).or_default().insert(segment, path);
            }
        }
        Ok(())
    }

    /// Drops what is not kept and adds the sizes of the rest.
    fn finish(&mut self) -> Result<()> {
        let unlogged: BTreeSet<RelTag> =
            self.relations.keys().filter(|rel| rel.fork == Fork::Init).map(|rel| rel.rel).collect();
        self.relations.retain(|rel, _| match rel.fork {
            Fork::FreeSpace => false,
            Fork::Init => true,
            Fork::Main | Fork::Visibility => !unlogged.contains(&rel.rel),
        });
        for (rel, segments) in &self.relations {
            let mut blocks = 0;
            for (index, (&segment, path)) in segments.iter().enumerate() {
                let bytes = fs::metadata(path).map_err(StoreError::io(path))?.len();
                if bytes % BLOCK_SIZE as u64 != 0 {
                    return Err(refuse(path, "is not a whole number of blocks long"));
                }
                if segment as usize != index || blocks != segment * SEGMENT_BLOCKS {
                    return Err(refuse(path, "the segment before it is missing or too short"));
                }
                let own = u32::try_from(bytes / BLOCK_SIZE as u64).unwrap_or(u32::MAX);
                if own > SEGMENT_BLOCKS {
                    return Err(refuse(path, "is longer than a segment"));
                }
                blocks += own;
            }
            self.values.insert(Key::RelSize(*rel), blocks.to_le_bytes().to_vec());
        }
        Ok(())
    }
}

/// Names and paths in a directory, sorted; none if it does not exist.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let found = match fs::read_dir(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(dir)(error)),
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry.map_err(StoreError::io(dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

fn write_blocks(path: &Path, layer: &mut LayerWriter, lsn: Lsn, key: &dyn Fn(u32) -> Key) -> Result<()> {
    let mut file = File::open(path).map_err(StoreError::io(path))?;
    let mut buffer = vec![0; READ_BLOCKS * BLOCK_SIZE];
    let mut block = 0;
    loop {
        let read = read_full(&mut file, &mut buffer).map_err(StoreError::io(path))?;
        if read % BLOCK_SIZE != 0 {
            return Err(refuse(path, "is not a whole number of blocks long"));
        }
        for page in buffer.get(..read).unwrap_or(&[]).chunks_exact(BLOCK_SIZE) {
            if page.iter().all(|&byte| byte == 0) {
                layer.add(&key(block), lsn, (Kind::Zero, 0), None)?;
            } else {
                let place = layer.put(page)?;
                layer.add(&key(block), lsn, (Kind::Image, 0), Some(place))?;
            }
            block += 1;
        }
        if read < buffer.len() {
            return Ok(());
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(left) = buffer.get_mut(filled..).filter(|left| !left.is_empty()) {
        match file.read(left)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
