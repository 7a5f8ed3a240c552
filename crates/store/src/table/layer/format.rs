//! The bytes of a layer file: frames, entries, footer. Everything little-endian but keys.
//!
//! Frame (every block is one):
//!
//! | offset | bytes | field     | meaning                                                           |
//! |-------:|------:|-----------|-------------------------------------------------------------------|
//! |      0 |     4 | `crc32c`  | of the frame's file offset (8 bytes), `raw_len` and the payload   |
//! |      4 |     4 | `raw_len` | bytes after decompression                                         |
//! |      8 |     1 | `codec`   | 1: the payload is zstd; not there in format 1, which knows no other|
//! |      9 |     n | payload   | compressed                                                        |
//!
//! The section of waypoints, decompressed, begins with the version of its records (1 byte) and their length (1 byte) in
//! format 2; in format 1 it has records of version 1 and nothing else.
//!
//! Index entry, `ENTRY_BYTES` long:
//!
//! | offset | bytes | field       | meaning                                              |
//! |-------:|------:|-------------|------------------------------------------------------|
//! |      0 |    18 | `key`       | sortable form                                        |
//! |     18 |     8 | `lsn`       | end of the record that made the version              |
//! |     26 |     1 | `kind`      | see `value::Kind`                                    |
//! |     27 |     1 | `aux`       | resource manager of an unreadable page; of a record  |
//! |        |       |             | that modifies, how many there are since the last full|
//! |        |       |             | version (255: or more; 0: unknown); else 0           |
//! |     28 |     8 | `block_at`  | file offset of the data block; 0 if there is no value|
//! |     36 |     4 | `block_len` | bytes of its frame                                   |
//! |     40 |     4 | `offset`    | of the value in the decompressed block               |
//! |     44 |     4 | `len`       | bytes of the value                                   |
//!
//! Top index entry, `TOP_BYTES` long: the first entry's `key` 18 and `lsn` 8 of an index block, its file offset 8 and
//! frame length 4.

use types::{Key, KeyBytes, Lsn};

use crate::error::{Result, StoreError};
use crate::table::value::Kind;

/// A data or index block is closed at this many bytes before compression.
pub(super) const BLOCK_BYTES: usize = 32 << 10;
/// Bytes of an index entry.
pub(super) const ENTRY_BYTES: usize = 48;
/// Bytes of a top index entry.
pub(super) const TOP_BYTES: usize = 38;
/// Bytes before a frame's payload.
const FRAME_HEADER_BYTES: usize = 9;
/// The payload is zstd.
const ZSTD: u8 = 1;
/// zstd's fastest ordinary level: pages and records are read far more often than written.
const COMPRESSION_LEVEL: i32 = 1;

const MAGIC: u32 = 0x4C_59_52_53; // "SRYL", last in the file so that a truncated one lacks it
/// The format that is written.
pub(super) const VERSION: u32 = 2;
/// The oldest format that is read.
pub(super) const VERSION_FIRST: u32 = 1;

const _: () = assert!(ENTRY_BYTES == Key::ENCODED_LEN + 8 + 1 + 1 + 8 + 4 + 4 + 4);
const _: () = assert!(TOP_BYTES == Key::ENCODED_LEN + 8 + 8 + 4);

fn frame_crc(at: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&at.to_le_bytes()), rest)
}

/// A frame that will lie at file offset `at` of a layer of that format.
pub(super) fn frame(version: u32, at: u64, raw: &[u8]) -> Result<Vec<u8>> {
    let too_long = || StoreError::corrupt("a layer being written", at, "block longer than 4 GiB");
    let raw_len = u32::try_from(raw.len()).map_err(|_| too_long())?;
    let payload = zstd::bulk::compress(raw, COMPRESSION_LEVEL)
        .map_err(|error| StoreError::corrupt("a layer being written", at, error.to_string()))?;
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    out.extend([0; 4]);
    out.extend(raw_len.to_le_bytes());
    if version > VERSION_FIRST {
        out.push(ZSTD);
    }
    out.extend(payload);
    let crc = frame_crc(at, out.get(4..).unwrap_or(&[]));
    out.splice(0..4, crc.to_le_bytes());
    Ok(out)
}

/// The content of a frame read from file offset `at` of `object`, a layer of that format.
pub(super) fn unframe(version: u32, object: &str, at: u64, bytes: &[u8]) -> Result<Vec<u8>> {
    let corrupt = |reason: &str| StoreError::corrupt(object, at, reason);
    let (crc, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("frame too short"))?;
    let (expected, found) = (u32::from_le_bytes(*crc), frame_crc(at, rest));
    if expected != found {
        return Err(corrupt(&format!("checksum {found:08x}, expected {expected:08x}")));
    }
    let (raw_len, payload) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("frame too short"))?;
    let raw_len = u32::from_le_bytes(*raw_len) as usize;
    let payload = match payload.split_first() {
        _ if version == VERSION_FIRST => payload,
        Some((&ZSTD, payload)) => payload,
        Some((codec, _)) => return Err(corrupt(&format!("codec {codec}, this program knows {ZSTD}"))),
        None => return Err(corrupt("frame too short")),
    };
    let raw = zstd::bulk::decompress(payload, raw_len).map_err(|error| corrupt(&error.to_string()))?;
    if raw.len() == raw_len { Ok(raw) } else { Err(corrupt("decompressed length is wrong")) }
}

