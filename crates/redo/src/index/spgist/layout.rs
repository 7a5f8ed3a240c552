//! What SP-GiST pages hold: the special area, inner, leaf and dead tuples.
//!
//! ```text
//!  special area: flags 2 | redirects 2 | placeholders 2 | page id 2
//!  inner tuple:  state 2 bits, all the same 1, nodes 13, prefix length 16 | length 2 | pad 2 | prefix | node, node, ..
//!  node:         an index tuple: tid 6 | info 2 | label
//!  leaf tuple:   state 2 bits, length 30 | next in chain 14 bits, flags 2 | tid 6 | pad | value
//!  dead tuple:   state 2 bits, length 30 | 2 | tid of where it went 6 | xid 4
//! ```
//!
//! An item is never removed while something may link to its number: a redirect, a dead or a placeholder tuple takes
//! its place, and a placeholder's number goes to the next new item.
//!
//! Follows `spgist_private.h`, `spgutils.c`, `spgdoinsert.c`, and `addOrReplaceTuple` in `spgxlog.c`.

use types::BLOCK_SIZE;

use crate::Fault;
use crate::bytes::{Done, array_at_mut, put_u16, slice_at, u8_at, u16_at, u32_at};
use crate::index::tuple::tuple_len;
use crate::page::compact::{delete_index_item, delete_index_items};
use crate::page::{self, Numbering, PageBytes, add_item, line_pointer, max_offset};

/// `SPGIST_LEAF`
const LEAF: u16 = 0x0004;
/// `SPGIST_NULLS`: the page is of the tree of null values.
const NULLS: u16 = 0x0008;
/// `SPGIST_PAGE_ID`
const PAGE_ID: u16 = 0xFF82;

/// Bytes of the special area (`SpGistPageOpaqueData`).
const SPECIAL_SIZE: usize = 8;
/// Bytes of an inner tuple's header (`SGITHDRSZ`).
const INNER_HEADER_SIZE: usize = 8;
/// Bytes of a dead tuple (`SGDTSIZE`).
const DEAD_TUPLE_SIZE: usize = 16;
/// Items a page may hold (`MaxIndexTuplesPerPage`).
const ITEMS_MAX: usize = 408;

/// `tupstate`, the lowest two bits of every tuple.
const STATE_MASK: u8 = 0x03;
/// The part of a leaf tuple's `t_info` that is the next tuple's number (`SGLT_SET_NEXTOFFSET`).
const NEXT_MASK: u16 = 0x3FFF;

/// What a tuple that is not live is (`tupstate`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filler {
    /// Went to block and item; a search that knew it follows. `xid` may still search.
    Redirect { block: u32, item: u16, xid: u32 },
    /// Links to it remain.
    Dead,
    /// Nothing links to it; only keeps its number until there is a new item.
    Placeholder,
}

impl Filler {
    const PLACEHOLDER_STATE: u8 = 3;

    /// The tuple's bytes (`spgFormDeadTuple`).
    fn tuple(self) -> [u8; DEAD_TUPLE_SIZE] {
        let (state, block, item, xid) = match self {
            Self::Redirect { block, item, xid } => (1, block, item, xid),
            Self::Dead => (2, u32::MAX, 0, 0),
            Self::Placeholder => (u32::from(Self::PLACEHOLDER_STATE), u32::MAX, 0, 0),
        };
        let mut tuple = [0; DEAD_TUPLE_SIZE];
        [tuple[0], tuple[1], tuple[2], tuple[3]] = ((DEAD_TUPLE_SIZE as u32) << 2 | state).to_le_bytes();
        [tuple[6], tuple[7], tuple[8], tuple[9], tuple[10], tuple[11]] = tid(block, item);
        [tuple[12], tuple[13], tuple[14], tuple[15]] = xid.to_le_bytes();
        tuple
    }
}

/// What records keep of the writer's state (`spgxlogState`): xid 4, in a build 1.
#[derive(Clone, Copy)]
pub(crate) struct State {
    xid: u32,
    is_build: bool,
}

