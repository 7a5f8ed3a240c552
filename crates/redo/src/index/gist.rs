//! Records of the `Gist` resource manager.
//!
//! Follows `gistxlog.c`, `gist.h` and `gistutil.c`. Which block a reference's id means, and the main data:
//!
//! | record      | 0            | 1           | 2 ..        | main data                                               |
//! |-------------|--------------|-------------|-------------|---------------------------------------------------------|
//! | PAGE_UPDATE | page         | split child |             | deleted 2, inserted 2                                   |
//! | DELETE      | leaf         |             |             | xid 4, deleted 2, their numbers 2 each                  |
//! | PAGE_SPLIT  | split child  | first page  | other pages | right link 4, pad 4, nsn 8, leaf 1, pad 1, pages 2, follow right 1 |
//! | PAGE_DELETE | deleted page | its parent  |             | full xid 8, number of the parent's item 2               |
//!
//! A split child is the left half of an earlier split whose right half gets its downlink by this record. It loses its
//! follow-right flag and gets the record's end as its NSN, *after* Postgres has logged its image: the image lacks both,
//! and restoring it is not all there is to do.
//!
//! Not here: PAGE_REUSE and ASSIGN_LSN change no page.

use types::{BLOCK_SIZE, BlockNumber, Lsn, PAGE_HEADER_SIZE};
use wal::{BlockRef, Record};

use crate::Fault;
use crate::bytes::{Done, array_at, array_at_mut, slice_at, u8_at, u16_at, u32_at};
use crate::index::tuple::tuple_len;
use crate::page::compact::{delete_index_item, delete_index_items, overwrite_index_item};
use crate::page::{self, Numbering, PageBytes, add_item, max_offset};
use crate::step::{Effect, Step};

const PAGE_UPDATE: u8 = 0x00;
const DELETE: u8 = 0x10;
const PAGE_SPLIT: u8 = 0x30;
const PAGE_DELETE: u8 = 0x60;

/// `F_LEAF`
pub(crate) const LEAF: u16 = 0x0001;
/// `F_DELETED`
const DELETED: u16 = 0x0002;
/// `F_TUPLES_DELETED`, which redo of older minors sets where tuples of a leaf are deleted: 15.18 does, 15.20 does not.
/// Nothing reads it; it stays where an image has it, and is not set here.
pub(crate) const TUPLES_DELETED: u16 = 0x0004;
/// `F_FOLLOW_RIGHT`: the page to the right has no downlink yet.
pub(crate) const FOLLOW_RIGHT: u16 = 0x0008;
/// `F_HAS_GARBAGE`, a hint.
pub(crate) const HAS_GARBAGE: u16 = 0x0010;

/// Bytes of the special area (`GISTPageOpaqueData`).
const SPECIAL_SIZE: usize = 16;
/// `GIST_PAGE_ID`
const PAGE_ID: u16 = 0xFF81;
/// `GIST_ROOT_BLKNO`
const ROOT: BlockNumber = BlockNumber::new(0);
/// `InvalidBlockNumber`
const NO_BLOCK: u32 = u32::MAX;

/// A page's special area, to change: NSN 8 | right link 4 | flags 2 | page id 2.
pub(crate) struct Opaque<'a>(&'a mut [u8; SPECIAL_SIZE]);

impl<'a> Opaque<'a> {
    /// The special area of `page`.
    pub(crate) fn of(page: &'a mut PageBytes) -> Result<Self, Fault> {
        if page::special(page) != BLOCK_SIZE - SPECIAL_SIZE {
            return Err(Fault::Malformed("not a GiST page"));
        }
        array_at_mut(page, BLOCK_SIZE - SPECIAL_SIZE).map(Self)
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[12], self.0[13]])
    }

    pub(crate) fn set_flags(&mut self, set: u16, clear: u16) {
        [self.0[12], self.0[13]] = (self.flags() & !clear | set).to_le_bytes();
    }

    /// Sets the node sequence number, which is stored as an LSN is: high half first.
    pub(crate) fn set_nsn(&mut self, nsn: u64) {
        [self.0[0], self.0[1], self.0[2], self.0[3]] = ((nsn >> 32) as u32).to_le_bytes();
        [self.0[4], self.0[5], self.0[6], self.0[7]] = (nsn as u32).to_le_bytes();
    }

    fn set_right_link(&mut self, block: u32) {
        [self.0[8], self.0[9], self.0[10], self.0[11]] = block.to_le_bytes();
    }

    fn set_page_id(&mut self) {
        [self.0[14], self.0[15]] = PAGE_ID.to_le_bytes();
    }
}

