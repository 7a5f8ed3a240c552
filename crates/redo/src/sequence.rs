//! Sequences: every record rebuilds the sequence's only page.
//!
//! Follows `seq_redo` in `sequence.c`. Main data: relation 12 bytes, then the sequence's tuple.

use wal::RmgrId;

use crate::Fault;
use crate::bytes::put_u32;
use crate::page::{self, Numbering, add_item};
use crate::step::{Effect, Step};

const SEQ_LOG: u8 = 0x00;
/// What a sequence's page has in its special area (`SEQ_MAGIC`).
const MAGIC: u32 = 0x1717;
/// Bytes of `xl_seq_rec`.
const RECORD_HEADER_SIZE: usize = 12;

/// Applies a `Sequence` record.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    debug_assert_eq!(step.record.rmgr, RmgrId::SEQ, "dispatched by resource manager");
    if step.record.op() != SEQ_LOG {
        return Err(Fault::Unsupported);
    }
    let tuple = step.record.main.get(RECORD_HEADER_SIZE..).ok_or(Fault::Malformed("no tuple"))?;
    page::init(step.page, 4);
    let special = page::special(step.page);
    put_u32(step.page, special, MAGIC)?;
    add_item(step.page, 1, tuple, Numbering::Index)?;
    Ok(Effect::Changed)
}
