//! A position in the write-ahead log.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// A byte position in the write-ahead log, printed as Postgres prints it: `0/16B3748`.
///
/// Postgres's "invalid" zero is `Option::<Lsn>::None`, never an `Lsn`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(NonZeroU64);

/// Bytes of one WAL page (`XLOG_BLCKSZ`).
pub const WAL_PAGE_BYTES: u64 = 8192;
/// Bytes of the header of most WAL pages (`SizeOfXLogShortPHD`).
pub const WAL_SHORT_HEADER_BYTES: u64 = 24;
/// Bytes of the header of a segment's first WAL page (`SizeOfXLogLongPHD`).
pub const WAL_LONG_HEADER_BYTES: u64 = 40;

impl Lsn {
    /// The largest position; newer than every record.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The position `raw`, or `None` for Postgres's invalid zero.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match NonZeroU64::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The position as Postgres stores it (`XLogRecPtr`).
    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    /// The position `bytes` later; saturates at the end of the log.
    pub const fn advanced(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Bytes of WAL from `earlier` to `self`; `None` if `earlier` is later.
    pub fn bytes_since(self, earlier: Self) -> Option<u64> {
        self.raw().checked_sub(earlier.raw())
    }

    /// Bytes from the start of this position's WAL page.
    pub const fn offset_in_page(self) -> u64 {
        self.raw() % WAL_PAGE_BYTES
    }

    /// Bytes from the start of this position's WAL segment.
    pub const fn offset_in_segment(self, segment_bytes: u64) -> u64 {
        self.raw() % segment_bytes
    }

    /// Number of the segment that holds this position (`XLByteToSeg`).
    pub const fn segment(self, segment_bytes: u64) -> u64 {
        self.raw() / segment_bytes
    }

    /// Where a record that "starts here" really starts: a position on a page boundary is followed by the page's
    /// header (`XLogReadRecord`).
    pub const fn record_start(self, segment_bytes: u64) -> Self {
        if self.offset_in_page() != 0 {
            return self;
        }
        let is_first = self.offset_in_segment(segment_bytes) == 0;
        self.advanced(if is_first { WAL_LONG_HEADER_BYTES } else { WAL_SHORT_HEADER_BYTES })
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.raw() >> 32, self.raw() & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseLsnError(String);

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an LSN; write it as Postgres does, like 0/16B3748", self.0)
    }
}

impl std::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let half = |s: &str| {
            let digits = (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(s, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(half(high)? << 32 | half(low)?))
            .and_then(Self::from_raw)
            .ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_postgres_does() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.raw(), 0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in ["", "0/0", "1", "0/123456789", "x/1", "0/-1", "0/ 1", "/1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_record_never_starts_on_a_page_header() {
        let segment = 16 << 20;
        let at = |raw| Lsn::from_raw(raw).unwrap();
        assert_eq!(at(0x0100_0000).record_start(segment), at(0x0100_0028));
        assert_eq!(at(0x0100_2000).record_start(segment), at(0x0100_2018));
        assert_eq!(at(0x0100_2030).record_start(segment), at(0x0100_2030));
    }
}
