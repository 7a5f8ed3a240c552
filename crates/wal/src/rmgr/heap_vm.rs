//! Heap records that clear visibility map bits: the map's page is changed without being referenced.
//!
//! Follows the flags of `access/heapam_xlog.h` and the `heap_xlog_*` functions in `heapam.c`. `VISIBLE`, which sets
//! bits, references the map's page and needs nothing here.
//!
//! | record                     | flag at | old page's bits | new page's bits |
//! |----------------------------|--------:|-----------------|-----------------|
//! | Heap INSERT                |       2 |                 | flag 1          |
//! | Heap DELETE                |       7 | flag 1          |                 |
//! | Heap UPDATE, HOT_UPDATE    |       7 | flag 1          | flag 2          |
//! | Heap LOCK                  |       7 | flag 1 (frozen) |                 |
//! | Heap2 MULTI_INSERT         |       0 |                 | flag 1          |
//! | Heap2 LOCK_UPDATED         |       7 | flag 1 (frozen) |                 |
//!
//! The new page is block reference 0; the old one is reference 1 of an update that left its page, else 0.
//!
//! Since 15.19, 16.15, 17.11 and 18.6 a record references the map's page if a bit was set there; then it is reported as a
//! referenced block and not once more.
//!
//! Not here: which bits (`redo`).

use types::{BLOCK_SIZE, BlockNumber, Fork, PAGE_HEADER_SIZE, RelFork};

use crate::bytes::u8_at;
use crate::{BlockChange, BlockRef, Change, Record, RmgrId, WalError};

/// Heap blocks that one page of the visibility map covers, two bits each (`HEAPBLOCKS_PER_PAGE`).
pub const HEAP_BLOCKS_PER_PAGE: u32 = (BLOCK_SIZE - PAGE_HEADER_SIZE) as u32 * 4;

const OP_MASK: u8 = 0x70;
const HEAP_INSERT: u8 = 0x00;
const HEAP_DELETE: u8 = 0x10;
const HEAP_UPDATE: u8 = 0x20;
const HEAP_HOT_UPDATE: u8 = 0x40;
const HEAP_LOCK: u8 = 0x60;
const HEAP2_MULTI_INSERT: u8 = 0x50;
const HEAP2_LOCK_UPDATED: u8 = 0x60;

const OLD_OR_ONLY: u8 = 1;
const UPDATE_NEW: u8 = 2;

/// Where a record's flags are, and whether it has an old and a new page.
struct Flags {
    at: usize,
    update: bool,
}

fn flags_of(record: &Record<'_>) -> Option<Flags> {
    let (at, update) = match (record.rmgr, record.info & OP_MASK) {
        (RmgrId::HEAP, HEAP_INSERT) => (2, false),
        (RmgrId::HEAP, HEAP_DELETE | HEAP_LOCK) => (7, false),
        (RmgrId::HEAP, HEAP_UPDATE | HEAP_HOT_UPDATE) => (7, true),
        (RmgrId::HEAP2, HEAP2_MULTI_INSERT) => (0, false),
        (RmgrId::HEAP2, HEAP2_LOCK_UPDATED) => (7, false),
        _ => return None,
    };
    Some(Flags { at, update })
}

/// The page of the visibility map that covers heap block `heap`.
pub fn map_block(heap: BlockNumber) -> BlockNumber {
    BlockNumber::new(heap.get() / HEAP_BLOCKS_PER_PAGE)
}

/// Reports the map pages that a `Heap` or `Heap2` record changes without referencing them.
pub(crate) fn changes<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let Some(Flags { at, update }) = flags_of(record) else { return Ok(()) };
    let flags = u8_at(record.main, at).ok_or_else(|| record.malformed("shorter than its fields"))?;
    let clears_old = flags & OLD_OR_ONLY != 0;
    let clears_new = update && flags & UPDATE_NEW != 0;
    if !clears_old && !clears_new {
        return Ok(());
    }
    let new = record.block(0).ok_or_else(|| record.malformed("no block reference 0"))?;
    let old = if update { record.block(1).unwrap_or(new) } else { new };
    let rel = RelFork { rel: new.rel.rel, fork: Fork::Visibility };
    let mut report = |heap: &BlockRef<'a>| {
        let block = map_block(heap.block);
        if !record.blocks().any(|referenced| referenced.rel == rel && referenced.block == block) {
            sink(Change::Block { rel, block, how: BlockChange::Modifies });
        }
    };
    if clears_old {
        report(old);
    }
    if clears_new && !(clears_old && map_block(old.block) == map_block(new.block)) {
        report(new);
    }
    Ok(())
}
