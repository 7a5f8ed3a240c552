//! Bytes at an LSN to whole records: page headers, continuation, segment ends, switches, CRC.
//!
//! ```text
//!  page    | header | record | record | record, its begin |
//!  page    | header | record, its rest | pad | record | ...
//!  page    | header, flag 8 | OVERWRITE_CONTRECORD | ...     the record begun before was lost in a crash
//! ```
//!
//! Follows `XLogDecodeNextRecord`, `ValidXLogRecordHeader` and `ValidXLogRecord` in `xlogreader.c`.
//!
//! Invariants
//! - Everything returned has a valid CRC and names the record before it.
//! - The timeline of pages never goes back.
//! - After an error the reader stays where it is: asked again it gives the same error.
//!
//! Not here: what is inside a record (`record`).

use types::{Lsn, TimelineId, WAL_PAGE_BYTES};

use crate::bytes::{u8_at, u32_at, u64_at};
use crate::major;
use crate::page::{PageHeader, header_bytes, read_header, segment_size_is_valid};
use crate::record::{CRC_AT, RECORD_HEADER_SIZE, crc_of};
use crate::rmgr::xlog;
use crate::{RmgrId, WalError};

/// Largest record Postgres writes (`XLogRecordMaxSize`).
const MAX_RECORD_BYTES: usize = 1020 << 20;

/// What the WAL of one cluster looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalFormat {
    /// Postgres major version: 15 to 18.
    pub major: u32,
    /// Bytes of one segment file; 16 MB unless `initdb --wal-segsize` said otherwise.
    pub segment_bytes: u64,
    /// The cluster's system identifier, checked against each segment's first page.
    pub system_id: u64,
}

/// A whole record, reassembled over pages, CRC checked.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Where the record starts.
    pub start: Lsn,
    /// Where the next one may start, and the LSN of pages this record changes (`EndRecPtr`).
    pub end: Lsn,
    /// The record's bytes, header included.
    pub bytes: &'a [u8],
}

/// Reassembles records from contiguous pieces of WAL of any size.
#[derive(Debug)]
pub struct RecordReader {
    format: WalFormat,
    timeline: TimelineId,
    /// Timeline of the last page seen.
    page_timeline: TimelineId,
    /// End of the last whole record returned.
    position: Lsn,
    /// Start of the last whole record returned.
    prev: Option<Lsn>,
    /// First byte not yet taken apart.
    at: u64,
    /// Bytes fed and not yet dropped; those before `at` are done with.
    window: Window,
    /// The record that began on an earlier page.
    begun: Option<Begun>,
    /// Its bytes so far; kept for its allocation.
    assembled: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    start: u64,
    len: usize,
    header_checked: bool,
}

/// A whole record in one of the reader's two buffers.
struct Found {
    start: u64,
    len: usize,
    assembled: bool,
}

impl RecordReader {
    /// A reader whose first record starts at the record boundary `start`, the record before it at `prev`
    /// (`None`: not checked). Pages may be of `timeline` or of those before it.
    pub fn new(format: WalFormat, timeline: TimelineId, start: Lsn, prev: Option<Lsn>) -> Self {
        Self {
            format,
            timeline,
            page_timeline: TimelineId::new(0),
            position: start,
            prev,
            at: start.raw(),
            window: Window::default(),
            begun: None,
            assembled: Vec::new(),
        }
    }

    /// Takes the bytes that follow what was fed before; the first must begin at `start` or at the beginning of its
    /// WAL page. Read records with `next_record` until it gives `None` before feeding more.
    ///
    /// # Errors
    /// `Invalid` if `bytes` do not follow what was fed before, `Unsupported` for WAL of another version.
    pub fn feed(&mut self, at: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        if major::of(self.format.major).is_none() || !segment_size_is_valid(self.format.segment_bytes) {
            return Err(WalError::Unsupported(format!(
                "PostgreSQL {} with segments of {} bytes; supported are {} with 1 MB to 1 GB",
                self.format.major,
                self.format.segment_bytes,
                major::supported()
            )));
        }
        let invalid = |reason: &str| WalError::Invalid { at, reason: reason.to_owned() };
        let end = at.raw().checked_add(bytes.len() as u64);
        let end = end.and_then(|end| end.checked_add(2 * self.format.segment_bytes));
        end.ok_or_else(|| invalid("beyond the end of all positions"))?;
        let follows = match self.window.end() {
            // The rest of a switched segment may be left out.
            Some(fed) => (fed..=self.at.max(fed)).contains(&at.raw()),
            None => at.raw() == self.at || at.raw() == self.at - self.at % WAL_PAGE_BYTES,
        };
        if !follows {
            return Err(invalid("not the bytes that come next"));
        }
        if self.window.end().is_none() && at.raw() < self.at && bytes.len() as u64 >= self.at - at.raw() {
            self.check_first_page(at.raw(), bytes)?;
        }
        self.window.push(self.at, at.raw(), bytes);
        Ok(())
    }

