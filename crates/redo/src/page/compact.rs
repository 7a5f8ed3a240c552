//! Moving items within a page, byte for byte as `bufpage.c` leaves them.
//!
//! Postgres moves items with as few copies as it can; what remains visible of that is only where each item ends up
//! and which bytes below the new `upper` keep their old content. Both hold here: items are copied from a snapshot to
//! their places, nothing else is written.

use types::PAGE_HEADER_SIZE;

use crate::Fault;
use crate::bytes::{Done, put, shift, slice_at, u16_at};
use crate::page::{
    Bounds, HAS_FREE_LINES, ItemState, LINE_POINTER_SIZE, LinePointer, PageBytes, bounds, line_pointer,
    max_offset, set_flags, set_line_pointer, set_lower, set_upper,
};

/// Closes the gaps between items and drops unused line pointers at the end (`PageRepairFragmentation`).
pub(crate) fn repair_fragmentation(page: &mut PageBytes) -> Done {
    let Bounds { lower, upper, special } = aligned_bounds(page)?;
    let count = max_offset(page);
    let mut unused = 0u16;
    let mut last_used = 0u16;
    let mut items_len = 0usize;
    for number in 1..=count {
        let pointer = line_pointer(page, number)?;
        if pointer.state == ItemState::Unused {
            set_line_pointer(page, number, LinePointer::UNUSED)?;
            unused += 1;
            continue;
        }
        last_used = number;
        if pointer.len > 0 {
            check_item(pointer, upper, special)?;
            items_len += pointer.aligned_len();
        }
    }
    if items_len > special - lower {
        return Err(Fault::Malformed("the page's items are longer than the page"));
    }
    let old = *page;
    let mut target = special;
    for number in 1..=count {
        let pointer = line_pointer(&old, number)?;
        if pointer.state != ItemState::Unused && pointer.len > 0 {
            target = move_item(page, &old, pointer, target)?;
            set_line_pointer(page, number, LinePointer { offset: target as u16, ..pointer })?;
        }
    }
    set_upper(page, target);
    let trailing = count - last_used;
    set_lower(page, lower - usize::from(trailing) * LINE_POINTER_SIZE);
    set_free_lines_hint(page, unused > trailing);
    Ok(())
}

/// Drops unused line pointers at the end, but never the first (`PageTruncateLinePointerArray`).
pub(crate) fn truncate_line_pointers(page: &mut PageBytes) -> Done {
    let is_unused = |page: &PageBytes, number| -> Result<bool, Fault> {
        Ok(line_pointer(page, number)?.state == ItemState::Unused)
    };
    let count = max_offset(page);
    let mut keep = count;
    while keep > 1 && is_unused(page, keep)? {
        keep -= 1;
    }
    let mut has_unused = false;
    for number in 1..=keep {
        has_unused = has_unused || is_unused(page, number)?;
    }
    set_lower(page, crate::page::lower(page) - usize::from(count - keep) * LINE_POINTER_SIZE);
    set_free_lines_hint(page, has_unused);
    Ok(())
}

fn set_free_lines_hint(page: &mut PageBytes, has_free: bool) {
    if has_free { set_flags(page, HAS_FREE_LINES, 0) } else { set_flags(page, 0, HAS_FREE_LINES) }
}

/// Removes one item and its line pointer (`PageIndexTupleDelete`).
pub(crate) fn delete_index_item(page: &mut PageBytes, number: u16) -> Done {
    let Bounds { lower, upper, special } = aligned_bounds(page)?;
    let doomed = line_pointer(page, number)?;
    check_index_item(doomed, upper, special)?;
    let after = PAGE_HEADER_SIZE + usize::from(number) * LINE_POINTER_SIZE;
    shift(page, after, lower.saturating_sub(after), after - LINE_POINTER_SIZE)?;
    let size = doomed.aligned_len();
    shift(page, upper, doomed.start() - upper, upper + size)?;
    set_upper(page, upper + size);
    set_lower(page, lower - LINE_POINTER_SIZE);
    move_pointers(page, doomed.offset, size as i32, false)
}

