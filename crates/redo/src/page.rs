//! The page layout of Postgres: header, line pointers, items.
//!
//! ```text
//!  0        24            lower         upper            special     8192
//!  | header | line ptr .. | free space  | items, newest first | special |
//!
//!  header: lsn 8 | checksum 2 | flags 2 | lower 2 | upper 2 | special 2 | size+version 2 | prune_xid 4
//! ```
//!
//! Follows `storage/bufpage.h`, `storage/itemid.h` and `bufpage.c`. Item numbers (`OffsetNumber`) count from 1.
//! Whatever a page holds, nothing here panics: what does not fit is a [`Fault`].
//!
//! Not here: moving items (`compact`), the checksum (`checksum`), what items are (`tuple`, `page`).

pub(crate) mod checksum;
pub(crate) mod compact;
pub(crate) mod image;

use types::{BLOCK_SIZE, Lsn, PAGE_HEADER_SIZE};

use crate::Fault;
use crate::bytes::{Done, max_align, put, shift, u32_at};

/// The bytes of one page.
pub type PageBytes = [u8; BLOCK_SIZE];

/// Bytes of one line pointer (`ItemIdData`).
pub(crate) const LINE_POINTER_SIZE: usize = 4;
/// Items a heap page may hold (`MaxHeapTuplesPerPage`).
const HEAP_ITEMS_MAX: u16 = 291;

const LSN_HIGH: usize = 0;
const LSN_LOW: usize = 4;
const CHECKSUM: usize = 8;
const FLAGS: usize = 10;
const LOWER: usize = 12;
const UPPER: usize = 14;
const SPECIAL: usize = 16;
const SIZE_VERSION: usize = 18;
const PRUNE_XID: usize = 20;

/// Page size in the upper byte, layout version 4 below (`PageSetPageSizeAndVersion`).
const PAGE_SIZE_AND_VERSION: u16 = BLOCK_SIZE as u16 | 4;

/// `PD_HAS_FREE_LINES`: some line pointer is unused. A hint.
pub(crate) const HAS_FREE_LINES: u16 = 0x0001;
/// `PD_PAGE_FULL`: an update found no room. A hint.
pub(crate) const PAGE_FULL: u16 = 0x0002;
/// `PD_ALL_VISIBLE`: every tuple is visible to everyone.
pub(crate) const ALL_VISIBLE: u16 = 0x0004;

#[inline]
#[allow(clippy::indexing_slicing, reason = "what lies outside of the page does not compile")]
fn half<const AT: usize>(page: &PageBytes) -> u16 {
    const { assert!(AT + 2 <= BLOCK_SIZE) };
    u16::from_le_bytes([page[AT], page[AT + 1]])
}

#[inline]
#[allow(clippy::indexing_slicing, reason = "what lies outside of the page does not compile")]
fn set_half<const AT: usize>(page: &mut PageBytes, value: u16) {
    const { assert!(AT + 2 <= BLOCK_SIZE) };
    [page[AT], page[AT + 1]] = value.to_le_bytes();
}

#[inline]
#[allow(clippy::indexing_slicing, reason = "what lies outside of the page does not compile")]
fn word<const AT: usize>(page: &PageBytes) -> u32 {
    const { assert!(AT + 4 <= BLOCK_SIZE) };
    u32::from_le_bytes([page[AT], page[AT + 1], page[AT + 2], page[AT + 3]])
}

#[inline]
#[allow(clippy::indexing_slicing, reason = "what lies outside of the page does not compile")]
fn set_word<const AT: usize>(page: &mut PageBytes, value: u32) {
    const { assert!(AT + 4 <= BLOCK_SIZE) };
    [page[AT], page[AT + 1], page[AT + 2], page[AT + 3]] = value.to_le_bytes();
}

/// End LSN of the last record applied to the page; `None` if there was none (`PageGetLSN`).
pub fn lsn(page: &PageBytes) -> Option<Lsn> {
    Lsn::from_raw(u64::from(word::<LSN_HIGH>(page)) << 32 | u64::from(word::<LSN_LOW>(page)))
}