    /// The header of the page that holds the first record, when the page was fed from its beginning.
    fn check_first_page(&mut self, page: u64, bytes: &[u8]) -> Result<(), WalError> {
        let header = read_header(&self.format, page, bytes);
        self.accept_page(page, header).map(|_| ())
    }

    /// The next whole record, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// `Invalid` if what follows is not WAL that continues what was read.
    pub fn next_record(&mut self) -> Result<Option<RawRecord<'_>>, WalError> {
        let Some(found) = self.find()? else { return Ok(None) };
        let Found { start, len, assembled } = found;
        let missing = || invalid(start, "its bytes are gone");
        let bytes =
            if assembled { &self.assembled[..] } else { self.window.get(start, len).ok_or_else(missing)? };
        let crc = u32_at(bytes, CRC_AT).ok_or_else(missing)?;
        let computed = crc_of(bytes).ok_or_else(missing)?;
        if crc != computed {
            return Err(invalid(start, &format!("record checksum {crc:08x}, its bytes give {computed:08x}")));
        }
        let end = self.end_of(start, len, is_switch(bytes));
        let end = end.ok_or_else(|| invalid(start, "ends beyond all positions"))?;
        self.at = end.raw();
        self.begun = None;
        self.position = end;
        self.prev = Lsn::from_raw(start);
        Ok(Some(RawRecord { start: lsn(start), end, bytes }))
    }

    /// End of the last whole record returned; where reading started before the first.
    pub fn position(&self) -> Option<Lsn> {
        Some(self.position)
    }

    fn end_of(&self, start: u64, len: usize, switch: bool) -> Option<Lsn> {
        let end = crate::page::record_end(Lsn::from_raw(start)?, len, self.format.segment_bytes);
        if !switch {
            return Some(end);
        }
        Lsn::from_raw(end.raw().checked_next_multiple_of(self.format.segment_bytes)?)
    }

    /// Moves on to the end of the next record's bytes; `None` if they are not all here.
    fn find(&mut self) -> Result<Option<Found>, WalError> {
        loop {
            if let Some(begun) = self.begun {
                match self.assemble(begun)? {
                    Assembly::Whole => {
                        return Ok(Some(Found { start: begun.start, len: begun.len, assembled: true }));
                    }
                    Assembly::Partial => return Ok(None),
                    Assembly::Overwritten => continue,
                }
            }
            if self.at.is_multiple_of(WAL_PAGE_BYTES) {
                let Some(header) = self.page_header()? else { return Ok(None) };
                if header.continues {
                    return Err(invalid(self.at, "page continues a record where none was begun"));
                }
                self.at += header_bytes(self.at, self.format.segment_bytes);
            }
            let Some(len) = self.window.get(self.at, 4).and_then(|bytes| u32_at(bytes, 0)) else {
                return Ok(None);
            };
            let len = self.check_len(len)?;
            let room = (WAL_PAGE_BYTES - self.at % WAL_PAGE_BYTES) as usize;
            if let Some(header) = self.window.get(self.at, RECORD_HEADER_SIZE.min(room)) {
                self.check_header(self.at, header)?;
            }
            if len <= room {
                let whole = self.window.get(self.at, len).is_some();
                return Ok(whole.then_some(Found { start: self.at, len, assembled: false }));
            }
            self.assembled.clear();
            self.begun = Some(Begun { start: self.at, len, header_checked: false });
        }
    }

    fn check_len(&self, len: u32) -> Result<usize, WalError> {
        let len = len as usize;
        if (RECORD_HEADER_SIZE..=MAX_RECORD_BYTES).contains(&len) {
            return Ok(len);
        }
        let reason = if len == 0 {
            "zeros where a record would start".to_owned()
        } else {
            format!("record length {len}")
        };
        Err(invalid(self.at, &reason))
    }

    /// Checks what the record at `start` says of itself, as far as `header` holds it.
    fn check_header(&self, start: u64, header: &[u8]) -> Result<(), WalError> {
        let Some(prev) = u64_at(header, 8) else { return Ok(()) };
        let linked = self.prev.map_or(prev < start, |expected| prev == expected.raw());
        if !linked {
            let reason =
                format!("record says the one before it is at {:X}/{:X}", prev >> 32, prev & 0xFFFF_FFFF);
            return Err(invalid(start, &reason));
        }
        match u8_at(header, 17) {
            Some(rmgr) if rmgr > RmgrId::LOGICALMSG.0 && rmgr < RmgrId::FIRST_CUSTOM.0 => {
                Err(invalid(start, &format!("no resource manager {rmgr}")))
            }
            _ => Ok(()),
        }
    }

    fn page_header(&mut self) -> Result<Option<PageHeader>, WalError> {
        let page = self.at;
        let len = header_bytes(page, self.format.segment_bytes) as usize;
        let Some(bytes) = self.window.get(page, len) else { return Ok(None) };
        let header = read_header(&self.format, page, bytes);
        self.accept_page(page, header).map(Some)
    }

    fn accept_page(&mut self, page: u64, header: Result<PageHeader, String>) -> Result<PageHeader, WalError> {
        let header = header.map_err(|reason| invalid(page, &reason))?;
        if header.timeline < self.page_timeline || header.timeline > self.timeline {
            let reason = format!(
                "page of timeline {} after {}, reading {}",
                header.timeline.get(),
                self.page_timeline.get(),
                self.timeline.get()
            );
            return Err(invalid(page, &reason));
        }
        self.page_timeline = header.timeline;
        Ok(header)
    }

    /// Takes what has arrived of a record that crosses pages.
    fn assemble(&mut self, mut begun: Begun) -> Result<Assembly, WalError> {
        loop {
            if !begun.header_checked && self.assembled.len() >= RECORD_HEADER_SIZE {
                self.check_header(begun.start, &self.assembled)?;
                begun.header_checked = true;
                self.begun = Some(begun);
            }
            let left = begun.len.saturating_sub(self.assembled.len());
            if left == 0 {
                return Ok(Assembly::Whole);
            }
            if self.at.is_multiple_of(WAL_PAGE_BYTES) {
                let Some(header) = self.page_header()? else { return Ok(Assembly::Partial) };
                if header.overwrites {
                    self.begun = None;
                    return Ok(Assembly::Overwritten);
                }
                if !header.continues || header.remaining as usize != left {
                    let reason =
                        format!("page continues a record by {} bytes, expected {left}", header.remaining);
                    return Err(invalid(self.at, &reason));
                }
                self.at += header_bytes(self.at, self.format.segment_bytes);
            }
            let room = (WAL_PAGE_BYTES - self.at % WAL_PAGE_BYTES) as usize;
            let piece = self.window.get_up_to(self.at, left.min(room));
            if piece.is_empty() {
                return Ok(Assembly::Partial);
            }
            self.assembled.extend_from_slice(piece);
            self.at += piece.len() as u64;
        }
    }
}

