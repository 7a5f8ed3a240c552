//! Pages that extensions change through `Generic` records: ranges of bytes to overwrite.
//!
//! Follows `generic_redo` and `applyPageRedo` in `generic_xlog.c`. All blocks of a record are alike. Block data: for
//! each range where it begins 2, its length 2, its bytes.
//!
//! An extension may change a page that was never initialised by such a record, without asking for an image: Postgres
//! takes one anyhow of a page without an LSN, unless `full_page_writes` is off. The ranges say all that the image would,
//! as they are what differs from a page of zeroes, but for a page that was initialised in place before: then the ranges
//! lack its header, and what they make is no page.

use crate::Fault;
use crate::bytes::{put, slice_at, u16_at};
use crate::page::{self, PageBytes};
use crate::step::{Effect, Step};

/// Bytes before the bytes of a range.
const RANGE_HEADER_SIZE: usize = 4;

/// Applies a `Generic` record to one of its pages. The free space is zeroed: the ranges say nothing about it.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    let data = step.block.data;
    let begins_the_page = page::is_new(step.page);
    if begins_the_page {
        step.page.fill(0);
    }
    let mut at = 0;
    while at < data.len() {
        let (to, len) = (u16_at(data, at)?, usize::from(u16_at(data, at + 2)?));
        put(step.page, usize::from(to), slice_at(data, at + RANGE_HEADER_SIZE, len)?)?;
        at += RANGE_HEADER_SIZE + len;
    }
    free_space(step.page)?.fill(0);
    if begins_the_page && !page::has_header(step.page) {
        return Err(Fault::Malformed(
            "the page was never initialised, and the record does not say all of it",
        ));
    }
    Ok(Effect::Changed)
}

/// What lies between `lower` and `upper`; extensions need not keep to the rest of the layout.
fn free_space(page: &mut PageBytes) -> Result<&mut [u8], Fault> {
    let (lower, upper) = (page::lower(page), page::upper(page));
    page.get_mut(lower..upper).ok_or(Fault::Malformed("the page's lower and upper pointers are out of order"))
}
