//! What two copies of a page may differ in though the same records were applied to both.
//!
//! `wal_consistency_checking` puts the page after each record into the record; replay compares. Hints that are not
//! logged, and what replay does not know, are masked on both sides first. Follows `bufmask.c`, `heap_mask`,
//! `btree_mask`, `hash_mask`, `gin_mask`, `gist_mask`, `seq_mask`, `brin_mask`, `generic_mask`; `spg_mask` masks only what
//! is masked on every page. Used by tests: a page with its hints masked is of no other use.

use types::{BLOCK_SIZE, BlockNumber, PAGE_HEADER_SIZE};
use wal::RmgrId;

use crate::index::btree::layout::{HAS_GARBAGE, LEAF, Opaque, SPLIT_END};
use crate::index::{brin, gin, gist, hash};
use crate::page::{
    self, ALL_VISIBLE, HAS_FREE_LINES, ItemState, LinePointer, PAGE_FULL, PageBytes, line_pointer,
    max_offset, set_flags, set_line_pointer,
};

/// `HEAP_XACT_MASK`: all of infomask that depends on transactions.
const XACT_MASK: u16 = 0xFFF0;
/// `HEAP_XMIN_FROZEN`
const XMIN_FROZEN: u16 = 0x0300;
/// `HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID`
const XMAX_HINTS: u16 = 0x0C00;
/// `SpecTokenOffsetNumber`
const SPECULATIVE_TOKEN: u16 = 0xFFFE;

/// Masks what may differ on block `block`, which a record of `rmgr` changed. Pages of resource managers that cannot
/// be replayed are only masked as every page is.
pub fn mask(page: &mut PageBytes, rmgr: RmgrId, block: BlockNumber) {
    page[..10].fill(0); // LSN and checksum
    if ![RmgrId::SEQ, RmgrId::GENERIC].contains(&rmgr) {
        page::set_prune_xid(page, 0);
        set_flags(page, 0, HAS_FREE_LINES | PAGE_FULL | ALL_VISIBLE);
    }
    if has_free_space(page, rmgr) {
        mask_free_space(page);
    }
    match rmgr {
        RmgrId::HEAP | RmgrId::HEAP2 => mask_heap(page, block),
        RmgrId::BTREE => mask_btree(page),
        RmgrId::HASH => mask_hash(page),
        RmgrId::BRIN => mask_brin(page),
        RmgrId::GIN => mask_gin(page),
        RmgrId::GIST => mask_gist(page),
        _ => {}
    }
}

/// Whose page it is, by its special area: its size, and what access methods keep at its end to tell their pages apart.
/// A page without one is a heap's; so is one of a visibility map, which is not masked.
pub fn owner(page: &PageBytes) -> RmgrId {
    let page_id = u16::from_le_bytes([page[BLOCK_SIZE - 2], page[BLOCK_SIZE - 1]]);
    match (BLOCK_SIZE.saturating_sub(page::special(page)), page_id) {
        (16, 0xFF80) => RmgrId::HASH,
        (16, 0xFF81) => RmgrId::GIST,
        (16, _) => RmgrId::BTREE,
        (8, 0xFF82) => RmgrId::SPGIST,
        (8, 0xFF83) => RmgrId::GENERIC, // contrib/bloom
        (8, 0xF091..=0xF093) => RmgrId::BRIN,
        (8, _) if page.ends_with(&[0x17, 0x17, 0, 0, 0, 0, 0, 0]) => RmgrId::SEQ,
        (8, _) => RmgrId::GIN,
        _ => RmgrId::HEAP,
    }
}

/// Whether nothing that counts is between `lower` and `upper`. BRIN's revmap pages have their content there; so have
/// some pages of indexes made before 9.4 (GIN) or 11 (BRIN), whose `lower` is that of an empty page.
fn has_free_space(page: &PageBytes, rmgr: RmgrId) -> bool {
    let says_where = page::lower(page) > PAGE_HEADER_SIZE;
    match rmgr {
        RmgrId::GIN => says_where,
        RmgrId::BRIN => match brin::page_type(page) {
            brin::META => says_where,
            page_type => page_type == brin::REGULAR,
        },
        _ => true,
    }
}

/// Everything between line pointers and items (`mask_unused_space`).
fn mask_free_space(page: &mut PageBytes) {
    let (lower, upper, special) = (page::lower(page), page::upper(page), page::special(page));
    if PAGE_HEADER_SIZE <= lower && upper <= special && special <= BLOCK_SIZE {
        // None if it is not there.
        if let Some(free) = page.get_mut(lower..upper) {
            free.fill(0);
        }
    }
}