/// Sets the page's LSN (`PageSetLSN`).
pub fn set_lsn(page: &mut PageBytes, lsn: Lsn) {
    set_word::<LSN_HIGH>(page, (lsn.raw() >> 32) as u32);
    set_word::<LSN_LOW>(page, lsn.raw() as u32);
}

/// The checksum stored in the page (`pd_checksum`).
pub fn stored_checksum(page: &PageBytes) -> u16 {
    half::<CHECKSUM>(page)
}

/// Stores a checksum in the page.
pub(crate) fn store_checksum(page: &mut PageBytes, checksum: u16) {
    set_half::<CHECKSUM>(page, checksum);
}

/// True if the page was never initialised (`PageIsNew`).
pub fn is_new(page: &PageBytes) -> bool {
    half::<UPPER>(page) == 0
}

/// Whether the header is one that Postgres gives a page (`PageIsVerifiedExtended`), and of the version that all have.
pub(crate) fn has_header(page: &PageBytes) -> bool {
    let (lower, upper, special) = (lower(page), upper(page), special(page));
    let in_order = PAGE_HEADER_SIZE <= lower && lower <= upper && upper <= special && special <= BLOCK_SIZE;
    in_order && special == max_align(special) && half::<SIZE_VERSION>(page) == PAGE_SIZE_AND_VERSION
}

/// Start of free space, just past the line pointers (`pd_lower`).
pub fn lower(page: &PageBytes) -> usize {
    usize::from(half::<LOWER>(page))
}

/// End of free space, where items begin (`pd_upper`).
pub fn upper(page: &PageBytes) -> usize {
    usize::from(half::<UPPER>(page))
}

/// Start of the access method's own area (`pd_special`).
pub fn special(page: &PageBytes) -> usize {
    usize::from(half::<SPECIAL>(page))
}

/// The page's flag bits (`pd_flags`).
pub fn flags(page: &PageBytes) -> u16 {
    half::<FLAGS>(page)
}

/// Oldest transaction that may have left something to prune; 0 if unknown (`pd_prune_xid`).
pub fn prune_xid(page: &PageBytes) -> u32 {
    word::<PRUNE_XID>(page)
}

/// Number of line pointers (`PageGetMaxOffsetNumber`).
pub fn max_offset(page: &PageBytes) -> u16 {
    (lower(page).saturating_sub(PAGE_HEADER_SIZE) / LINE_POINTER_SIZE) as u16
}

pub(crate) fn set_flags(page: &mut PageBytes, set: u16, clear: u16) {
    let flags = flags(page);
    set_half::<FLAGS>(page, (flags & !clear) | set);
}

pub(crate) fn set_prune_xid(page: &mut PageBytes, xid: u32) {
    set_word::<PRUNE_XID>(page, xid);
}

/// Sets `pd_lower`. The value is within a page.
pub(crate) fn set_lower(page: &mut PageBytes, at: usize) {
    set_half::<LOWER>(page, at as u16);
}

/// Sets `pd_upper`. The value is within a page.
pub(crate) fn set_upper(page: &mut PageBytes, at: usize) {
    set_half::<UPPER>(page, at as u16);
}

/// Makes an empty page with `special_len` bytes for the access method (`PageInit`).
pub(crate) fn init(page: &mut PageBytes, special_len: usize) {
    page.fill(0);
    let special = (BLOCK_SIZE - max_align(special_len).min(BLOCK_SIZE - PAGE_HEADER_SIZE)) as u16;
    set_half::<LOWER>(page, PAGE_HEADER_SIZE as u16);
    set_half::<UPPER>(page, special);
    set_half::<SPECIAL>(page, special);
    set_half::<SIZE_VERSION>(page, PAGE_SIZE_AND_VERSION);
}

/// `lower`, `upper` and `special` of a page whose three areas are in order.
pub(crate) struct Bounds {
    pub(crate) lower: usize,
    pub(crate) upper: usize,
    pub(crate) special: usize,
}

