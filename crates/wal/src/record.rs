//! One record: its header, its block references, its main data.
//!
//! Follows `access/xlogrecord.h` and `DecodeXLogRecord` in `xlogreader.c`. The bytes of a record:
//!
//! ```text
//! | total_len 4 | xid 4 | prev 8 | info 1 | rmid 1 | 2 unused | crc 4 |      24 bytes
//! | block id 1 | fork and flags 1 | data_len 2 | [image header] | [relation 12] | block 4 |   per block
//! | [253, origin 2] | [252, toplevel xid 4] | 255, len 1  or  254, len 4 |
//! | block 0's image, block 0's data, block 1's image, ... | main data |
//! ```
//!
//! Not here: framing over pages and the CRC (`reader`), what a record means (`interpret`).

pub mod image;

use types::{BLOCK_SIZE, BlockNumber, Fork, Lsn, RelFork, RelTag, Xid};

use crate::WalError;

/// Bytes of the fixed record header (`SizeOfXLogRecord`).
pub const RECORD_HEADER_SIZE: usize = 24;
/// Where a record's checksum is: the last four bytes of its header.
pub(crate) const CRC_AT: usize = 20;
/// Highest block id (`XLR_MAX_BLOCK_ID`).
const MAX_BLOCK_ID: u8 = 32;

pub(crate) const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;

const BKP_HAS_IMAGE: u8 = 0x10;
const BKP_HAS_DATA: u8 = 0x20;
const BKP_WILL_INIT: u8 = 0x40;
const BKP_SAME_REL: u8 = 0x80;

const IMAGE_HAS_HOLE: u8 = 0x01;
const IMAGE_APPLY: u8 = 0x02;
const IMAGE_PGLZ: u8 = 0x04;
const IMAGE_LZ4: u8 = 0x08;
const IMAGE_ZSTD: u8 = 0x10;

/// A resource manager's number (`access/rmgrlist.h`); the same in 15 to 18.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RmgrId(pub u8);

#[expect(missing_docs, reason = "the names are Postgres's own")]
impl RmgrId {
    pub const XLOG: Self = Self(0);
    pub const XACT: Self = Self(1);
    pub const SMGR: Self = Self(2);
    pub const CLOG: Self = Self(3);
    pub const DBASE: Self = Self(4);
    pub const TBLSPC: Self = Self(5);
    pub const MULTIXACT: Self = Self(6);
    pub const RELMAP: Self = Self(7);
    pub const STANDBY: Self = Self(8);
    pub const HEAP2: Self = Self(9);
    pub const HEAP: Self = Self(10);
    pub const BTREE: Self = Self(11);
    pub const HASH: Self = Self(12);
    pub const GIN: Self = Self(13);
    pub const GIST: Self = Self(14);
    pub const SEQ: Self = Self(15);
    pub const SPGIST: Self = Self(16);
    pub const BRIN: Self = Self(17);
    pub const COMMIT_TS: Self = Self(18);
    pub const REPLORIGIN: Self = Self(19);
    pub const GENERIC: Self = Self(20);
    pub const LOGICALMSG: Self = Self(21);
    /// First number an extension's own resource manager can have (`RM_MIN_CUSTOM_ID`).
    pub const FIRST_CUSTOM: Self = Self(128);

    /// The extension that has reserved this number with the PostgreSQL project, if it is one of those.
    pub fn extension(self) -> Option<&'static str> {
        Some(match self.0 {
            129 => "OrioleDB",
            130..=133 | 139 => "an extension of EnterpriseDB",
            134 => "Neon",
            135 => "AQO",
            136 => "sr_plan",
            137 => "pg_analytics",
            138 => "PGroonga",
            140 => "pg_tde",
            241 => "Columnar",
            _ => return None,
        })
    }

    /// The name `pg_waldump` prints.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 22] = [
            "XLOG",
            "Transaction",
            "Storage",
            "CLOG",
            "Database",
            "Tablespace",
            "MultiXact",
            "RelMap",
            "Standby",
            "Heap2",
            "Heap",
            "Btree",
            "Hash",
            "Gin",
            "Gist",
            "Sequence",
            "SPGist",
            "BRIN",
            "CommitTs",
            "ReplicationOrigin",
            "Generic",
            "LogicalMessage",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("custom")
    }
}

/// How a full-page image is compressed (`wal_compression`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Stored as it is, without its hole.
    None,
    /// Postgres's own LZ.
    Pglz,
    /// LZ4 block format.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// A full-page image inside a record, still compressed and without its hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockImage<'a> {
    /// The stored bytes.
    pub bytes: &'a [u8],
    /// Where the hole of zeros begins.
    pub hole_offset: u16,
    /// Bytes in the hole; 0 if there is none.
    pub hole_len: u16,
    /// How `bytes` are compressed.
    pub compression: Compression,
    /// Replay restores the image. If false it is there only for `wal_consistency_checking`.
    pub apply: bool,
}