impl State {
    /// The state at `at` of a record's main data.
    pub(crate) fn at(main: &[u8], at: usize) -> Result<Self, Fault> {
        Ok(Self { xid: u32_at(main, at)?, is_build: u8_at(main, at + 4)? != 0 })
    }

    /// What replaces a tuple that went to `block` and `item`. Nobody searches an index while it is built.
    pub(crate) fn moved_to(self, block: u32, item: u16) -> Filler {
        if self.is_build { Filler::Placeholder } else { Filler::Redirect { block, item, xid: self.xid } }
    }
}

/// A page's special area, to change.
pub(crate) struct Opaque<'a>(&'a mut [u8; SPECIAL_SIZE]);

impl<'a> Opaque<'a> {
    /// The special area of `page`.
    pub(crate) fn of(page: &'a mut PageBytes) -> Result<Self, Fault> {
        if page::special(page) != BLOCK_SIZE - SPECIAL_SIZE {
            return Err(Fault::Malformed("not an SP-GiST page"));
        }
        array_at_mut(page, BLOCK_SIZE - SPECIAL_SIZE).map(Self)
    }

    /// Adds to the number of redirects on the page. Wraps around as Postgres's does.
    pub(crate) fn count_redirects(&mut self, change: i16) {
        let count = u16::from_le_bytes([self.0[2], self.0[3]]).wrapping_add_signed(change);
        [self.0[2], self.0[3]] = count.to_le_bytes();
    }

    /// Adds to the number of placeholders on the page. Wraps around as Postgres's does.
    pub(crate) fn count_placeholders(&mut self, change: i16) {
        let count = u16::from_le_bytes([self.0[4], self.0[5]]).wrapping_add_signed(change);
        [self.0[4], self.0[5]] = count.to_le_bytes();
    }
}

/// Makes an empty page (`SpGistInitPage`).
pub(crate) fn init(page: &mut PageBytes, is_leaf: bool, stores_nulls: bool) -> Done {
    page::init(page, SPECIAL_SIZE);
    let flags = if is_leaf { LEAF } else { 0 } | if stores_nulls { NULLS } else { 0 };
    let area = Opaque::of(page)?.0;
    put_u16(area, 0, flags)?;
    put_u16(area, 6, PAGE_ID)
}

/// The leaf tuple at the start of `data`, and what follows. Tuples in records are not aligned.
pub(crate) fn split_leaf_tuple(data: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let len = (u32_at(data, 0)? >> 2) as usize;
    data.split_at_checked(len).ok_or(CUT_OFF)
}

/// The inner tuple at the start of `data`, and what follows.
pub(crate) fn split_inner_tuple(data: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let len = usize::from(u16_at(data, 4)?);
    data.split_at_checked(len).ok_or(CUT_OFF)
}

const CUT_OFF: Fault = Fault::Malformed("a tuple is cut off");

/// Adds `tuple` as item `number`, instead of the placeholder that has the number (`addOrReplaceTuple`).
pub(crate) fn add_or_replace(page: &mut PageBytes, number: u16, tuple: &[u8]) -> Done {
    if number <= max_offset(page) {
        let old = line_pointer(page, number)?;
        if u8_at(page, old.start())? & STATE_MASK != Filler::PLACEHOLDER_STATE {
            return Err(Fault::Malformed("the tuple to be replaced is not a placeholder"));
        }
        Opaque::of(page)?.count_placeholders(-1);
        delete_index_item(page, number)?;
    }
    add_item(page, number, tuple, Numbering::Index).map(|_| ())
}

/// Puts `tuple` in the place of item `number`. Its bytes go to the end of free space, whatever their number.
pub(crate) fn replace(page: &mut PageBytes, number: u16, tuple: &[u8]) -> Done {
    delete_index_item(page, number)?;
    add_item(page, number, tuple, Numbering::Index).map(|_| ())
}

/// Puts a dead tuple in the place of item `number`, and counts it.
pub(crate) fn replace_by_dead(page: &mut PageBytes, number: u16, dead: Filler) -> Done {
    replace(page, number, &dead.tuple())?;
    count_dead(page, dead)
}