/// Reads little-endian fields of fixed-size rows; the rows' length was checked.
pub(super) fn word(row: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(row.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// As `word`, eight bytes.
pub(super) fn wide(row: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(row.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// One index entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) key: KeyBytes,
    pub(super) lsn: Lsn,
    pub(super) kind: Kind,
    pub(super) aux: u8,
    pub(super) block_at: u64,
    pub(super) block_len: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Entry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.key);
        out.extend(self.lsn.raw().to_le_bytes());
        out.extend([self.kind as u8, self.aux]);
        out.extend(self.block_at.to_le_bytes());
        out.extend(self.block_len.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.len.to_le_bytes());
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        Some(Self {
            key: *row.first_chunk()?,
            lsn: Lsn::from_raw(wide(row, 18)?)?,
            kind: Kind::from_raw(*row.get(26)?)?,
            aux: *row.get(27)?,
            block_at: wide(row, 28)?,
            block_len: word(row, 36)?,
            offset: word(row, 40)?,
            len: word(row, 44)?,
        })
    }
}

/// Last bytes of every layer file; read first, so that a torn file is found before anything is served.
///
/// | offset | bytes | field           | meaning                                        |
/// |-------:|------:|-----------------|------------------------------------------------|
/// |      0 |     8 | `top_at`        | file offset of the top index                   |
/// |      8 |     8 | `waypoints_at`  | file offset of the waypoints; the top ends here|
/// |     16 |     8 | `entries`       | number of entries                              |
/// |     24 |     8 | `lsn_first`     | lowest LSN of an entry; 0 if there is none     |
/// |     32 |     8 | `lsn_last`      | highest; nothing reads it                      |
/// |     40 |    18 | `key_last`      | highest key                                    |
/// |     58 |     2 | zero            |                                                |
/// |     60 |     4 | `crc32c`        | of bytes 0..60 and the file's length (8 bytes) |
/// |     64 |     4 | `version`       | 1 or 2; a reader refuses any other             |
/// |     68 |     4 | `magic`         | last, so that a truncated file lacks it        |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Footer {
    pub(super) version: u32,
    pub(super) top_at: u64,
    pub(super) waypoints_at: u64,
    pub(super) entries: u64,
    pub(super) lsn_first: u64,
    pub(super) lsn_last: u64,
    pub(super) key_last: KeyBytes,
}

impl Footer {
    pub(super) const BYTES: usize = 72;

    fn crc(fields: &[u8], file_len: u64) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(fields), &file_len.to_le_bytes())
    }

    /// The footer of a file that is `file_len` long with it.
    pub(super) fn encode(&self, file_len: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        for field in [self.top_at, self.waypoints_at, self.entries, self.lsn_first, self.lsn_last] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.key_last);
        out.extend([0; 2]);
        out.extend(Self::crc(&out, file_len).to_le_bytes());
        out.extend(self.version.to_le_bytes());
        out.extend(MAGIC.to_le_bytes());
        out
    }

    /// Reads the last bytes of a file that is `file_len` long.
    pub(super) fn decode(object: &str, file_len: u64, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| StoreError::corrupt(object, file_len, reason);
        let field = |at: usize| word(bytes, at).ok_or_else(|| corrupt("footer too short".to_owned()));
        let long = |at: usize| wide(bytes, at).ok_or_else(|| corrupt("footer too short".to_owned()));
        if field(68)? != MAGIC {
            return Err(corrupt("no layer footer; the file is torn or not a layer".to_owned()));
        }
        let version = field(64)?;
        if !(VERSION_FIRST..=VERSION).contains(&version) {
            let reads = format!("this program reads {VERSION_FIRST} to {VERSION}");
            return Err(corrupt(format!("layer format {version}, {reads}")));
        }
        let (expected, found) = (field(60)?, Self::crc(bytes.get(..60).unwrap_or(&[]), file_len));
        if expected != found {
            return Err(corrupt(format!("footer checksum {found:08x}, expected {expected:08x}")));
        }
        let key_last = bytes.get(40..).and_then(|rest| rest.first_chunk()).copied();
        let footer = Self {
            version,
            top_at: long(0)?,
            waypoints_at: long(8)?,
            entries: long(16)?,
            lsn_first: long(24)?,
            lsn_last: long(32)?,
            key_last: key_last.ok_or_else(|| corrupt("footer too short".to_owned()))?,
        };
        let ends_at = file_len.saturating_sub(Self::BYTES as u64);
        if footer.top_at > footer.waypoints_at || footer.waypoints_at > ends_at {
            return Err(corrupt("footer points outside the file".to_owned()));
        }
        Ok(footer)
    }
}
