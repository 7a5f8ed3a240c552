//! The first WAL of a new timeline: the parent's segment up to where it begins, then one checkpoint record.
//!
//! ```text
//!   segment file of the new timeline
//!   | pages as the parent wrote them ... | L: checkpoint record | zeros ...                    |
//!                                        ^ headers from here on name the new timeline
//! ```
//!
//! A record may begin on a page boundary (then a page header comes first), cross into the next page, or into the next
//! segment. Follows `CopyXLogRecordToWAL` and `XLogReadRecord`; page headers as in `access/xlog_internal.h`:
//!
//! | offset | bytes | field                       | offset | bytes | long header, first page of a segment |
//! |-------:|------:|-----------------------------|-------:|------:|--------------------------------------|
//! |      0 |     2 | magic                       |     24 |     8 | system identifier                    |
//! |      2 |     2 | info: 1 continued, 2 long   |     32 |     4 | segment bytes                        |
//! |      4 |     4 | timeline                    |     36 |     4 | page bytes                           |
//! |      8 |     8 | position of the page        |        |       |                                      |
//! |     16 |     4 | bytes left of the record    |        |       |                                      |

use types::{Lsn, TimelineId};

use crate::error::Error;

const PAGE_BYTES: u64 = 8192;
const FIRST_IS_CONTINUED: u16 = 1;
const LONG_HEADER: u16 = 2;

/// What every page header of a cluster repeats.
#[derive(Clone, Copy, Debug)]
pub struct WalShape {
    /// `XLOG_PAGE_MAGIC` of the major version.
    pub magic: u16,
    /// System identifier.
    pub system_id: u64,
    /// Bytes of one segment.
    pub segment_bytes: u64,
}

/// The files a new timeline begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstWal {
    /// End of the record, aligned: where the server writes on.
    pub end: Lsn,
    /// Segment number and its first bytes; the rest of each file is zeros.
    pub segments: Vec<(u64, Vec<u8>)>,
}

/// Name of a segment file (`XLogFileName`).
pub fn segment_name(timeline: TimelineId, segment: u64, segment_bytes: u64) -> String {
    let per_id = 0x1_0000_0000_u64.checked_div(segment_bytes).unwrap_or(1).max(1);
    format!("{:08X}{:08X}{:08X}", timeline.get(), segment / per_id, segment % per_id)
}

/// Timeline and segment number of a segment file; `None` for other names.
pub fn parse_segment_name(name: &str, segment_bytes: u64) -> Option<(TimelineId, u64)> {
    if name.len() != 24 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
        return None;
    }
    let part = |at: usize| name.get(at..at + 8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let per_id = 0x1_0000_0000_u64.checked_div(segment_bytes)?;
    let segment = u64::from(part(8)?).checked_mul(per_id)?.checked_add(u64::from(part(16)?))?;
    Some((TimelineId::new(part(0)?), segment))
}

/// Lays `record` at `start` behind `prefix`, the parent's bytes of that segment before `start`.
///
/// # Errors
/// `Answer` if the prefix does not end at `start`, or `start` cannot be a record boundary.
pub fn first_wal(
    shape: &WalShape,
    timeline: TimelineId,
    start: Lsn,
    prefix: Vec<u8>,
    record: &[u8],
) -> Result<FirstWal, Error> {
    if prefix.len() as u64 != start.offset_in_segment(shape.segment_bytes) || !start.raw().is_multiple_of(8) {
        let text = format!("{} bytes of WAL segment before {start}", prefix.len());
        return Err(Error::Answer(text));
    }
    let mut segments = vec![(start.segment(shape.segment_bytes), prefix)];
    let mut at = start;
    let mut left = record;
    while !left.is_empty() {
        if at.offset_in_segment(shape.segment_bytes) == 0 && at != start {
            segments.push((at.segment(shape.segment_bytes), Vec::new()));
        }
        let Some((_, bytes)) = segments.last_mut() else { break };
        if at.offset_in_page() == 0 {
            let continued = if left.len() == record.len() { 0 } else { left.len() as u32 };
            at = at.advanced(put_page_header(shape, timeline, at, continued, bytes));
        }
        let room = (PAGE_BYTES - at.offset_in_page()) as usize;
        let (now, later) = left.split_at(room.min(left.len()));
        bytes.extend_from_slice(now);
        at = at.advanced(now.len() as u64);
        left = later;
    }
    Ok(FirstWal { end: at.advanced(at.raw().wrapping_neg() % 8), segments })
}