/// The page's bounds, or a fault if they cannot be (the paranoia of `bufpage.c`).
pub(crate) fn bounds(page: &PageBytes) -> Result<Bounds, Fault> {
    let (lower, upper, special) = (lower(page), upper(page), special(page));
    let ordered = PAGE_HEADER_SIZE <= lower && lower <= upper && upper <= special && special <= BLOCK_SIZE;
    if ordered {
        Ok(Bounds { lower, upper, special })
    } else {
        Err(Fault::Malformed("the page's lower, upper and special pointers are out of order"))
    }
}

/// What a line pointer says about its item (`LP_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemState {
    /// Free for reuse.
    Unused,
    /// Points at an item.
    Normal,
    /// Heap only: `offset` is the number of another line pointer.
    Redirect,
    /// Dead; may or may not have storage.
    Dead,
}

/// One line pointer (`ItemIdData`): offset 15 bits, state 2, length 15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinePointer {
    /// Where the item starts in the page.
    pub offset: u16,
    /// What the pointer means.
    pub state: ItemState,
    /// Bytes of the item; 0 if it has no storage.
    pub len: u16,
}

impl LinePointer {
    pub(crate) const UNUSED: Self = Self { offset: 0, state: ItemState::Unused, len: 0 };
    pub(crate) const DEAD: Self = Self { offset: 0, state: ItemState::Dead, len: 0 };

    fn from_raw(raw: u32) -> Self {
        let state = match raw >> 15 & 3 {
            0 => ItemState::Unused,
            1 => ItemState::Normal,
            2 => ItemState::Redirect,
            _ => ItemState::Dead,
        };
        Self { offset: (raw & 0x7FFF) as u16, state, len: (raw >> 17) as u16 }
    }

    fn raw(self) -> u32 {
        let state = match self.state {
            ItemState::Unused => 0,
            ItemState::Normal => 1,
            ItemState::Redirect => 2,
            ItemState::Dead => 3,
        };
        u32::from(self.offset & 0x7FFF) | state << 15 | u32::from(self.len & 0x7FFF) << 17
    }

    /// Where the item starts, as an index.
    pub(crate) fn start(self) -> usize {
        usize::from(self.offset)
    }

    /// Bytes the item takes in the page.
    pub(crate) fn aligned_len(self) -> usize {
        max_align(usize::from(self.len))
    }
}

fn line_pointer_at(number: u16) -> Result<usize, Fault> {
    let index = usize::from(number).checked_sub(1).ok_or(Fault::Malformed("line pointer number 0"))?;
    Ok(PAGE_HEADER_SIZE + index * LINE_POINTER_SIZE)
}

/// The line pointer numbered `number`.
pub(crate) fn line_pointer(page: &PageBytes, number: u16) -> Result<LinePointer, Fault> {
    if number > max_offset(page) {
        return Err(Fault::Malformed("the page has no line pointer of that number"));
    }
    u32_at(page, line_pointer_at(number)?).map(LinePointer::from_raw)
}

/// Overwrites the line pointer numbered `number`.
pub(crate) fn set_line_pointer(page: &mut PageBytes, number: u16, pointer: LinePointer) -> Done {
    if number > max_offset(page) {
        return Err(Fault::Malformed("the page has no line pointer of that number"));
    }
    put(page, line_pointer_at(number)?, &pointer.raw().to_le_bytes())
}

/// The line pointer numbered `number`, which must point at an item.
pub(crate) fn normal_item(page: &PageBytes, number: u16) -> Result<LinePointer, Fault> {
    let pointer = line_pointer(page, number)?;
    if pointer.state == ItemState::Normal {
        Ok(pointer)
    } else {
        Err(Fault::Malformed("invalid line pointer: not a normal item"))
    }
}

/// How an item gets its line pointer (`PageAddItemExtended`'s flags).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Heap: takes an unused line pointer, or the next new one.
    Heap,
    /// BRIN: as on a heap page, but without a heap page's limit.
    Free,
    /// Index: later line pointers move up by one.
    Index,
}