/// Removes one item; the others keep their numbers (`PageIndexTupleDeleteNoCompact`).
pub(crate) fn delete_index_item_in_place(page: &mut PageBytes, number: u16) -> Done {
    let Bounds { lower, upper, special } = aligned_bounds(page)?;
    let doomed = line_pointer(page, number)?;
    check_index_item(doomed, upper, special)?;
    if number < max_offset(page) {
        set_line_pointer(page, number, LinePointer::UNUSED)?;
    } else {
        set_lower(page, lower - LINE_POINTER_SIZE);
    }
    let size = doomed.aligned_len();
    shift(page, upper, doomed.start() - upper, upper + size)?;
    set_upper(page, upper + size);
    move_pointers(page, doomed.offset, size as i32, true)
}

/// Removes the items whose ascending numbers are the `uint16`s in `numbers` (`PageIndexMultiDelete`).
pub(crate) fn delete_index_items(page: &mut PageBytes, numbers: &[u8]) -> Done {
    let count = numbers.len() / 2;
    if count <= 2 {
        // As in Postgres: one by one from the end, which leaves other bytes in free space than compaction does.
        for index in (0..count).rev() {
            delete_index_item(page, u16_at(numbers, index * 2)?)?;
        }
        return Ok(());
    }
    let Bounds { lower, upper, special } = aligned_bounds(page)?;
    let old = *page;
    let mut doomed = 0;
    let mut kept = 0u16;
    let mut target = special;
    for number in 1..=max_offset(&old) {
        let pointer = line_pointer(&old, number)?;
        check_index_item(pointer, upper, special)?;
        if doomed < count && number == u16_at(numbers, doomed * 2)? {
            doomed += 1;
            continue;
        }
        if target.saturating_sub(pointer.aligned_len()) < lower {
            return Err(Fault::Malformed("the page's items are longer than the page"));
        }
        target = move_item(page, &old, pointer, target)?;
        kept += 1;
        set_line_pointer(page, kept, LinePointer { offset: target as u16, ..pointer })?;
    }
    if doomed != count {
        return Err(Fault::Malformed("the items to delete are not in order"));
    }
    set_lower(page, PAGE_HEADER_SIZE + usize::from(kept) * LINE_POINTER_SIZE);
    set_upper(page, target);
    Ok(())
}

/// Replaces an item by `new`, whose length may differ (`PageIndexTupleOverwrite`).
pub(crate) fn overwrite_index_item(page: &mut PageBytes, number: u16, new: &[u8]) -> Done {
    let Bounds { lower, upper, special } = aligned_bounds(page)?;
    let old = line_pointer(page, number)?;
    check_index_item(old, upper, special)?;
    let new_len = crate::bytes::max_align(new.len());
    if new_len > old.aligned_len() + (upper - lower) {
        return Err(Fault::Malformed("the new item does not fit on the page"));
    }
    let mut start = old.start();
    if new_len != old.aligned_len() {
        let move_by = old.aligned_len() as i32 - new_len as i32;
        let moved = |at: usize| usize::try_from(at as i32 + move_by).map_err(|_| outside());
        shift(page, upper, start - upper, moved(upper)?)?;
        set_upper(page, moved(upper)?);
        move_pointers(page, old.offset, move_by, true)?;
        start = moved(start)?;
    }
    set_line_pointer(page, number, LinePointer { offset: start as u16, len: new.len() as u16, ..old })?;
    put(page, start, new)
}

/// Adds `by` to every line pointer at or below `upto`.
fn move_pointers(page: &mut PageBytes, upto: u16, by: i32, only_with_storage: bool) -> Done {
    for number in 1..=max_offset(page) {
        let pointer = line_pointer(page, number)?;
        if pointer.offset <= upto && (pointer.len > 0 || !only_with_storage) {
            let offset = u16::try_from(i32::from(pointer.offset) + by).map_err(|_| outside())?;
            set_line_pointer(page, number, LinePointer { offset, ..pointer })?;
        }
    }
    Ok(())
}

/// Copies an item so that it ends at `end`; returns where it starts.
fn move_item(page: &mut PageBytes, old: &PageBytes, item: LinePointer, end: usize) -> Result<usize, Fault> {
    let target = end.checked_sub(item.aligned_len()).ok_or(outside())?;
    if target != item.start() {
        put(page, target, slice_at(old, item.start(), item.aligned_len())?)?;
    }
    Ok(target)
}

