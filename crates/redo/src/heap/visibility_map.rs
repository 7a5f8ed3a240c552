//! The visibility map: two bits a heap block, all-visible and all-frozen.
//!
//! Follows `visibilitymap.c` and `heap_xlog_vm_clear` in `heapam.c`. Bits are set by HEAP2_VISIBLE, which refers to the
//! map's page. They are cleared by heap records with a flag. Minors since 15.19, 16.15, 17.11 and 18.6 refer to the map's
//! page if a bit was set there; then its LSN counts as that of any page. Otherwise the map's page is found from the
//! heap block, is changed whatever its LSN, and keeps its LSN. A bit set in error makes queries wrong; a bit cleared in error
//! only makes them slower.

use types::{BLOCK_SIZE, BlockNumber, Lsn, PAGE_HEADER_SIZE, RelTag};
use wal::{BlockRef, Record, RmgrId};

use crate::bytes::{Done, u8_at, u32_at};
use crate::heap::heap2::{LOCK_UPDATED, MULTI_INSERT, VISIBLE};
use crate::heap::op::{DELETE, HOT_UPDATE, INSERT, LOCK, OP_MASK, UPDATE};
use crate::heap::update::{NEW_ALL_VISIBLE_CLEARED, OLD_ALL_VISIBLE_CLEARED};
use crate::page::{self, PageBytes};
use crate::{Fault, bytes};

/// `VISIBILITYMAP_VALID_BITS`
const ALL_BITS: u8 = 0x03;
/// `VISIBILITYMAP_ALL_FROZEN`
const FROZEN_BIT: u8 = 0x02;
/// Heap blocks a page of the map covers (`HEAPBLOCKS_PER_PAGE`).
const HEAP_BLOCKS_PER_PAGE: u32 = (BLOCK_SIZE - PAGE_HEADER_SIZE) as u32 * 4;

const SMGR_TRUNCATE: u8 = 0x20;
/// `SMGR_TRUNCATE_VM`
const TRUNCATE_MAP: u32 = 0x02;

/// Where a heap block's bits are.
struct MapBits {
    map_block: u32,
    /// Index of the byte in the page.
    byte: usize,
    /// Lowest bit in the byte.
    shift: u32,
}

impl MapBits {
    fn of(heap_block: u32) -> Self {
        let in_page = heap_block % HEAP_BLOCKS_PER_PAGE;
        Self {
            map_block: heap_block / HEAP_BLOCKS_PER_PAGE,
            byte: PAGE_HEADER_SIZE + (in_page / 4) as usize,
            shift: in_page % 4 * 2,
        }
    }
}

/// Applies a record that refers to the map's page, without an image of it.
pub(crate) fn apply_referenced(
    block: &BlockRef<'_>,
    page: &mut PageBytes,
    record: &Record<'_>,
    end: Lsn,
) -> Done {
    let sets = record.rmgr == RmgrId::HEAP2 && record.info & OP_MASK == VISIBLE;
    if !sets && !matches!(record.rmgr, RmgrId::HEAP | RmgrId::HEAP2) {
        return Err(Fault::Unsupported);
    }
    initialise(page);
    if page::lsn(page) >= Some(end) {
        return Ok(());
    }
    if !sets {
        return clear_referenced(block, page, record, end);
    }
    let heap_block = record.block(1).ok_or(Fault::Malformed("no heap block"))?.block;
    let flags = u8_at(record.main, 4)? & ALL_BITS;
    let place = MapBits::of(heap_block.get());
    if place.map_block != block.block.get() {
        return Err(Fault::Malformed("the heap block's bits are on another page of the map"));
    }
    let [byte] = bytes::array_at_mut::<1>(page, place.byte)?;
    if *byte >> place.shift & ALL_BITS != flags {
        *byte |= flags << place.shift;
        page::set_lsn(page, end);
    }
    Ok(())
}