/// Makes room for an item of `len` bytes under line pointer `number`; returns where its bytes go.
/// The padding after them keeps its old content, as in `PageAddItemExtended`.
pub(crate) fn reserve_item(
    page: &mut PageBytes,
    number: u16,
    len: usize,
    numbering: Numbering,
) -> Result<usize, Fault> {
    let Bounds { lower, upper, .. } = bounds(page)?;
    let limit = max_offset(page) + 1;
    if number > limit {
        return Err(Fault::Malformed("the item's number leaves a gap"));
    }
    if numbering == Numbering::Heap && number > HEAP_ITEMS_MAX {
        return Err(Fault::Malformed("more items than a heap page can hold"));
    }
    let at = line_pointer_at(number)?;
    let takes_old = number < limit && numbering != Numbering::Index;
    if takes_old {
        let old = line_pointer(page, number)?;
        if old.state != ItemState::Unused || old.len != 0 {
            return Err(Fault::Malformed("will not overwrite a used line pointer"));
        }
    }
    let new_lower = if takes_old { lower } else { lower + LINE_POINTER_SIZE };
    let new_upper = len
        .checked_next_multiple_of(8)
        .and_then(|aligned| upper.checked_sub(aligned))
        .filter(|&new_upper| new_lower <= new_upper)
        .ok_or(Fault::Malformed("the item does not fit on the page"))?;
    if number < limit && numbering == Numbering::Index {
        shift(page, at, usize::from(limit - number) * LINE_POINTER_SIZE, at + LINE_POINTER_SIZE)?;
    }
    set_lower(page, new_lower);
    set_upper(page, new_upper);
    let pointer = LinePointer { offset: new_upper as u16, state: ItemState::Normal, len: len as u16 };
    put(page, at, &pointer.raw().to_le_bytes())?;
    Ok(new_upper)
}

/// Adds `item` under line pointer `number`; returns where its bytes are (`PageAddItem`).
pub(crate) fn add_item(
    page: &mut PageBytes,
    number: u16,
    item: &[u8],
    numbering: Numbering,
) -> Result<usize, Fault> {
    let at = reserve_item(page, number, item.len(), numbering)?;
    put(page, at, item)?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_is_stored_high_half_first() {
        let mut page = [0; BLOCK_SIZE];
        set_lsn(&mut page, "16/B374D848".parse().unwrap());
        assert_eq!(page[..8], [0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3]);
        assert_eq!(lsn(&page).unwrap().to_string(), "16/B374D848");
    }

    #[test]
    fn an_index_item_moves_later_line_pointers_up() {
        let mut page = [0; BLOCK_SIZE];
        init(&mut page, 16);
        add_item(&mut page, 1, b"aaaa", Numbering::Index).unwrap();
        add_item(&mut page, 1, b"bbbbbbbbb", Numbering::Index).unwrap();
        assert_eq!(max_offset(&page), 2);
        let first = normal_item(&page, 1).unwrap();
        assert_eq!((first.offset, first.len), (8192 - 16 - 8 - 16, 9));
        assert_eq!(normal_item(&page, 2).unwrap().len, 4);
    }

    #[test]
    fn a_heap_item_does_not_overwrite_a_used_line_pointer() {
        let mut page = [0; BLOCK_SIZE];
        init(&mut page, 0);
        add_item(&mut page, 1, b"aaaa", Numbering::Heap).unwrap();
        assert!(add_item(&mut page, 1, b"bbbb", Numbering::Heap).is_err());
        assert!(add_item(&mut page, 3, b"bbbb", Numbering::Heap).is_err());
        assert!(add_item(&mut page, 0, b"bbbb", Numbering::Heap).is_err());
    }

    #[test]
    fn an_item_that_does_not_fit_is_refused() {
        let mut page = [0; BLOCK_SIZE];
        init(&mut page, 0);
        assert!(add_item(&mut page, 1, &[0; 8161], Numbering::Heap).is_err());
        assert!(add_item(&mut page, 1, &[0; 8160], Numbering::Heap).is_ok());
    }
}
