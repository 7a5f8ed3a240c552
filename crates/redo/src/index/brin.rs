//! Records of the `BRIN` resource manager.
//!
//! ```text
//!  metapage:     magic 4 | version 4 | pages per range 4 | last revmap page 4
//!  revmap page:  tid 6 | tid 6 | ..    one for each range of heap pages, where its summary is; free space says nothing
//!  regular page: summaries, whose line pointers stay where they are
//!  special area: 4 | flags 2 | page type 2
//! ```
//!
//! Follows `brin_xlog.c`, `brin_metapage_init` and `brin_page_init` in `brin_pageops.c`, and `brinSetHeapBlockItemptr`
//! in `brin_revmap.c`. What a reference's id means differs by record:
//!
//! | record          | 0             | 1            | 2             | main data                                       |
//! |-----------------|---------------|--------------|---------------|-------------------------------------------------|
//! | CREATE_INDEX    | metapage      |              |               | pages per range 4, version 2                    |
//! | INSERT          | regular page  | revmap page  |               | heap block 4, pages per range 4, item 2         |
//! | UPDATE          | regular page  | revmap page  | old page      | old item 2, pad 2, the same as INSERT           |
//! | SAMEPAGE_UPDATE | regular page  |              |               | item 2                                          |
//! | REVMAP_EXTEND   | metapage      | revmap page  |               | revmap page 4                                   |
//! | DESUMMARIZE     | revmap page   | regular page |               | pages per range 4, heap block 4, item 2         |

use types::PAGE_HEADER_SIZE;

use crate::Fault;
use crate::bytes::{Done, put, put_u16, put_u32, u16_at, u32_at};
use crate::page::compact::{delete_index_item_in_place, overwrite_index_item};
use crate::page::{self, Numbering, PageBytes, add_item};
use crate::step::{Effect, Step};

/// Bits of `info` that say which record it is (`XLOG_BRIN_OPMASK`).
const OP_MASK: u8 = 0x70;
/// The record begins a new page (`XLOG_BRIN_INIT_PAGE`).
const INIT_PAGE: u8 = 0x80;

const CREATE_INDEX: u8 = 0x00;
const INSERT: u8 = 0x10;
const UPDATE: u8 = 0x20;
const SAMEPAGE_UPDATE: u8 = 0x30;
const REVMAP_EXTEND: u8 = 0x40;
const DESUMMARIZE: u8 = 0x50;

/// Bytes of the special area (`BrinSpecialSpace`).
const SPECIAL_SIZE: usize = 8;
/// Where in the special area the flags are.
pub(crate) const FLAGS_AT: usize = 4;
/// Where in the special area the page type is.
const TYPE_AT: usize = 6;
/// `BRIN_PAGETYPE_META`
pub(crate) const META: u16 = 0xF091;
/// `BRIN_PAGETYPE_REVMAP`
const REVMAP: u16 = 0xF092;
/// `BRIN_PAGETYPE_REGULAR`
pub(crate) const REGULAR: u16 = 0xF093;
/// `BRIN_EVACUATE_PAGE`: nothing new may come here, the page is to become a revmap page. Not logged.
pub(crate) const EVACUATE: u8 = 0x01;

/// `BRIN_META_MAGIC`
const META_MAGIC: u32 = 0xA810_9CFA;
/// Bytes of `BrinMetaPageData`.
const META_SIZE: usize = 16;
const LAST_REVMAP_PAGE_AT: usize = PAGE_HEADER_SIZE + 12;

/// Bytes of a tuple id (`ItemPointerData`).
const TID_SIZE: usize = 6;
/// Tuple ids on a revmap page (`REVMAP_PAGE_MAXITEMS`).
const TIDS_PER_PAGE: u32 = 1360;
/// The tuple id of a range that has no summary (`ItemPointerSetInvalid`).
const NO_TID: [u8; TID_SIZE] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0];

