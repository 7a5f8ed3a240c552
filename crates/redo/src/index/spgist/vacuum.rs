//! What VACUUM does to SP-GiST pages.
//!
//! Follows `spgRedoVacuumLeaf`, `spgRedoVacuumRoot` and `spgRedoVacuumRedirect` in `spgxlog.c`. Main data:
//!
//! | record          | fields                                                                                      |
//! |-----------------|---------------------------------------------------------------------------------------------|
//! | VACUUM_LEAF     | dead 2, placeholders 2, moved 2, chained 2, state 8, then the numbers of the dead, the      |
//! |                 | placeholders, the moved from, the moved to, the chained, and what each of these links to    |
//! | VACUUM_ROOT     | deleted 2, pad 2, state 8, then their numbers                                               |
//! | VACUUM_REDIRECT | redirects 2, first placeholder to remove 2, xid 4, then the redirects' numbers              |

use crate::Fault;
use crate::bytes::{Done, slice_at, u16_at};
use crate::index::spgist::layout::{Filler, Opaque, delete_numbers, forget_redirect, kill_items, set_next};
use crate::page::compact::delete_index_items;
use crate::page::{line_pointer, max_offset, set_line_pointer};
use crate::step::Step;

const LEAF_NUMBERS_AT: usize = 16;
const ROOT_NUMBERS_AT: usize = 12;

/// A leaf page that is not the root. Where the first tuple of a chain goes but others of it stay, one of these moves
/// to the first one's number, as a parent links to it.
pub(crate) fn leaf(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let count = |at| u16_at(main, at).map(usize::from);
    let (dead, placeholders, moved, chained) = (count(0)?, count(2)?, count(4)?, count(6)?);
    let mut at = LEAF_NUMBERS_AT;
    let mut take = |count: usize| {
        let numbers = slice_at(main, at, count * 2);
        at += count * 2;
        numbers
    };
    let (dead, placeholders) = (take(dead)?, take(placeholders)?);
    let (move_from, move_to) = (take(moved)?, take(moved)?);
    let (chain_from, chain_to) = (take(chained)?, take(chained)?);

    kill_items(step.page, dead, Filler::Dead, Filler::Dead)?;
    kill_items(step.page, placeholders, Filler::Placeholder, Filler::Placeholder)?;
    for (from, to) in numbers(move_from).zip(numbers(move_to)) {
        let (source, target) = (line_pointer(step.page, from)?, line_pointer(step.page, to)?);
        set_line_pointer(step.page, from, target)?;
        set_line_pointer(step.page, to, source)?;
    }
    kill_items(step.page, move_from, Filler::Placeholder, Filler::Placeholder)?;
    for (from, to) in numbers(chain_from).zip(numbers(chain_to)) {
        set_next(step.page, from, to)?;
    }
    Ok(())
}

/// The root while it is a leaf: nothing links to its items, so they go.
pub(crate) fn root(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let deleted = usize::from(u16_at(main, 0)?);
    delete_index_items(step.page, slice_at(main, ROOT_NUMBERS_AT, deleted * 2)?)
}

/// Redirects that no search can still follow become placeholders; placeholders at the end of the page go.
pub(crate) fn redirects(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (count, first_placeholder) = (u16_at(main, 0)?, u16_at(main, 2)?);
    // Since 16 a flag of a catalog's index and its padding are in between.
    let numbers_at = if step.cx.major >= 16 { 10 } else { 8 };
    for number in numbers(slice_at(main, numbers_at, usize::from(count) * 2)?) {
        forget_redirect(step.page, number)?;
    }
    let mut opaque = Opaque::of(step.page)?;
    opaque.count_redirects((count as i16).wrapping_neg());
    opaque.count_placeholders(count as i16);
    if first_placeholder == 0 {
        return Ok(());
    }
    let last = max_offset(step.page);
    let removed = (last + 1).checked_sub(first_placeholder);
    let removed = removed.ok_or(Fault::Malformed("the placeholders begin past the last item"))?;
    Opaque::of(step.page)?.count_placeholders(-(removed as i16));
    delete_numbers(step.page, first_placeholder..=last)
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|raw| u16::from_le_bytes(*raw))
}
