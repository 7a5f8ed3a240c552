//! Which routine changes a relation block, and the rules all of them share.
//!
//! Follows `XLogReadBufferForRedoExtended` in `xlogutils.c`: an applicable image wins over everything, then the
//! page's LSN says whether the record is already in the page, and a changed page gets the record's end LSN.

use types::{BlockNumber, Fork, Lsn, RelFork};
use wal::{Record, RmgrId};

use crate::bytes::Done;
use crate::heap::{heap2, rows, visibility_map};
use crate::index::{brin, btree, gin, gist, hash, spgist};
use crate::page::{self, image};
use crate::step::{Effect, Step};
use crate::{Fault, RedoContext, generic, sequence};

const XLOG_FPI_FOR_HINT: u8 = 0xA0;
const XLOG_FPI: u8 = 0xB0;

type Routine = fn(&mut Step<'_, '_>) -> Result<Effect, Fault>;

/// Applies `record` to block `block` of `rel`.
pub(crate) fn apply(
    cx: &RedoContext,
    rel: RelFork,
    block: BlockNumber,
    page: &mut types::Page,
    record: &Record<'_>,
    end: Lsn,
) -> Done {
    let Some(block) = record.blocks().find(|candidate| candidate.block == block && candidate.rel == rel)
    else {
        return if rel.fork == Fork::Visibility {
            visibility_map::apply_unreferenced(rel.rel, block, page, record)
        } else {
            Err(Fault::Untouched)
        };
    };
    if let Some(image) = block.image.as_ref().filter(|image| image.apply) {
        image::restore(image, page, end)?;
        return match record.rmgr {
            RmgrId::GIST => gist::amend_image(record, block, page, end),
            _ => Ok(()),
        };
    }
    if block.will_init {
        // Also where the routine would not begin the page: then it finds no page at all, whatever was there before.
        page.fill(0);
    }
    if record.rmgr == RmgrId::XLOG && record.op() == XLOG_FPI_FOR_HINT {
        return Ok(()); // full_page_writes was off: the hint is lost, which hints may be
    }
    if rel.fork == Fork::Visibility {
        return visibility_map::apply_referenced(block, page, record, end);
    }
    if !block.will_init && page::lsn(page) >= Some(end) {
        return Ok(());
    }
    let routine = routine(record).ok_or(Fault::Unsupported)?;
    if !block.will_init && page::is_new(page) && record.rmgr != RmgrId::GENERIC {
        return Err(Fault::Malformed("the page was never initialised"));
    }
    let effect = routine(&mut Step { cx, record, block, page, end })?;
    if effect == Effect::Changed {
        page::set_lsn(page, end);
    }
    Ok(())
}

fn routine(record: &Record<'_>) -> Option<Routine> {
    match record.rmgr {
        RmgrId::XLOG if record.op() == XLOG_FPI => {
            Some(|_| Err(Fault::Malformed("a page image record without one")))
        }
        RmgrId::HEAP => Some(rows::apply),
        RmgrId::HEAP2 => Some(heap2::apply),
        RmgrId::BTREE => Some(btree::apply),
        RmgrId::HASH => Some(hash::apply),
        RmgrId::GIN => Some(gin::apply),
        RmgrId::GIST => Some(gist::apply),
        RmgrId::SEQ => Some(sequence::apply),
        RmgrId::SPGIST => Some(spgist::apply),
        RmgrId::BRIN => Some(brin::apply),
        RmgrId::GENERIC => Some(generic::apply),
        _ => None,
    }
}
