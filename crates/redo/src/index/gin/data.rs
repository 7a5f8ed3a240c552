//! Pages of posting trees: inner pages with an array of items, leaves with posting lists.
//!
//! ```text
//!  inner: .. | item: child 4, last tid below it 6 | item | ..
//!  leaf:  .. | segment | segment | ..
//! ```
//!
//! A leaf is changed by naming what happens to its segments, by number and in order:
//!
//! | action     | data after number 1, action 1     | effect                             |
//! |------------|-----------------------------------|------------------------------------|
//! | 1 DELETE   |                                   | the segment goes                   |
//! | 2 INSERT   | a segment                         | it comes before the segment        |
//! | 3 REPLACE  | a segment                         | it takes the segment's place       |
//! | 4 ADDITEMS | count 2, tids 6 each              | they are merged into the segment   |
//!
//! Follows `ginRedoRecompress` in `ginxlog.c`, `GinDataPageAddPostingItem` and `GinPageDeletePostingItem` in
//! `gindatapage.c`. A leaf of before 9.4, whose tids are a plain array, becomes one segment first.

use types::PAGE_HEADER_SIZE;

use crate::Fault;
use crate::bytes::{Done, put, shift, slice_at, slice_at_mut, u8_at, u16_at};
use crate::index::gin::layout::{COMPRESSED, DATA, LEAF, Opaque, SPECIAL_AT};
use crate::index::gin::posting::{Segment, TID_SIZE, encode, merged, segment_len, tids};
use crate::page::{self, PageBytes};

/// Where the content of a data page begins, after the right bound (`GinDataPageGetData`).
const CONTENT_AT: usize = PAGE_HEADER_SIZE + 8;
/// Bytes of an inner page's item (`PostingItem`).
pub(crate) const ITEM_SIZE: usize = 10;
/// Bytes of an item's child block.
const CHILD_SIZE: usize = 4;

const DELETE: u8 = 1;
const INSERT: u8 = 2;
const REPLACE: u8 = 3;
const ADD_ITEMS: u8 = 4;

const BAD_ITEM: Fault = Fault::Malformed("the posting tree page has no item of that number");
const BAD_SEGMENT: Fault = Fault::Malformed("the posting tree leaf has no segment of that number");

/// A new root of one leaf, with segments as its content.
pub(crate) fn init_leaf(page: &mut PageBytes, segments: &[u8]) -> Done {
    crate::index::gin::layout::init(page, DATA | LEAF | COMPRESSED)?;
    let content = page.get_mut(CONTENT_AT..SPECIAL_AT).unwrap_or_default();
    put(content, 0, segments)?;
    page::set_lower(page, CONTENT_AT + segments.len());
    Ok(())
}

/// Puts `item` in the place of number `number` of an inner page; what was there moves up and now leads to
/// `right_child`, which was split off its child.
pub(crate) fn insert_item(
    page: &mut PageBytes,
    number: u16,
    item: &[u8; ITEM_SIZE],
    right_child: [u8; CHILD_SIZE],
) -> Done {
    let (at, end) = item_place(page, number)?;
    if end + ITEM_SIZE > SPECIAL_AT {
        return Err(Fault::Malformed("the item does not fit on the posting tree page"));
    }
    put(page, at, &right_child)?;
    shift(page, at, end - at, at + ITEM_SIZE)?;
    put(page, at, item)?;
    set_item_end(page, end + ITEM_SIZE)
}

/// Takes item `number` out of an inner page.
pub(crate) fn delete_item(page: &mut PageBytes, number: u16) -> Done {
    let (at, end) = item_place(page, number)?;
    shift(page, at + ITEM_SIZE, end - at - ITEM_SIZE, at)?;
    set_item_end(page, end - ITEM_SIZE)
}

/// Where item `number` begins, and where all items end.
fn item_place(page: &mut PageBytes, number: u16) -> Result<(usize, usize), Fault> {
    let count = Opaque::of(page)?.max_offset();
    let end = CONTENT_AT + usize::from(count) * ITEM_SIZE;
    if number == 0 || number > count || end > SPECIAL_AT {
        return Err(BAD_ITEM);
    }
    Ok((CONTENT_AT + (usize::from(number) - 1) * ITEM_SIZE, end))
}

fn set_item_end(page: &mut PageBytes, end: usize) -> Done {
    Opaque::of(page)?.set_max_offset(((end - CONTENT_AT) / ITEM_SIZE) as u16);
    page::set_lower(page, end);
    Ok(())
}