enum Assembly {
    Whole,
    Partial,
    Overwritten,
}

/// The bytes fed and still needed, and where they are in the log.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    /// Position of the first byte; 0 until something was fed.
    start: u64,
}

impl Window {
    fn end(&self) -> Option<u64> {
        (self.start != 0).then(|| self.start + self.bytes.len() as u64)
    }

    /// Adds `more`, which is at `at`, and drops what lies before `keep`.
    fn push(&mut self, keep: u64, at: u64, more: &[u8]) {
        let done = usize::try_from(keep.saturating_sub(self.start)).unwrap_or(usize::MAX);
        if done >= self.bytes.len() {
            self.bytes.clear();
            self.start = at;
        } else {
            self.bytes.drain(..done);
            self.start = keep;
        }
        self.bytes.extend_from_slice(more);
    }

    fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    fn get_up_to(&self, at: u64, len: usize) -> &[u8] {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let rest = from.and_then(|from| self.bytes.get(from..)).unwrap_or(&[]);
        rest.get(..len).unwrap_or(rest)
    }
}

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).expect("positions only grow, and the first is an Lsn, which is not zero")
}

fn invalid(at: u64, reason: &str) -> WalError {
    WalError::Invalid { at: lsn(at), reason: reason.to_owned() }
}

fn is_switch(record: &[u8]) -> bool {
    u8_at(record, 17) == Some(RmgrId::XLOG.0)
        && u8_at(record, 16).is_some_and(|info| info & 0xF0 == xlog::SWITCH)
}