/// Puts dead tuples in the place of the items `numbers`, which are `uint16`s in any order: `first` in that of the one
/// that is first there, `rest` in that of the others (`spgPageIndexMultiDelete`).
pub(crate) fn kill_items(page: &mut PageBytes, numbers: &[u8], first: Filler, rest: Filler) -> Done {
    let count = numbers.len() / 2;
    if count == 0 {
        return Ok(());
    }
    let mut sorted = [0; ITEMS_MAX];
    let sorted = sorted.get_mut(..count).ok_or(Fault::Malformed("more items than a page can hold"))?;
    for (to, from) in sorted.iter_mut().zip(numbers.as_chunks().0) {
        *to = u16::from_le_bytes(*from);
    }
    sorted.sort_unstable();
    delete_numbers(page, sorted.iter().copied())?;
    let first_number = u16_at(numbers, 0)?;
    for &number in sorted.iter() {
        let dead = if number == first_number { first } else { rest };
        add_item(page, number, &dead.tuple(), Numbering::Index)?;
        count_dead(page, dead)?;
    }
    Ok(())
}

/// Removes the items with these ascending numbers.
pub(crate) fn delete_numbers(page: &mut PageBytes, numbers: impl Iterator<Item = u16>) -> Done {
    let mut bytes = [0; ITEMS_MAX * 2];
    let mut len = 0;
    for number in numbers {
        put_u16(&mut bytes, len, number)?;
        len += 2;
    }
    delete_index_items(page, slice_at(&bytes, 0, len)?)
}

fn count_dead(page: &mut PageBytes, dead: Filler) -> Done {
    match dead {
        Filler::Redirect { .. } => Opaque::of(page)?.count_redirects(1),
        Filler::Placeholder => Opaque::of(page)?.count_placeholders(1),
        Filler::Dead => {}
    }
    Ok(())
}

/// Turns the redirect that is item `number` into a placeholder. Its xid stays. The page's counts are the caller's.
pub(crate) fn forget_redirect(page: &mut PageBytes, number: u16) -> Done {
    let at = line_pointer(page, number)?.start();
    let tuple: &mut [u8; DEAD_TUPLE_SIZE] = array_at_mut(page, at)?;
    tuple[0] = tuple[0] & !STATE_MASK | Filler::PLACEHOLDER_STATE;
    [tuple[6], tuple[7], tuple[8], tuple[9], tuple[10], tuple[11]] = tid(u32::MAX, 0);
    Ok(())
}

/// Makes item `next` the one after leaf tuple `number` in its chain (`SGLT_SET_NEXTOFFSET`).
pub(crate) fn set_next(page: &mut PageBytes, number: u16, next: u16) -> Done {
    let at = line_pointer(page, number)?.start() + 4;
    let info = u16_at(page, at)?;
    put_u16(page, at, info & !NEXT_MASK | next & NEXT_MASK)
}

/// Lets node `node` of inner tuple `number` link to `block` and `item` (`spgUpdateNodeLink`).
pub(crate) fn set_node_link(page: &mut PageBytes, number: u16, node: u16, block: u32, item: u16) -> Done {
    let tuple_at = line_pointer(page, number)?.start();
    let header = u32_at(page, tuple_at)?;
    let (nodes, prefix_len) = (header >> 3 & 0x1FFF, (header >> 16) as usize);
    if u32::from(node) >= nodes {
        return Err(Fault::Malformed("the inner tuple has no such node"));
    }
    let mut at = tuple_at + INNER_HEADER_SIZE + prefix_len;
    for _ in 0..node {
        at += tuple_len(page.get(at..).unwrap_or_default())?;
    }
    *array_at_mut(page, at)? = tid(block, item);
    Ok(())
}

/// An `ItemPointerData`: block high half 2, low half 2, item 2.
fn tid(block: u32, item: u16) -> [u8; 6] {
    let (high, low, item) =
        (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes(), item.to_le_bytes());
    [high[0], high[1], low[0], low[1], item[0], item[1]]
}
