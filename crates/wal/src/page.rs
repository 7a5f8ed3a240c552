//! The header at the start of each 8 KB page of WAL.
//!
//! | offset | bytes | field                                                                            |
//! |-------:|------:|----------------------------------------------------------------------------------|
//! |      0 |     2 | magic of the major version                                                       |
//! |      2 |     2 | flags: 1 begins inside a record, 2 long header, 4 backups, 8 overwritten record  |
//! |      4 |     4 | timeline                                                                         |
//! |      8 |     8 | this page's position                                                             |
//! |     16 |     4 | bytes left of the record that continues here                                     |
//! |     24 |     8 | system identifier (long header only: first page of a segment)                    |
//! |     32 |     4 | segment size                                                                     |
//! |     36 |     4 | WAL page size                                                                    |
//!
//! Follows `XLogPageHeaderData` in `access/xlog_internal.h` and `XLogReaderValidatePageHeader` in `xlogreader.c`.

use types::{Lsn, TimelineId, WAL_LONG_HEADER_BYTES, WAL_PAGE_BYTES, WAL_SHORT_HEADER_BYTES};

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::major;
use crate::reader::WalFormat;

const FIRST_IS_CONTRECORD: u16 = 1;
const LONG_HEADER: u16 = 2;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 8;
const ALL_FLAGS: u16 = 0x0F;

/// A page's header, found valid or to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageHeader {
    /// The timeline that wrote the page.
    pub timeline: TimelineId,
    /// The page begins with the rest of a record.
    pub continues: bool,
    /// The record that the page before began was never finished; a new one begins here.
    pub overwrites: bool,
    /// Bytes of the record left from here on.
    pub remaining: u32,
}

impl PageHeader {
    /// The header's bytes, for the page at `page` of a log of this format; `None` if its major is not supported.
    pub fn encode(&self, format: &WalFormat, page: Lsn) -> Option<Vec<u8>> {
        let long = page.offset_in_segment(format.segment_bytes) == 0;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.continues, FIRST_IS_CONTRECORD)
            | flag(long, LONG_HEADER)
            | flag(self.overwrites, FIRST_IS_OVERWRITE_CONTRECORD);
        let mut out = major::of(format.major)?.page_magic.to_le_bytes().to_vec();
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.timeline.get().to_le_bytes());
        out.extend_from_slice(&page.raw().to_le_bytes());
        out.extend_from_slice(&self.remaining.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        if long {
            out.extend_from_slice(&format.system_id.to_le_bytes());
            out.extend_from_slice(&(format.segment_bytes as u32).to_le_bytes());
            out.extend_from_slice(&(WAL_PAGE_BYTES as u32).to_le_bytes());
        }
        Some(out)
    }
}

/// True for the sizes that `initdb --wal-segsize` allows: powers of two from 1 MB to 1 GB.
pub(crate) fn segment_size_is_valid(bytes: u64) -> bool {
    bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)
}

/// Bytes of the header of the page at `page`.
pub(crate) fn header_bytes(page: u64, segment_bytes: u64) -> u64 {
    if page.is_multiple_of(segment_bytes) { WAL_LONG_HEADER_BYTES } else { WAL_SHORT_HEADER_BYTES }
}

/// True unless `bytes` cannot have been written by the log whose last whole record begins and ends at `last`: they are
/// neither zeros, which a failure of power may have made of them, nor does a record there name that last one, nor is a
/// page of theirs of `timeline` and at its place.
pub fn may_follow(
    format: &WalFormat,
    timeline: TimelineId,
    (end, last): (Lsn, Option<Lsn>),
    bytes: &[u8],
) -> bool {
    let names_the_last = || match (last, u64_at(bytes, 8)) {
        (Some(last), Some(prev)) => prev == last.raw(),
        _ => true,
    };
    let in_page = WAL_PAGE_BYTES - end.raw() % WAL_PAGE_BYTES;
    if bytes.iter().all(|&byte| byte == 0) || ((16..WAL_PAGE_BYTES).contains(&in_page) && names_the_last()) {
        return true;
    }
    let mut page = end.raw().next_multiple_of(WAL_PAGE_BYTES);
    while let Some(rest) = usize::try_from(page - end.raw()).ok().and_then(|skipped| bytes.get(skipped..)) {
        match read_header(format, page, rest) {
            Ok(header) if header.timeline == timeline => return true,
            _ if rest.is_empty() => return false,
            _ => page += WAL_PAGE_BYTES,
        }
    }
    false
}

