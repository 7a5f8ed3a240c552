//! The smallest cluster that can be imported, and WAL whose every record replaces one page.
//!
//! A page's value is a number in its content, so that what a page must hold at an LSN can be told without redo.

use std::fs;
use std::path::Path;

use types::{BLOCK_SIZE, BlockNumber, BranchId, Fork, Lsn, RelFork, RelTag, TimelineId};
use wal::WalFormat;

use crate::error::Result;
use crate::project::Project;
use wal::segment::segment_name;

pub(crate) const SEGMENT: u64 = 1 << 20;
const WAL_PAGE: u64 = 8192;
const SYSTEM_ID: u64 = 7;
/// The shutdown checkpoint: close to a segment's end, so that little WAL crosses into the next.
const CHECKPOINT: u64 = 3 * SEGMENT - 3 * WAL_PAGE + 24;
pub(crate) const FORMAT: WalFormat = WalFormat { major: 15, segment_bytes: SEGMENT, system_id: SYSTEM_ID };
pub(crate) const REL: RelFork =
    RelFork { rel: RelTag { tablespace: 1663, database: 5, relation: 16384 }, fork: Fork::Main };
/// Bytes of a page before its hole.
const USED: usize = 64;

/// Where the import ends and everything begins.
pub(crate) fn import_end() -> Lsn {
    Lsn::from_raw((CHECKPOINT + wal::SHUTDOWN_RECORD_SIZE as u64).next_multiple_of(8)).unwrap()
}