/// Clears the bits of all heap blocks of `record` that are on this page of the map.
fn clear_referenced(block: &BlockRef<'_>, page: &mut PageBytes, record: &Record<'_>, end: Lsn) -> Done {
    let mut changed = false;
    for (heap, bits) in cleared(record)?.into_iter().flatten() {
        let place = MapBits::of(heap.block.get());
        if place.map_block == block.block.get() {
            let [byte] = bytes::array_at_mut::<1>(page, place.byte)?;
            changed |= *byte >> place.shift & bits != 0;
            *byte &= !(bits << place.shift);
        }
    }
    if changed {
        page::set_lsn(page, end);
    }
    Ok(())
}

/// Applies a record that does not refer to block `block` of `rel`'s map but clears bits there.
pub(crate) fn apply_unreferenced(
    rel: RelTag,
    block: BlockNumber,
    page: &mut PageBytes,
    record: &Record<'_>,
) -> Done {
    if record.rmgr == RmgrId::SMGR && record.op() == SMGR_TRUNCATE {
        return truncate(rel, block, page, record);
    }
    let mut touched = false;
    for (heap, bits) in cleared(record)?.into_iter().flatten() {
        let place = MapBits::of(heap.block.get());
        if heap.rel.rel == rel && place.map_block == block.get() {
            initialise(page);
            let [byte] = bytes::array_at_mut::<1>(page, place.byte)?;
            *byte &= !(bits << place.shift);
            touched = true;
        }
    }
    if touched { Ok(()) } else { Err(Fault::Untouched) }
}

/// The heap blocks whose bits a record clears, and which bits.
fn cleared<'a, 'r>(record: &'a Record<'r>) -> Result<[Option<(&'a BlockRef<'r>, u8)>; 2], Fault> {
    let main = record.main;
    let block = |id| record.block(id);
    let (flag, bits) = match (record.rmgr, record.info & OP_MASK) {
        (RmgrId::HEAP, UPDATE | HOT_UPDATE) => {
            let flags = u8_at(main, 7)?;
            let old = block(1).or(block(0)).filter(|_| flags & OLD_ALL_VISIBLE_CLEARED != 0);
            let new = block(0).filter(|_| flags & NEW_ALL_VISIBLE_CLEARED != 0);
            return Ok([old, new].map(|heap| heap.map(|heap| (heap, ALL_BITS))));
        }
        (RmgrId::HEAP, INSERT) => (u8_at(main, 2)?, ALL_BITS),
        (RmgrId::HEAP, DELETE) => (u8_at(main, 7)?, ALL_BITS),
        (RmgrId::HEAP, LOCK) | (RmgrId::HEAP2, LOCK_UPDATED) => (u8_at(main, 7)?, FROZEN_BIT),
        (RmgrId::HEAP2, MULTI_INSERT) => (u8_at(main, 0)?, ALL_BITS),
        _ => return Err(Fault::Untouched),
    };
    Ok([block(0).filter(|_| flag & 1 != 0).map(|heap| (heap, bits)), None])
}

/// Clears the bits of heap blocks past the heap's new end (`visibilitymap_prepare_truncate`).
/// Main data: new length 4, relation 12, flags 4.
fn truncate(rel: RelTag, block: BlockNumber, page: &mut PageBytes, record: &Record<'_>) -> Done {
    let main = record.main;
    let truncated =
        RelTag { tablespace: u32_at(main, 4)?, database: u32_at(main, 8)?, relation: u32_at(main, 12)? };
    let place = MapBits::of(u32_at(main, 0)?);
    if u32_at(main, 16)? & TRUNCATE_MAP == 0 || truncated != rel || place.map_block != block.get() {
        return Err(Fault::Untouched);
    }
    initialise(page);
    let (last, rest) = page
        .get_mut(place.byte..)
        .and_then(|tail| tail.split_first_mut())
        .ok_or(Fault::Malformed("the map's page ends before the block's bits"))?;
    *last &= (1 << place.shift) - 1;
    rest.fill(0);
    Ok(())
}

fn initialise(page: &mut PageBytes) {
    if page::is_new(page) {
        page::init(page, 0);
    }
}