/// Appends the header of the page at `at`; returns its bytes.
fn put_page_header(
    shape: &WalShape,
    timeline: TimelineId,
    at: Lsn,
    continued: u32,
    out: &mut Vec<u8>,
) -> u64 {
    let long = at.offset_in_segment(shape.segment_bytes) == 0;
    let info = if continued > 0 { FIRST_IS_CONTINUED } else { 0 } | if long { LONG_HEADER } else { 0 };
    out.extend_from_slice(&shape.magic.to_le_bytes());
    out.extend_from_slice(&info.to_le_bytes());
    out.extend_from_slice(&timeline.get().to_le_bytes());
    out.extend_from_slice(&at.raw().to_le_bytes());
    out.extend_from_slice(&continued.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    if !long {
        return 24;
    }
    out.extend_from_slice(&shape.system_id.to_le_bytes());
    out.extend_from_slice(&(shape.segment_bytes as u32).to_le_bytes());
    out.extend_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
    40
}

/// Text of the history file of a timeline (`readTimeLineHistory`): each older timeline and where it ended.
pub fn history_file(history: &[(TimelineId, Lsn)]) -> String {
    history
        .iter()
        .map(|(timeline, ended)| format!("{}\t{ended}\tbranch or restart\n", timeline.get()))
        .collect()
}

/// End of a checkpoint record of `record_bytes` at `at`, page headers in between counted.
pub fn end_of_record(shape_segment_bytes: u64, at: Lsn, record_bytes: u64) -> Lsn {
    let mut at = at;
    let mut left = record_bytes;
    while left > 0 {
        at = at.record_start(shape_segment_bytes);
        let now = left.min(PAGE_BYTES - at.offset_in_page());
        at = at.advanced(now);
        left -= now;
    }
    at.advanced(at.raw().wrapping_neg() % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WalShape = WalShape { magic: 0xD110, system_id: 7, segment_bytes: 16 << 20 };

    fn lay(start: u64) -> FirstWal {
        let start = Lsn::from_raw(start).unwrap();
        let prefix = vec![0xEE; start.offset_in_segment(SHAPE.segment_bytes) as usize];
        first_wal(&SHAPE, TimelineId::new(9), start, prefix, &[0xAB; 114]).unwrap()
    }

    #[test]
    fn a_record_in_the_middle_of_a_page_adds_no_header() {
        let wal = lay(0x0100_2030);
        assert_eq!(wal.end.raw(), 0x0100_2030 + 120);
        assert_eq!(wal.segments[0].1.len(), 0x2030 + 114);
    }

    #[test]
    fn a_record_crosses_pages_and_segments_behind_continuation_headers() {
        let wal = lay(0x0100_3FF8);
        assert_eq!(wal.end.raw(), 0x0100_4000 + 24 + 106 + 6);
        assert_eq!(wal.segments[0].1[0x4000..0x4004], [0x10, 0xD1, 1, 0]);
        let wal = lay(0x01FF_FFF8);
        assert_eq!(wal.end.raw(), 0x0200_0000 + 40 + 106 + 6);
        assert_eq!(wal.segments.len(), 2);
        assert_eq!(wal.segments[1].0, 2);
        assert_eq!(wal.segments[1].1[..4], [0x10, 0xD1, 3, 0]);
    }

    #[test]
    fn a_boundary_start_puts_the_header_first() {
        let wal = lay(0x0100_4000);
        assert_eq!(wal.segments[0].1[0x4000..0x4004], [0x10, 0xD1, 0, 0]);
        let wal = lay(0x0200_0000);
        assert_eq!(wal.segments[0].0, 2);
        assert_eq!(wal.segments[0].1[..4], [0x10, 0xD1, 2, 0]);
        assert_eq!(wal.end.raw(), 0x0200_0000 + 40 + 114 + 6);
    }

    #[test]
    fn end_of_record_agrees_with_what_is_laid_out() {
        for start in [0x0100_2030, 0x0100_3FF8, 0x0100_4000, 0x01FF_FFF8, 0x0200_0000] {
            let lsn = Lsn::from_raw(start).unwrap();
            assert_eq!(end_of_record(SHAPE.segment_bytes, lsn, 114), lay(start).end);
        }
    }

    #[test]
    fn segment_names_round_trip() {
        let name = segment_name(TimelineId::new(0x1F), 0x1234, 16 << 20);
        assert_eq!(name, "0000001F0000001200000034");
        assert_eq!(parse_segment_name(&name, 16 << 20), Some((TimelineId::new(0x1F), 0x1234)));
        assert_eq!(parse_segment_name("0000001F.history", 16 << 20), None);
    }
}
