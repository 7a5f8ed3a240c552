//! Files of relations made and cut.
//!
//! Follows `smgr_redo` in `storage.c` and `visibilitymap_prepare_truncate` in `visibilitymap.c`.
//!
//! ```text
//! CREATE    | relation 12 | fork 4 |
//! TRUNCATE  | heap blocks 4 | relation 12 | flags 4: 1 main, 2 visibility map, 4 free space map |
//! ```
//!
//! Not here: files that go with a transaction (`xact`).

use types::{BlockNumber, Fork, RelFork, RelTag};

use crate::bytes::u32_at;
use crate::rmgr::heap_vm::HEAP_BLOCKS_PER_PAGE;
use crate::{BlockChange, Change, Record, WalError};

const CREATE: u8 = 0x10;
const TRUNCATE: u8 = 0x20;

const TRUNCATE_HEAP: u32 = 1;
const TRUNCATE_VM: u32 = 2;

/// Reports what a `Storage` record changes.
pub(crate) fn changes<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let short = || record.malformed("shorter than its fields");
    match record.op() {
        CREATE => {
            let rel = relation_at(record.main, 0).ok_or_else(short)?;
            let fork = u32_at(record.main, 12).ok_or_else(short)?;
            let fork = u8::try_from(fork).ok().and_then(Fork::from_raw);
            let fork = fork.ok_or_else(|| record.malformed("no such fork"))?;
            if fork != Fork::FreeSpace {
                sink(Change::ForkCreated(RelFork { rel, fork }));
            }
        }
        TRUNCATE => truncated(record, sink).ok_or_else(short)?,
        _ => return Err(record.unknown()),
    }
    Ok(())
}

fn truncated<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Option<()> {
    let blocks = u32_at(record.main, 0)?;
    let rel = relation_at(record.main, 4)?;
    let flags = u32_at(record.main, 16)?;
    if flags & TRUNCATE_HEAP != 0 {
        sink(Change::ForkTruncated { rel: RelFork { rel, fork: Fork::Main }, blocks });
    }
    if flags & TRUNCATE_VM != 0 {
        let map = RelFork { rel, fork: Fork::Visibility };
        sink(Change::ForkTruncated { rel: map, blocks: blocks.div_ceil(HEAP_BLOCKS_PER_PAGE) });
        if blocks % HEAP_BLOCKS_PER_PAGE != 0 {
            // Bits of the cut heap blocks on the last page that stays; else they would speak for blocks added later.
            let block = BlockNumber::new(blocks / HEAP_BLOCKS_PER_PAGE);
            sink(Change::Block { rel: map, block, how: BlockChange::Modifies });
        }
    }
    Some(())
}

fn relation_at(bytes: &[u8], at: usize) -> Option<RelTag> {
    Some(RelTag {
        tablespace: u32_at(bytes, at)?,
        database: u32_at(bytes, at + 4)?,
        relation: u32_at(bytes, at + 8)?,
    })
}
