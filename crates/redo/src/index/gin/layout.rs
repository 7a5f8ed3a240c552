//! What GIN pages hold: the special area, the metapage's content, index tuples one after another.
//!
//! ```text
//!  special area:  right 4 | max offset 2 | flags 2
//!  data page:     header 24 | right bound 6, pad 2 | content .. | free space | special area 8
//! ```
//!
//! The max offset counts the items of an inner data page, the heap rows of a list page, and the items of a data leaf
//! that is not compressed. A page with the flag `DATA` belongs to a posting tree, `LIST` to the pending list; the rest
//! is the tree of entries, whose pages hold index tuples.
//!
//! Follows `access/ginblock.h`, `GinInitPage` and `GinInitMetabuffer` in `ginutil.c`.
//!
//! Not here: the content of data pages (`data`).

use types::{BLOCK_SIZE, PAGE_HEADER_SIZE};

use crate::Fault;
use crate::bytes::{Done, array_at_mut, put, slice_at};
use crate::index::tuple::tuple_len;
use crate::page::{self, Numbering, PageBytes, add_item};

/// Bytes of the special area (`GinPageOpaqueData`).
pub(crate) const SPECIAL_SIZE: usize = 8;
/// Where the special area of every GIN page begins.
pub(crate) const SPECIAL_AT: usize = BLOCK_SIZE - SPECIAL_SIZE;
/// Bytes of `GinMetaPageData`.
pub(crate) const META_SIZE: usize = 56;
/// Bytes of an index tuple's header (`IndexTupleData`), which is the least a tuple has.
const TUPLE_HEADER_SIZE: usize = 8;
/// `InvalidBlockNumber`
pub(crate) const NO_BLOCK: u32 = u32::MAX;

pub(crate) const DATA: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const DELETED: u16 = 0x04;
pub(crate) const META: u16 = 0x08;
pub(crate) const LIST: u16 = 0x10;
pub(crate) const LIST_FULL_ROW: u16 = 0x20;
pub(crate) const INCOMPLETE_SPLIT: u16 = 0x40;
pub(crate) const COMPRESSED: u16 = 0x80;

/// A page's special area, to change.
pub(crate) struct Opaque<'a>(&'a mut [u8; SPECIAL_SIZE]);

impl<'a> Opaque<'a> {
    /// The special area of `page`.
    pub(crate) fn of(page: &'a mut PageBytes) -> Result<Self, Fault> {
        if page::special(page) != SPECIAL_AT {
            return Err(Fault::Malformed("not a GIN page"));
        }
        array_at_mut(page, SPECIAL_AT).map(Self)
    }

    pub(crate) fn max_offset(&self) -> u16 {
        u16::from_le_bytes([self.0[4], self.0[5]])
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[6], self.0[7]])
    }

    pub(crate) fn set_right(&mut self, block: u32) {
        [self.0[0], self.0[1], self.0[2], self.0[3]] = block.to_le_bytes();
    }

    pub(crate) fn set_max_offset(&mut self, count: u16) {
        [self.0[4], self.0[5]] = count.to_le_bytes();
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        [self.0[6], self.0[7]] = flags.to_le_bytes();
    }
}

/// An empty page without a right sibling (`GinInitPage`).
pub(crate) fn init(page: &mut PageBytes, flags: u16) -> Done {
    page::init(page, SPECIAL_SIZE);
    let mut opaque = Opaque::of(page)?;
    opaque.set_right(NO_BLOCK);
    opaque.set_flags(flags);
    Ok(())
}

/// The metapage with `meta`, which is its whole content.
pub(crate) fn init_meta(page: &mut PageBytes, meta: &[u8; META_SIZE]) -> Done {
    init(page, META)?;
    put(page, PAGE_HEADER_SIZE, meta)?;
    page::set_lower(page, PAGE_HEADER_SIZE + META_SIZE);
    Ok(())
}

/// Adds `count` tuples, which are all of `tuples`, after the items of the page.
pub(crate) fn append_tuples(page: &mut PageBytes, count: i32, tuples: &[u8]) -> Done {
    let mut at = 0;
    for _ in 0..count {
        let len = tuple_len(tuples.get(at..).unwrap_or_default())?;
        if len < TUPLE_HEADER_SIZE {
            return Err(BAD_TUPLES);
        }
        let next = page::max_offset(page) + 1;
        add_item(page, next, slice_at(tuples, at, len)?, Numbering::Index)?;
        at += len;
    }
    if at == tuples.len() { Ok(()) } else { Err(BAD_TUPLES) }
}

const BAD_TUPLES: Fault = Fault::Malformed("index tuples do not have the lengths they say");