/// Applies a `Gist` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match (step.record.op(), step.block.id) {
        (PAGE_UPDATE, 1) | (PAGE_SPLIT, 0) => complete_split(step.page, step.end),
        (PAGE_UPDATE, 0) => update(step),
        (DELETE, 0) => delete(step),
        (PAGE_SPLIT, _) => split(step),
        (PAGE_DELETE, 0) => delete_page(step),
        (PAGE_DELETE, 1) => delete_index_item(step.page, u16_at(step.record.main, 8)?),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

/// What remains to be done to `page`, which was just restored from `block`'s image (`gistRedoClearFollowRight`).
pub(crate) fn amend_image(record: &Record<'_>, block: &BlockRef<'_>, page: &mut PageBytes, end: Lsn) -> Done {
    match (record.op(), block.id) {
        (PAGE_UPDATE, 1) | (PAGE_SPLIT, 0) => complete_split(page, end),
        _ => Ok(()),
    }
}

fn complete_split(left_half: &mut PageBytes, end: Lsn) -> Done {
    let mut opaque = Opaque::of(left_half)?;
    opaque.set_nsn(end.raw());
    opaque.set_flags(0, FOLLOW_RIGHT);
    Ok(())
}

/// Block data: numbers of deleted items 2 each, then the new tuples. One for one is replaced in place.
fn update(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (deleted, inserted) = (usize::from(u16_at(main, 0)?), u16_at(main, 2)?);
    let data = step.block.data;
    let mut tuples = data.get(deleted * 2..).unwrap_or_default();
    if (deleted, inserted) == (1, 1) {
        let (tuple, rest) = split_tuple(tuples)?;
        overwrite_index_item(step.page, u16_at(data, 0)?, tuple)?;
        tuples = rest;
    } else if deleted > 0 {
        delete_index_items(step.page, slice_at(data, 0, deleted * 2)?)?;
    }
    append_tuples(step.page, tuples)
}

fn delete(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let deleted = usize::from(u16_at(main, 4)?);
    // Since 16 a flag of a catalog's index and its padding are in between.
    let numbers_at = if step.cx.major >= 16 { 8 } else { 6 };
    if main.len() > numbers_at {
        delete_index_items(step.page, slice_at(main, numbers_at, deleted * 2)?)?;
    }
    Opaque::of(step.page)?.set_flags(0, HAS_GARBAGE);
    Ok(())
}

/// One of the pages a page is split into. Block data: count 4, then its tuples.
fn split(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (right_link, nsn) = (u32_at(main, 0)?, u64::from_le_bytes(array_at(main, 8)?));
    let (is_leaf, pages, follow_right) = (u8_at(main, 16)? != 0, u16_at(main, 18)?, u8_at(main, 20)? != 0);
    let is_last = u16::from(step.block.id) == pages;
    let next_id = u16::from(step.block.id) + 1;
    let next = if is_last {
        right_link
    } else {
        let next = u8::try_from(next_id).ok().and_then(|id| step.record.block(id));
        next.ok_or(Fault::Malformed("a split without its next page"))?.block.get()
    };
    let is_root = step.block.block == ROOT;
    let is_root_split = step.record.block(1).is_some_and(|first| first.block == ROOT);

    page::init(step.page, SPECIAL_SIZE);
    append_tuples(step.page, step.block.data.get(4..).unwrap_or_default())?;
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_page_id();
    opaque.set_nsn(nsn);
    opaque.set_right_link(if is_root { NO_BLOCK } else { next });
    opaque.set_flags(if is_leaf && !is_root { LEAF } else { 0 }, 0);
    if follow_right && !is_last && !is_root_split {
        opaque.set_flags(FOLLOW_RIGHT, 0);
    }
    Ok(())
}

/// A page that is no longer in the tree keeps only the transaction that deleted it (`GistPageSetDeleted`).
fn delete_page(step: &mut Step<'_, '_>) -> Done {
    let full_xid: [u8; 8] = array_at(step.record.main, 0)?;
    Opaque::of(step.page)?.set_flags(DELETED, 0);
    *array_at_mut(step.page, PAGE_HEADER_SIZE)? = full_xid;
    page::set_lower(step.page, PAGE_HEADER_SIZE + full_xid.len());
    Ok(())
}

/// Adds `tuples`, which follow each other without padding, after the items that are there (`gistfillbuffer`).
fn append_tuples(page: &mut PageBytes, mut tuples: &[u8]) -> Done {
    while !tuples.is_empty() {
        let (tuple, rest) = split_tuple(tuples)?;
        let next = max_offset(page) + 1;
        add_item(page, next, tuple, Numbering::Index)?;
        tuples = rest;
    }
    Ok(())
}

/// The index tuple at the start of `data`, and what follows.
fn split_tuple(data: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let len = tuple_len(data)?;
    if len == 0 {
        return Err(Fault::Malformed("an index tuple's length is wrong"));
    }
    data.split_at_checked(len).ok_or(Fault::Malformed("an index tuple is cut off"))
}