/// A block that a record touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef<'a> {
    /// The reference's number within the record; not always dense.
    pub id: u8,
    /// The relation fork.
    pub rel: RelFork,
    /// The block.
    pub block: BlockNumber,
    /// Replay builds the page anew and needs no earlier content (`BKPBLOCK_WILL_INIT`).
    pub will_init: bool,
    /// A full-page image, if the record carries one.
    pub image: Option<BlockImage<'a>>,
    /// The data registered with this block; empty if none.
    pub data: &'a [u8],
}

impl BlockRef<'_> {
    /// True if the page after this record does not depend on what it held before.
    pub fn rebuilds_page(&self) -> bool {
        self.will_init || self.image.is_some_and(|image| image.apply)
    }
}

/// A decoded record; borrows the record's bytes.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Where the record starts.
    pub start: Lsn,
    /// Transaction that wrote it; 0 if none.
    pub xid: Xid,
    /// Start of the record before it (`xl_prev`).
    pub prev: u64,
    /// Record type in the upper four bits; the resource manager says how (`xl_info`).
    pub info: u8,
    /// Resource manager.
    pub rmgr: RmgrId,
    /// Replication origin; 0 if none.
    pub origin: u16,
    /// Top-level transaction, when logical decoding needs it.
    pub toplevel_xid: Option<Xid>,
    blocks: Blocks<'a>,
    /// The data not registered with a block.
    pub main: &'a [u8],
}

/// Block references without an allocation for the usual record.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and boxing it is the allocation"
)]
enum Blocks<'a> {
    Few([Option<BlockRef<'a>>; 4], usize),
    Many(Vec<BlockRef<'a>>),
}

impl<'a> Record<'a> {
    /// Decodes the record that starts at `start`. `bytes` is the whole record, reassembled over pages.
    pub fn decode(start: Lsn, bytes: &'a [u8]) -> Result<Self, WalError> {
        let malformed = |reason: &str| WalError::Malformed {
            at: start,
            record: bytes.get(17).map_or("?", |&rmid| RmgrId(rmid).name()).to_owned(),
            reason: reason.to_owned(),
        };
        let mut cursor = Cursor { bytes, at: 0 };
        let mut header = || -> Option<Record<'a>> {
            let _total_len = cursor.u32()?;
            let xid = Xid::new(cursor.u32()?);
            let prev = cursor.u64()?;
            let info = cursor.u8()?;
            let rmgr = RmgrId(cursor.u8()?);
            cursor.take(6)?;
            let blocks = Blocks::Few([None; 4], 0);
            Some(Record { start, xid, prev, info, rmgr, origin: 0, toplevel_xid: None, blocks, main: &[] })
        };
        let mut record = header().ok_or_else(|| malformed("shorter than its header"))?;
        record.decode_body(&mut cursor).ok_or_else(|| malformed("lengths do not add up"))?;
        Ok(record)
    }

    fn decode_body(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let mut lens = Lengths::new();
        let mut main_len = 0usize;
        let mut last_rel = None;
        let mut last_id = None;
        while cursor.left() > lens.total + main_len {
            match cursor.u8()? {
                ID_DATA_SHORT => {
                    main_len = usize::from(cursor.u8()?);
                    break;
                }
                ID_DATA_LONG => {
                    main_len = cursor.u32()? as usize;
                    break;
                }
                ID_ORIGIN => self.origin = cursor.u16()?,
                ID_TOPLEVEL_XID => self.toplevel_xid = Some(Xid::new(cursor.u32()?)),
                id if id <= MAX_BLOCK_ID && last_id.is_none_or(|last| last < id) => {
                    last_id = Some(id);
                    let (block, image_len, data_len) = decode_block_header(cursor, id, &mut last_rel)?;
                    lens.push(image_len, data_len)?;
                    self.push_block(block);
                }
                _ => return None,
            }
        }
        for index in 0..lens.count {
            let (image_len, data_len) = lens.get(index)?;
            let image = cursor.take(image_len)?;
            let data = cursor.take(data_len)?;
            let block = self.block_mut(index)?;
            if let Some(slot) = block.image.as_mut() {
                slot.bytes = image;
            }
            block.data = data;
        }
        self.main = cursor.take(main_len)?;
        (cursor.left() == 0).then_some(())
    }

    fn push_block(&mut self, block: BlockRef<'a>) {
        match &mut self.blocks {
            Blocks::Few(slots, count) => {
                if let Some(slot) = slots.get_mut(*count) {
                    *slot = Some(block);
                    *count += 1;
                } else {
                    let mut many: Vec<_> = slots.iter().flatten().copied().collect();
                    many.push(block);
                    self.blocks = Blocks::Many(many);
                }
            }
            Blocks::Many(many) => many.push(block),
        }
    }

    fn block_mut(&mut self, index: usize) -> Option<&mut BlockRef<'a>> {
        match &mut self.blocks {
            Blocks::Few(slots, _) => slots.get_mut(index)?.as_mut(),
            Blocks::Many(many) => many.get_mut(index),
        }
    }

    /// The block references, in the order of the record.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockRef<'a>> {
        let (few, many): (&[Option<BlockRef<'a>>], &[BlockRef<'a>]) = match &self.blocks {
            Blocks::Few(slots, _) => (slots, &[]),
            Blocks::Many(many) => (&[], many),
        };
        few.iter().flatten().chain(many.iter())
    }

    /// The block reference numbered `id`.
    pub fn block(&self, id: u8) -> Option<&BlockRef<'a>> {
        self.blocks().find(|block| block.id == id)
    }

    /// The record type's bits: `info` without what the record framing uses (`XLR_INFO_MASK`).
    pub fn op(&self) -> u8 {
        self.info & 0xF0
    }
}

