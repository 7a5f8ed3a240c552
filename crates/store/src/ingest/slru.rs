//! Which pages of an SLRU a truncation removes.
//!
//! Follows `SimpleLruTruncate`, `SlruMayDeleteSegment` and the `PagePrecedes` functions of `clog.c`, `commit_ts.c` and
//! `multixact.c`: positions are compared on a circle of 2^32 items.

use types::{SLRU_PAGES_PER_SEGMENT, SlruKind};

const fn items_per_page(kind: SlruKind) -> u32 {
    match kind {
        SlruKind::Clog => 8192 * 4,
        SlruKind::MultiXactOffsets => 8192 / 4,
        SlruKind::MultiXactMembers => 8192 / 20 * 4,
        SlruKind::CommitTs => 8192 / 10,
    }
}

/// True if every item of page `a` is before every item of page `b`.
fn precedes(kind: SlruKind, a: u32, b: u32) -> bool {
    let items = items_per_page(kind);
    let (a, b) = (a.wrapping_mul(items), b.wrapping_mul(items));
    let before = |x: u32, y: u32| (x.wrapping_sub(y) as i32) < 0;
    before(a, b) && before(a, b.wrapping_add(items - 1))
}

/// True if `page` is gone after a truncation to `cutoff`: its whole segment is before the one that holds `cutoff`.
pub(crate) fn is_truncated(kind: SlruKind, page: u32, cutoff: u32) -> bool {
    let first = page - page % SLRU_PAGES_PER_SEGMENT;
    let last = first + (SLRU_PAGES_PER_SEGMENT - 1);
    let cutoff = cutoff - cutoff % SLRU_PAGES_PER_SEGMENT;
    precedes(kind, first, cutoff) && precedes(kind, last, cutoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_before_the_cutoffs_go() {
        for kind in SlruKind::ALL {
            assert!(is_truncated(kind, 0, 32), "{kind:?}");
            assert!(is_truncated(kind, 31, 63), "{kind:?}");
            assert!(!is_truncated(kind, 32, 63), "{kind:?}");
            assert!(!is_truncated(kind, 0, 31), "{kind:?}");
            assert!(!is_truncated(kind, 64, 32), "{kind:?}");
        }
    }

    #[test]
    fn after_a_wrap_old_pages_at_the_top_go_and_new_ones_at_the_bottom_stay() {
        let top = u32::MAX / (8192 * 4) / 32 * 32;
        assert!(is_truncated(SlruKind::Clog, top, 64));
        assert!(!is_truncated(SlruKind::Clog, 0, top));
    }
}
