//! The first WAL of a new timeline: the parent's segment up to where it begins, then one checkpoint record.
//!
//! ```text
//!   segment file of the new timeline
//!   | pages as the parent wrote them ... | L: checkpoint record | zeros ...                    |
//!                                        ^ headers from here on name the new timeline
//! ```
//!
//! A record may begin on a page boundary (then a page header comes first), cross into the next page, or into the next
//! segment. Follows `CopyXLogRecordToWAL` and `XLogReadRecord`.
//!
//! Not here: the bytes of page headers and of the checkpoint (`wal`).

use types::{Lsn, TimelineId, WAL_PAGE_BYTES};
use wal::WalFormat;
use wal::page::PageHeader;

use crate::error::Error;

/// The files a new timeline begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstWal {
    /// End of the record, aligned: where the server writes on.
    pub end: Lsn,
    /// Segment number and its first bytes; the rest of each file is zeros.
    pub segments: Vec<(u64, Vec<u8>)>,
}

/// Lays `record` at `start` behind `prefix`, the parent's bytes of that segment before `start`.
///
/// # Errors
/// `Answer` if the prefix does not end at `start`, or `start` cannot be a record boundary.
pub fn first_wal(
    format: &WalFormat,
    timeline: TimelineId,
    start: Lsn,
    prefix: Vec<u8>,
    record: &[u8],
) -> Result<FirstWal, Error> {
    if prefix.len() as u64 != start.offset_in_segment(format.segment_bytes) || !start.raw().is_multiple_of(8)
    {
        let text = format!("{} bytes of WAL segment before {start}", prefix.len());
        return Err(Error::Answer(text));
    }
    let mut segments = vec![(start.segment(format.segment_bytes), prefix)];
    let mut at = start;
    let mut left = record;
    while !left.is_empty() {
        if at.offset_in_segment(format.segment_bytes) == 0 && at != start {
            segments.push((at.segment(format.segment_bytes), Vec::new()));
        }
        let Some((_, bytes)) = segments.last_mut() else { break };
        if at.offset_in_page() == 0 {
            let continues = left.len() < record.len();
            let remaining = if continues { left.len() as u32 } else { 0 };
            let header = PageHeader { timeline, continues, overwrites: false, remaining };
            let header = header.encode(format, at).ok_or_else(|| unknown(format))?;
            bytes.extend_from_slice(&header);
            at = at.advanced(header.len() as u64);
        }
        let room = (WAL_PAGE_BYTES - at.offset_in_page()) as usize;
        let (now, later) = left.split_at(room.min(left.len()));
        bytes.extend_from_slice(now);
        at = at.advanced(now.len() as u64);
        left = later;
    }
    Ok(FirstWal { end: at.advanced(at.raw().wrapping_neg() % 8), segments })
}

fn unknown(format: &WalFormat) -> Error {
    Error::Answer(format!("log of PostgreSQL {}, which is not known", format.major))
}

/// Text of the history file of a timeline (`readTimeLineHistory`): each older timeline and where it ended.
pub fn history_file(history: &[(TimelineId, Lsn)]) -> String {
    history
        .iter()
        .map(|(timeline, ended)| format!("{}\t{ended}\tbranch or restart\n", timeline.get()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::page::record_end;

    const FORMAT: WalFormat = WalFormat { major: 15, system_id: 7, segment_bytes: 16 << 20 };

    fn lay(start: u64) -> FirstWal {
        let start = Lsn::from_raw(start).unwrap();
        let prefix = vec![0xEE; start.offset_in_segment(FORMAT.segment_bytes) as usize];
        first_wal(&FORMAT, TimelineId::new(9), start, prefix, &[0xAB; 114]).unwrap()
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
    fn where_a_record_ends_agrees_with_what_is_laid_out() {
        for start in [0x0100_2030, 0x0100_3FF8, 0x0100_4000, 0x01FF_FFF8, 0x0200_0000] {
            let lsn = Lsn::from_raw(start).unwrap();
            let end = record_end(lsn.record_start(FORMAT.segment_bytes), 114, FORMAT.segment_bytes);
            assert_eq!(end, lay(start).end);
        }
    }
}