/// What line pointers say about items: an index's are marked dead without a record (`mask_lp_flags`).
fn mask_line_pointers(page: &mut PageBytes) {
    for number in 1..=max_offset(page) {
        let Ok(pointer) = line_pointer(page, number) else { return };
        let masked = LinePointer { state: ItemState::Unused, ..pointer };
        if set_line_pointer(page, number, masked).is_err() {
            return;
        }
    }
}

/// All but the header, and of that the bounds of free space (`mask_page_content`).
fn mask_content(page: &mut PageBytes) {
    page[PAGE_HEADER_SIZE..].fill(0);
    page::set_lower(page, 0);
    page::set_upper(page, 0);
}

fn mask_heap(page: &mut PageBytes, block: BlockNumber) {
    for number in 1..=max_offset(page) {
        let Ok(pointer) = line_pointer(page, number) else { return };
        if pointer.state == ItemState::Normal {
            mask_tuple(page, pointer.start(), block, number);
        }
        if pointer.len > 0 {
            let end = pointer.start() + usize::from(pointer.len);
            let padding = pointer.aligned_len() - usize::from(pointer.len);
            if let Some(padding) = page.get_mut(end..end + padding) {
                padding.fill(0);
            }
        }
    }
}

fn mask_tuple(page: &mut PageBytes, at: usize, block: BlockNumber, number: u16) {
    let Some(header) = page.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<23>()) else { return };
    let infomask = u16::from_le_bytes([header[20], header[21]]);
    let hints = if infomask & XMIN_FROZEN == XMIN_FROZEN { XMAX_HINTS } else { XACT_MASK };
    [header[20], header[21]] = (infomask & !hints).to_le_bytes();
    header[8..12].fill(0); // command id
    if u16::from_le_bytes([header[16], header[17]]) == SPECULATIVE_TOKEN {
        [header[12], header[13]] = ((block.get() >> 16) as u16).to_le_bytes();
        [header[14], header[15]] = (block.get() as u16).to_le_bytes();
        [header[16], header[17]] = number.to_le_bytes();
    }
}

fn mask_btree(page: &mut PageBytes) {
    let Ok(mut opaque) = Opaque::of(page) else { return };
    let flags = opaque.flags();
    opaque.set_flags(flags & !(HAS_GARBAGE | SPLIT_END));
    opaque.set_cycle_id(0);
    if flags & LEAF != 0 {
        mask_line_pointers(page);
    }
}

/// Masks one flag more than Postgres does, `F_TUPLES_DELETED`: older minors set it, and nothing reads it.
fn mask_gist(page: &mut PageBytes) {
    let Ok(mut opaque) = gist::Opaque::of(page) else { return };
    opaque.set_nsn(0);
    opaque.set_flags(gist::FOLLOW_RIGHT, gist::HAS_GARBAGE | gist::TUPLES_DELETED);
    if opaque.flags() & gist::LEAF != 0 {
        mask_line_pointers(page);
    }
}

fn mask_hash(page: &mut PageBytes) {
    let Ok(mut opaque) = hash::layout::Opaque::of(page) else { return };
    let flags = opaque.flags();
    opaque.clear_flag(hash::layout::HAS_DEAD_TUPLES);
    match flags & hash::layout::TYPE_MASK {
        hash::layout::UNUSED => mask_content(page),
        hash::layout::BUCKET | hash::layout::OVERFLOW => mask_line_pointers(page),
        _ => {}
    }
}

fn mask_gin(page: &mut PageBytes) {
    if gin::layout::Opaque::of(page).is_ok_and(|opaque| opaque.flags() & gin::layout::DELETED != 0) {
        mask_content(page);
    }
}

fn mask_brin(page: &mut PageBytes) {
    let at = page::special(page) + brin::FLAGS_AT;
    if let Some([low, _]) = page.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *low &= !brin::EVACUATE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of BRIN with one byte where other pages have free space.
    fn masked_byte(page_type: u16, lower: usize) -> u8 {
        let mut page = [0; BLOCK_SIZE];
        page::init(&mut page, 8);
        page[BLOCK_SIZE - 2..].copy_from_slice(&page_type.to_le_bytes());
        page::set_lower(&mut page, lower);
        page[100] = 1;
        mask(&mut page, RmgrId::BRIN, BlockNumber::new(1));
        page[100]
    }

    #[test]
    fn what_a_revmap_page_says_is_not_taken_for_free_space() {
        const REVMAP: u16 = 0xF092;
        assert_eq!(masked_byte(REVMAP, 24), 1);
        assert_eq!((masked_byte(brin::REGULAR, 24), masked_byte(brin::META, 40)), (0, 0));
        assert_eq!(masked_byte(brin::META, 24), 1, "a metapage of before 11 does not say where it ends");
    }
}