/// Writes a data directory that was shut down cleanly.
pub(crate) fn write_data_dir(dir: &Path) {
    for name in ["global", "base/5", "pg_wal"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::write(dir.join("global/pg_control"), control_file()).unwrap();
    let name = segment_name(TimelineId::new(1), CHECKPOINT / SEGMENT, SEGMENT);
    fs::write(dir.join("pg_wal").join(name), vec![0; SEGMENT as usize]).unwrap();
}

/// `pg_control` of that directory.
pub(crate) fn control_file() -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut put = |at: usize, value: u64, len: usize| {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(0, SYSTEM_ID, 8);
    for (at, value) in [(8, 1300), (12, 202_209_061), (16, 1), (172, 1), (204, 8), (216, 8192)] {
        put(at, value, 4);
    }
    for (at, value) in [(220, 131_072), (224, WAL_PAGE), (228, SEGMENT)] {
        put(at, value, 4);
    }
    put(32, CHECKPOINT, 8);
    // The checkpoint: redo, timelines, next transaction, object and multixact, oldest transaction and multixact.
    put(40, CHECKPOINT, 8);
    for (at, value) in
        [(48, 1), (52, 1), (64, 800), (72, 16_400), (76, 1), (84, 700), (88, 1), (92, 1), (96, 1)]
    {
        put(at, value, 4);
    }
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A record: where it ends, which block it replaces, and with what.
pub(crate) type Write = (Lsn, u32, u64);

/// WAL written record by record from a record boundary on.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) timeline: TimelineId,
    pub(crate) from: Lsn,
    pub(crate) bytes: Vec<u8>,
    pub(crate) writes: Vec<Write>,
    prev: Lsn,
}

impl Log {
    /// A log of `timeline` that goes on at `from`, after the record at `prev`.
    pub(crate) fn new(timeline: TimelineId, from: Lsn, prev: Lsn) -> Self {
        Self { timeline, from, bytes: Vec::new(), writes: Vec::new(), prev }
    }

    /// The log that the imported cluster goes on with.
    pub(crate) fn imported() -> Self {
        Self::new(TimelineId::new(1), import_end(), Lsn::from_raw(CHECKPOINT).unwrap())
    }

    pub(crate) fn end(&self) -> Lsn {
        self.from.advanced(self.bytes.len() as u64)
    }

    /// The bytes from `at` on.
    pub(crate) fn rest(&self, at: Lsn) -> &[u8] {
        &self.bytes[at.bytes_since(self.from).unwrap() as usize..]
    }

    fn page_header(&mut self, remaining: u32) {
        let at = self.end().raw();
        let long = at.is_multiple_of(SEGMENT);
        let flags = u16::from(remaining > 0) | if long { 2 } else { 0 };
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.get().to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(SYSTEM_ID.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((WAL_PAGE as u32).to_le_bytes());
        }
    }

    /// Appends a record that replaces `block` with a page of `value`; with `whole`, the page has no hole.
    pub(crate) fn write(&mut self, block: u32, value: u64, whole: bool) {
        self.write_to(REL, block, value, whole);
        self.writes.push((self.end(), block, value));
    }

    /// As `write`, of another fork; not listed in `writes`.
    pub(crate) fn write_to(&mut self, rel: RelFork, block: u32, value: u64, whole: bool) {
        self.sealed((0, 0xB0), &image_of(rel, block, &page(value), whole));
    }

    /// Appends a Generic record that changes some bytes of `block`.
    pub(crate) fn touch(&mut self, block: u32) {
        let value = self.end().raw();
        self.overwrite(REL, block, 24, value);
    }

    /// Appends a Generic record that puts `value` at `to` in a page. Of a page that ends before, redo can make nothing.
    pub(crate) fn overwrite(&mut self, rel: RelFork, block: u32, to: u16, value: u64) {
        let mut body = vec![0, 0x20 | rel.fork as u8, 12, 0];
        body.extend(words(&[rel.rel.tablespace, rel.rel.database, rel.rel.relation, block]));
        body.extend(to.to_le_bytes());
        body.extend(8_u16.to_le_bytes());
        body.extend(value.to_le_bytes());
        self.sealed((20, 0), &body);
    }

    /// Appends the record that a database was made as a copy of another's files.
    pub(crate) fn copy_database(&mut self, database: u32, source: u32) {
        let mut body = vec![255, 16];
        body.extend(words(&[database, REL.rel.tablespace, source, REL.rel.tablespace]));
        self.sealed((4, 0), &body);
    }

    /// Appends the record that a database was dropped.
    pub(crate) fn drop_database(&mut self, database: u32) {
        let mut body = vec![255, 12];
        body.extend(words(&[database, 1, REL.rel.tablespace]));
        self.sealed((4, 0x20), &body);
    }

    /// Appends the record that a relation's file was made.
    pub(crate) fn create_relation(&mut self, relation: u32) {
        let mut body = vec![255, 16];
        body.extend(words(&[REL.rel.tablespace, REL.rel.database, relation, 0]));
        self.sealed((2, 0x10), &body);
    }

    /// Appends a commit that drops relations.
    pub(crate) fn commit_dropping(&mut self, relations: std::ops::Range<u32>) {
        let mut main = vec![0; 8];
        main.extend(4_u32.to_le_bytes());
        main.extend((relations.len() as u32).to_le_bytes());
        for relation in relations {
            main.extend(words(&[REL.rel.tablespace, REL.rel.database, relation]));
        }
        let mut body = vec![254];
        body.extend((main.len() as u32).to_le_bytes());
        body.extend(main);
        self.sealed((1, 0x80), &body);
    }

    fn sealed(&mut self, kind: (u8, u8), body: &[u8]) {
        if self.end().raw().is_multiple_of(WAL_PAGE) {
            self.page_header(0);
        }
        let record = sealed(self.prev, kind, body);
        self.append(&record);
    }

    /// Appends a record of Postgres's own of a type that there is not.
    pub(crate) fn write_unknown(&mut self) {
        self.sealed((0, 0xF0), &[255, 1, 0]);
    }

    fn append(&mut self, record: &[u8]) {
        let start = self.end();
        let mut left = record;
        while !left.is_empty() {
            if self.end().raw().is_multiple_of(WAL_PAGE) {
                self.page_header(left.len() as u32);
            }
            let room = (WAL_PAGE - self.end().raw() % WAL_PAGE) as usize;
            let (now, later) = left.split_at(room.min(left.len()));
            self.bytes.extend(now);
            left = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.prev = start;
    }
}

/// A page that holds `value`, without its LSN.
fn page(value: u64) -> [u8; BLOCK_SIZE] {
    let mut page = [0; BLOCK_SIZE];
    for (at, word) in [(12, USED as u16), (14, 8192), (16, 8192), (18, 8192 | 4)] {
        page[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }
    for at in (24..USED).step_by(8) {
        page[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    page
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The body of an `XLOG_FPI` of one block.
fn image_of(rel: RelFork, block: u32, page: &[u8; BLOCK_SIZE], whole: bool) -> Vec<u8> {
    let image = if whole { &page[..] } else { &page[..USED] };
    // Block 0: a fork with an image, no data; image length, hole offset, flags (a hole and "apply").
    let mut body = vec![0, 0x10 | rel.fork as u8, 0, 0];
    body.extend((image.len() as u16).to_le_bytes());
    body.extend(if whole { 0u16 } else { USED as u16 }.to_le_bytes());
    body.push(if whole { 2 } else { 3 });
    body.extend(words(&[rel.rel.tablespace, rel.rel.database, rel.rel.relation, block]));
    body.extend(image);
    body
}

/// A record of a resource manager and type, with its checksum.
fn sealed(prev: Lsn, (rmgr, info): (u8, u8), body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend((24 + body.len() as u32).to_le_bytes());
    record.extend(0u32.to_le_bytes());
    record.extend(prev.raw().to_le_bytes());
    record.extend([info, rmgr, 0, 0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
    record.extend(crc.to_le_bytes());
    record.extend(body);
    record
}

/// The value that a block holds at `lsn`.
pub(crate) fn value_of(project: &Project, branch: &BranchId, lsn: Lsn, block: u32) -> u64 {
    try_value_of(project, branch, lsn, block).unwrap()
}

/// As `value_of`, of a store that may refuse.
pub(crate) fn try_value_of(project: &Project, branch: &BranchId, lsn: Lsn, block: u32) -> Result<u64> {
    try_value_in(project, branch, lsn, REL, block)
}

/// As `try_value_of`, of another fork.
pub(crate) fn try_value_in(
    project: &Project,
    branch: &BranchId,
    lsn: Lsn,
    rel: RelFork,
    block: u32,
) -> Result<u64> {
    let mut out = vec![0; BLOCK_SIZE];
    project.read_pages(branch, lsn, rel, BlockNumber::new(block), &mut out)?;
    let values: Vec<u64> =
        out[24..USED].chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert!(values.iter().all(|&value| value == values[0]), "a page in one piece");
    Ok(values[0])
}
