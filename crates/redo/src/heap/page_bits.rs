//! What a change of rows tells in the header of their page.

use types::Xid;

use crate::page::{self, ALL_VISIBLE, PageBytes};

/// Notes that `xid` may leave something to prune (`PageSetPrunable`).
pub(crate) fn set_prunable(page: &mut PageBytes, xid: Xid) {
    let known = page::prune_xid(page);
    if known == 0 || xid.precedes(Xid::new(known)) {
        page::set_prune_xid(page, xid.get());
    }
}

/// Clears the page's all-visible flag, if the record says so.
pub(crate) fn clear_all_visible_if(page: &mut PageBytes, cleared: bool) {
    if cleared {
        page::set_flags(page, 0, ALL_VISIBLE);
    }
}