/// Changes the segments of a leaf. `actions`: count 2, then the actions.
pub(crate) fn recompress(page: &mut PageBytes, actions: &[u8]) -> Done {
    compress_old_format(page)?;
    let old = *page;
    let end = page::lower(&old);
    if !(CONTENT_AT..=SPECIAL_AT).contains(&end) {
        return Err(Fault::Malformed("the posting tree leaf's lower pointer is outside its content"));
    }
    let mut leaf = Leaf { old: &old, page, from: CONTENT_AT, end, to: CONTENT_AT, number: 0, moved: false };
    let mut at = 2;
    for _ in 0..u16_at(actions, 0)? {
        leaf.keep_up_to(u8_at(actions, at)?)?;
        at += 2 + leaf.act(u8_at(actions, at + 1)?, actions.get(at + 2..).unwrap_or_default())?;
    }
    let lower = leaf.keep_rest()?;
    page::set_lower(page, lower);
    Ok(())
}

/// Turns a leaf with an array of tids into one with a segment; other leaves stay as they are.
fn compress_old_format(page: &mut PageBytes) -> Done {
    let opaque = Opaque::of(page)?;
    let (flags, count) = (opaque.flags(), usize::from(opaque.max_offset()));
    if flags & COMPRESSED != 0 {
        return Ok(());
    }
    let old = *page;
    let mut len = 0;
    if count > 0 {
        let array = slice_at(&old, CONTENT_AT, count * TID_SIZE)?;
        len = encode(tids(array), slice_at_mut(page, CONTENT_AT, SPECIAL_AT - CONTENT_AT)?)?;
    }
    page::set_lower(page, CONTENT_AT + len);
    let mut opaque = Opaque::of(page)?;
    opaque.set_flags(flags | COMPRESSED);
    opaque.set_max_offset(0);
    Ok(())
}

/// A leaf while its segments are rewritten from front to back. What is not changed is written only after a change.
struct Leaf<'a> {
    /// The page before the record.
    old: &'a PageBytes,
    page: &'a mut PageBytes,
    /// Where in `old` the next segment is.
    from: usize,
    /// Where the segments of `old` end.
    end: usize,
    /// Where in `page` the next segment goes.
    to: usize,
    /// Number of the segment at `from`.
    number: u16,
    /// Something before `to` has changed.
    moved: bool,
}

impl Leaf<'_> {
    /// Keeps the segments before number `number`.
    fn keep_up_to(&mut self, number: u8) -> Done {
        while self.number < u16::from(number) {
            let len = self.segment_len()?;
            self.keep(len)?;
            self.from += len;
            self.number += 1;
        }
        if self.number == u16::from(number) {
            Ok(())
        } else {
            Err(Fault::Malformed("the actions on a posting tree leaf are not in order"))
        }
    }

    /// Keeps the segments that are left; returns where the content ends.
    fn keep_rest(&mut self) -> Result<usize, Fault> {
        self.keep(self.end - self.from)?;
        Ok(self.to)
    }

    fn keep(&mut self, len: usize) -> Done {
        let kept = slice_at(self.old, self.from, len)?;
        if self.moved { self.write(kept) } else { self.advance(len) }
    }

    /// Carries out an action on the segment at `from`; returns how many bytes of `data` belong to it.
    fn act(&mut self, action: u8, data: &[u8]) -> Result<usize, Fault> {
        self.moved = true;
        match action {
            DELETE => {
                self.drop_segment()?;
                Ok(0)
            }
            INSERT | REPLACE => {
                let len = segment_len(data, 0)?;
                if action == REPLACE {
                    self.drop_segment()?;
                }
                self.write(slice_at(data, 0, len)?)?;
                Ok(len)
            }
            ADD_ITEMS => {
                let len = usize::from(u16_at(data, 0)?) * TID_SIZE;
                self.add_items(slice_at(data, 2, len)?)?;
                Ok(2 + len)
            }
            _ => Err(Fault::Malformed("unexpected action on a posting tree leaf")),
        }
    }

    fn add_items(&mut self, items: &[u8]) -> Done {
        let room = self.page.get_mut(self.to..SPECIAL_AT).unwrap_or_default();
        let len = encode(merged(tids(items), Segment::at(self.old, self.from)?), room)?;
        self.drop_segment()?;
        self.advance(len)
    }

    fn drop_segment(&mut self) -> Done {
        self.from += self.segment_len()?;
        self.number += 1;
        Ok(())
    }

    /// Bytes of the segment at `from`.
    fn segment_len(&self) -> Result<usize, Fault> {
        let len = segment_len(self.old, self.from)?;
        if self.from + len <= self.end { Ok(len) } else { Err(BAD_SEGMENT) }
    }

    fn write(&mut self, segment: &[u8]) -> Done {
        let at = self.to;
        self.advance(segment.len())?;
        put(self.page, at, segment)
    }

    fn advance(&mut self, len: usize) -> Done {
        self.to += len;
        if self.to <= SPECIAL_AT {
            Ok(())
        } else {
            Err(Fault::Malformed("the segments do not fit on the posting tree leaf"))
        }
    }
}