/// Reads and checks the header of the page at `page`, of which `bytes` are the first; the error says what is wrong.
pub(crate) fn read_header(format: &WalFormat, page: u64, bytes: &[u8]) -> Result<PageHeader, String> {
    let short = || "page header is cut".to_owned();
    let magic = u16_at(bytes, 0).ok_or_else(short)?;
    let expected = major::of(format.major).map(|major| major.page_magic);
    if Some(magic) != expected {
        return Err(wrong_magic(format.major, magic));
    }
    let flags = u16_at(bytes, 2).ok_or_else(short)?;
    let long = page.is_multiple_of(format.segment_bytes);
    if flags & !ALL_FLAGS != 0 || (flags & LONG_HEADER != 0) != long {
        return Err(format!("page flags {flags:04X}"));
    }
    let address = u64_at(bytes, 8).ok_or_else(short)?;
    if address != page {
        return Err(format!("page says it is at {:X}/{:X}", address >> 32, address & 0xFFFF_FFFF));
    }
    if long {
        check_long(format, bytes).ok_or_else(short)??;
    }
    Ok(PageHeader {
        timeline: TimelineId::new(u32_at(bytes, 4).ok_or_else(short)?),
        continues: flags & FIRST_IS_CONTRECORD != 0,
        overwrites: flags & FIRST_IS_OVERWRITE_CONTRECORD != 0,
        remaining: u32_at(bytes, 16).ok_or_else(short)?,
    })
}

fn wrong_magic(major: u32, magic: u16) -> String {
    match major::of_page_magic(magic) {
        Some(found) => {
            format!("WAL of PostgreSQL {found} (page magic {magic:04X}), expected that of {major}")
        }
        None => format!("page magic {magic:04X}, which is not that of PostgreSQL {major}"),
    }
}

fn check_long(format: &WalFormat, bytes: &[u8]) -> Option<Result<(), String>> {
    let system_id = u64_at(bytes, 24)?;
    let segment_bytes = u32_at(bytes, 32)?;
    let page_bytes = u32_at(bytes, 36)?;
    Some(if system_id != format.system_id {
        Err(format!(
            "segment of another cluster: system identifier {system_id}, expected {}",
            format.system_id
        ))
    } else if u64::from(segment_bytes) != format.segment_bytes || u64::from(page_bytes) != WAL_PAGE_BYTES {
        Err(format!(
            "segments of {segment_bytes} bytes with pages of {page_bytes}, expected {} with {WAL_PAGE_BYTES}",
            format.segment_bytes
        ))
    } else {
        Ok(())
    })
}

/// Where a record of `len` bytes that starts at `start` ends, over as many pages as it takes, 8-aligned.
///
/// `segment_bytes` is a valid segment size. A switch ends at the end of its segment instead.
pub fn record_end(start: Lsn, len: usize, segment_bytes: u64) -> Lsn {
    let mut at = start.raw();
    let mut left = len as u64;
    loop {
        let room = WAL_PAGE_BYTES - at % WAL_PAGE_BYTES;
        if left <= room {
            let end = at.saturating_add(left).checked_next_multiple_of(8);
            return end.and_then(Lsn::from_raw).unwrap_or(Lsn::MAX);
        }
        left -= room;
        let page = at.saturating_add(room);
        at = page.saturating_add(header_bytes(page, segment_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_written_is_read_again() {
        let format = WalFormat { major: 17, segment_bytes: 16 << 20, system_id: 7 };
        let timeline = TimelineId::new(9);
        for (page, continues, overwrites, bytes) in
            [(0x0100_2000, true, false, 24), (0x0200_0000, false, true, 40), (0x0200_0000, true, false, 40)]
        {
            let header = PageHeader { timeline, continues, overwrites, remaining: 77 };
            let written = header.encode(&format, Lsn::from_raw(page).unwrap()).unwrap();
            assert_eq!(written.len(), bytes);
            assert_eq!(read_header(&format, page, &written), Ok(header));
        }
        let header = PageHeader { timeline, continues: false, overwrites: false, remaining: 0 };
        assert_eq!(header.encode(&WalFormat { major: 14, ..format }, Lsn::from_raw(8192).unwrap()), None);
    }

    #[test]
    fn a_record_ends_behind_the_headers_of_the_pages_it_crosses() {
        let end = |start, len| record_end(Lsn::from_raw(start).unwrap(), len, 16 << 20).raw();
        assert_eq!(end(0x0100_0028, 114), 0x0100_0028 + 120);
        assert_eq!(end(0x0100_1FF0, 16), 0x0100_2000);
        assert_eq!(end(0x0100_1FF0, 17), 0x0100_2018 + 8);
        assert_eq!(end(0x01FF_FFF8, 114), 0x0200_0028 + 112);
        assert_eq!(end(0x0100_1FF0, 16 + 8168 + 1), 0x0100_4018 + 8);
    }
}