/// Lengths of the images and data that follow the headers.
struct Lengths {
    pairs: [(u16, u16); MAX_BLOCK_ID as usize + 1],
    count: usize,
    total: usize,
}

impl Lengths {
    fn new() -> Self {
        Self { pairs: [(0, 0); MAX_BLOCK_ID as usize + 1], count: 0, total: 0 }
    }

    fn push(&mut self, image: u16, data: u16) -> Option<()> {
        *self.pairs.get_mut(self.count)? = (image, data);
        self.count += 1;
        self.total += usize::from(image) + usize::from(data);
        Some(())
    }

    fn get(&self, index: usize) -> Option<(usize, usize)> {
        self.pairs.get(index).map(|&(image, data)| (usize::from(image), usize::from(data)))
    }
}

fn decode_block_header<'a>(
    cursor: &mut Cursor<'a>,
    id: u8,
    last_rel: &mut Option<RelTag>,
) -> Option<(BlockRef<'a>, u16, u16)> {
    let fork_flags = cursor.u8()?;
    let data_len = cursor.u16()?;
    if (data_len != 0) != (fork_flags & BKP_HAS_DATA != 0) {
        return None;
    }
    let mut image_len = 0;
    let image = if fork_flags & BKP_HAS_IMAGE != 0 {
        let (image, len) = decode_image_header(cursor)?;
        image_len = len;
        Some(image)
    } else {
        None
    };
    if fork_flags & BKP_SAME_REL == 0 {
        *last_rel =
            Some(RelTag { tablespace: cursor.u32()?, database: cursor.u32()?, relation: cursor.u32()? });
    }
    let rel = RelFork { rel: (*last_rel)?, fork: Fork::from_raw(fork_flags & 0x0F)? };
    let block = BlockNumber::new(cursor.u32()?);
    let will_init = fork_flags & BKP_WILL_INIT != 0;
    Some((BlockRef { id, rel, block, will_init, image, data: &[] }, image_len, data_len))
}

fn decode_image_header<'a>(cursor: &mut Cursor<'a>) -> Option<(BlockImage<'a>, u16)> {
    let len = cursor.u16()?;
    let hole_offset = cursor.u16()?;
    let info = cursor.u8()?;
    let compression = match info & (IMAGE_PGLZ | IMAGE_LZ4 | IMAGE_ZSTD) {
        0 => Compression::None,
        IMAGE_PGLZ => Compression::Pglz,
        IMAGE_LZ4 => Compression::Lz4,
        IMAGE_ZSTD => Compression::Zstd,
        _ => return None,
    };
    let has_hole = info & IMAGE_HAS_HOLE != 0;
    let hole_len = match (compression, has_hole) {
        (Compression::None, _) => u16::try_from(BLOCK_SIZE.checked_sub(usize::from(len))?).ok()?,
        (_, true) => cursor.u16()?,
        (_, false) => 0,
    };
    if usize::from(hole_offset) + usize::from(hole_len) > BLOCK_SIZE {
        return None;
    }
    let apply = info & IMAGE_APPLY != 0;
    Some((BlockImage { bytes: &[], hole_offset, hole_len, compression, apply }, len))
}

/// Reads little-endian fields from the front of a record.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let out = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(out)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// The checksum that a record's bytes give; it covers the body first, then the header up to the checksum itself.
pub(crate) fn crc_of(record: &[u8]) -> Option<u32> {
    let body = crc32c::crc32c(record.get(RECORD_HEADER_SIZE..)?);
    Some(crc32c::crc32c_append(body, record.get(..CRC_AT)?))
}