/// Applies a `BRIN` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    let main = step.record.main;
    match (step.record.info & OP_MASK, step.block.id) {
        (CREATE_INDEX, 0) => init_meta(step),
        (INSERT, 0) => insert(step, Inserted::at(main, 0)?),
        (UPDATE, 0) => insert(step, Inserted::at(main, 4)?),
        (INSERT, 1) => point_to(step, Inserted::at(main, 0)?),
        (UPDATE, 1) => point_to(step, Inserted::at(main, 4)?),
        (UPDATE, 2) => delete_index_item_in_place(step.page, u16_at(main, 0)?),
        (SAMEPAGE_UPDATE, 0) => overwrite_index_item(step.page, u16_at(main, 0)?, step.block.data),
        (REVMAP_EXTEND, 0) => extend_in_meta(step),
        (REVMAP_EXTEND, 1) => init(step.page, REVMAP),
        (DESUMMARIZE, 0) => set_tid(step.page, u32_at(main, 0)?, u32_at(main, 4)?, NO_TID),
        (DESUMMARIZE, 1) => delete_index_item_in_place(step.page, u16_at(main, 8)?),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

/// What the page is for (`BrinPageType`); 0 if its special area is not where one is.
pub(crate) fn page_type(page: &PageBytes) -> u16 {
    u16_at(page, page::special(page) + TYPE_AT).unwrap_or(0)
}

/// Where a new summary went (`xl_brin_insert`).
struct Inserted {
    heap_block: u32,
    pages_per_range: u32,
    item: u16,
}

impl Inserted {
    fn at(main: &[u8], at: usize) -> Result<Self, Fault> {
        let (heap_block, pages_per_range) = (u32_at(main, at)?, u32_at(main, at + 4)?);
        Ok(Self { heap_block, pages_per_range, item: u16_at(main, at + 8)? })
    }
}

fn init_meta(step: &mut Step<'_, '_>) -> Done {
    let (pages_per_range, version) = (u32_at(step.record.main, 0)?, u16_at(step.record.main, 4)?);
    init(step.page, META)?;
    for (index, field) in [META_MAGIC, u32::from(version), pages_per_range, 0].into_iter().enumerate() {
        put_u32(step.page, PAGE_HEADER_SIZE + index * 4, field)?;
    }
    page::set_lower(step.page, PAGE_HEADER_SIZE + META_SIZE);
    Ok(())
}

fn insert(step: &mut Step<'_, '_>, new: Inserted) -> Done {
    if step.record.info & INIT_PAGE != 0 {
        init(step.page, REGULAR)?;
    }
    add_item(step.page, new.item, step.block.data, Numbering::Free).map(|_| ())
}

/// The revmap page's part of an insertion: the range's summary is now on the page of reference 0.
fn point_to(step: &mut Step<'_, '_>, new: Inserted) -> Done {
    let regular = step.record.blocks().find(|candidate| candidate.id == 0);
    let block = regular.ok_or(Fault::Malformed("no page for the summary"))?.block.get();
    let mut tid = NO_TID;
    if new.item != 0 {
        put_u16(&mut tid, 0, (block >> 16) as u16)?;
        put_u16(&mut tid, 2, block as u16)?;
        put_u16(&mut tid, 4, new.item)?;
    }
    set_tid(step.page, new.pages_per_range, new.heap_block, tid)
}

/// Says where the summary of the range that `heap_block` is in lies.
fn set_tid(page: &mut PageBytes, pages_per_range: u32, heap_block: u32, tid: [u8; TID_SIZE]) -> Done {
    let range = heap_block.checked_div(pages_per_range);
    let index = range.ok_or(Fault::Malformed("ranges of no pages"))? % TIDS_PER_PAGE;
    put(page, PAGE_HEADER_SIZE + index as usize * TID_SIZE, &tid)
}

fn extend_in_meta(step: &mut Step<'_, '_>) -> Done {
    put_u32(step.page, LAST_REVMAP_PAGE_AT, u32_at(step.record.main, 0)?)?;
    page::set_lower(step.page, PAGE_HEADER_SIZE + META_SIZE); // wrong in indexes made before 11
    Ok(())
}

/// An empty page of a type (`brin_page_init`).
fn init(page: &mut PageBytes, page_type: u16) -> Done {
    page::init(page, SPECIAL_SIZE);
    let at = page::special(page) + TYPE_AT;
    put_u16(page, at, page_type)
}
