//! The files the log is in: a segment each, and the history of a timeline.
//!
//! ```text
//!   0000001F00000012000000A4      timeline, then the segment's number, split where positions have their slash
//!   0000001F.history
//! ```
//!
//! Follows `XLogFileName` and `TLHistoryFileName` in `access/xlog_internal.h`.
//!
//! Not here: what is in a segment (`page`, `reader`).

use types::TimelineId;

/// Segments of one upper half of a position (`XLogSegmentsPerXLogId`); 1 for a size that no segment has.
fn per_half(segment_bytes: u64) -> u64 {
    0x1_0000_0000_u64.checked_div(segment_bytes).unwrap_or(1).max(1)
}

/// Name of the file of segment number `segment`.
pub fn segment_name(timeline: TimelineId, segment: u64, segment_bytes: u64) -> String {
    let per_half = per_half(segment_bytes);
    format!("{:08X}{:08X}{:08X}", timeline.get(), segment / per_half, segment % per_half)
}

/// Timeline and segment number of a segment's file; `None` for other names.
pub fn parse_segment_name(name: &str, segment_bytes: u64) -> Option<(TimelineId, u64)> {
    if name.len() != 24 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
        return None;
    }
    let part = |at: usize| name.get(at..at + 8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let (half, in_half, per_half) = (u64::from(part(8)?), u64::from(part(16)?), per_half(segment_bytes));
    // No segment of that size is called so.
    if in_half >= per_half {
        return None;
    }
    Some((TimelineId::new(part(0)?), half.checked_mul(per_half)?.checked_add(in_half)?))
}

/// Name of the file that says where a timeline came from.
pub fn history_name(timeline: TimelineId) -> String {
    format!("{:08X}.history", timeline.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_postgres_and_round_trip() {
        let timeline = TimelineId::new(0x1F);
        for (segment_bytes, segment, expected) in [
            (16 << 20, 0x1234, "0000001F0000001200000034"),
            (1 << 20, 0x1234, "0000001F0000000100000234"),
            (1 << 30, 0x1234, "0000001F0000048D00000000"),
        ] {
            let name = segment_name(timeline, segment, segment_bytes);
            assert_eq!(name, expected);
            assert_eq!(parse_segment_name(&name, segment_bytes), Some((timeline, segment)));
        }
        assert_eq!(history_name(timeline), "0000001F.history");
    }

    #[test]
    fn other_names_are_no_segment() {
        for name in [
            "0000001F.history",
            "0000001F000000120000003",
            "0000001f0000001200000034",
            "0000001F00000012000000+4",
            "0000001F0000001200000034.partial",
            // 256 segments of that size are in one upper half.
            "0000001F0000001200000100",
        ] {
            assert_eq!(parse_segment_name(name, 16 << 20), None, "{name}");
        }
    }
}