fn aligned_bounds(page: &PageBytes) -> Result<Bounds, Fault> {
    let bounds = bounds(page)?;
    if bounds.special.is_multiple_of(8) {
        Ok(bounds)
    } else {
        Err(Fault::Malformed("the page's special pointer is not aligned"))
    }
}

fn check_item(item: LinePointer, upper: usize, special: usize) -> Done {
    if item.start() >= upper && item.start() + item.aligned_len() <= special {
        Ok(())
    } else {
        Err(outside())
    }
}

fn check_index_item(item: LinePointer, upper: usize, special: usize) -> Done {
    check_item(item, upper, special)?;
    if item.offset.is_multiple_of(8) { Ok(()) } else { Err(outside()) }
}

fn outside() -> Fault {
    Fault::Malformed("a line pointer points outside the items")
}

#[cfg(test)]
mod tests {
    use types::BLOCK_SIZE;

    use super::*;
    use crate::page::{Numbering, add_item, init, normal_item, upper};

    fn page_of(items: &[&[u8]]) -> PageBytes {
        let mut page = [0; BLOCK_SIZE];
        init(&mut page, 16);
        for (index, item) in items.iter().enumerate() {
            add_item(&mut page, index as u16 + 1, item, Numbering::Index).unwrap();
        }
        page
    }

    fn items(page: &PageBytes) -> Vec<&[u8]> {
        let item = |number| {
            let pointer = normal_item(page, number).unwrap();
            &page[pointer.start()..pointer.start() + usize::from(pointer.len)]
        };
        (1..=max_offset(page)).map(item).collect()
    }

    #[test]
    fn deleting_one_or_many_items_keeps_the_others_in_order() {
        let all: [&[u8]; 5] = [b"a", b"bbbbbbbbbbbb", b"ccc", b"dddddddddd", b"e"];
        let mut page = page_of(&all);
        delete_index_item(&mut page, 2).unwrap();
        assert_eq!(items(&page), [all[0], all[2], all[3], all[4]]);
        let mut page = page_of(&all);
        delete_index_items(&mut page, &[1, 0, 3, 0, 4, 0]).unwrap();
        assert_eq!(items(&page), [all[1], all[4]]);
        assert_eq!(upper(&page), BLOCK_SIZE - 16 - 16 - 8);
    }

    #[test]
    fn items_keep_their_numbers_when_one_is_deleted_in_place() {
        let mut page = page_of(&[b"a", b"bbbbbbbbbbbb", b"ccc"]);
        delete_index_item_in_place(&mut page, 2).unwrap();
        let state = |number| line_pointer(&page, number).unwrap();
        assert_eq!(state(2), LinePointer::UNUSED);
        let at = |number| page[state(number).start()];
        assert_eq!((at(1), at(3), upper(&page)), (b'a', b'c', BLOCK_SIZE - 16 - 16));
        add_item(&mut page, 2, b"d", Numbering::Free).unwrap();
        delete_index_item_in_place(&mut page, 3).unwrap();
        assert_eq!(items(&page), [b"a", b"d"]);
    }

    #[test]
    fn an_overwritten_item_may_grow_or_shrink() {
        for new in [&b"x"[..], b"yyyyyyyyyyyyyyyyyyyyyyyyy"] {
            let mut page = page_of(&[b"aaaa", b"bbbbbbbbbbbb", b"ccc"]);
            overwrite_index_item(&mut page, 2, new).unwrap();
            assert_eq!(items(&page), [b"aaaa", new, b"ccc"]);
        }
    }

    #[test]
    fn trailing_unused_line_pointers_go_but_the_first_stays_after_vacuum() {
        let mut page = page_of(&[b"a", b"b", b"c"]);
        for number in 1..=3 {
            set_line_pointer(&mut page, number, LinePointer::UNUSED).unwrap();
        }
        let mut pruned = page;
        truncate_line_pointers(&mut page).unwrap();
        assert_eq!((max_offset(&page), crate::page::flags(&page)), (1, HAS_FREE_LINES));
        repair_fragmentation(&mut pruned).unwrap();
        assert_eq!((max_offset(&pruned), crate::page::flags(&pruned)), (0, 0));
    }
}
