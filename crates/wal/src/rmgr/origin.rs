//! Replication origins: how far the changes of each were applied here.
//!
//! Follows `replorigin_redo` and `replorigin_advance` in `origin.c`, and what `xact_redo` and `PrepareRedoAdd` tell them.
//!
//! ```text
//! SET   | position in the origin's log 8 | origin 2 | backward 1 |
//! DROP  | origin 2 |
//! ```
//!
//! A transaction that was applied from an origin says so itself: its record names the origin, and holds the position in
//! its last part (`xact`) or, if it is prepared, in the header of its state.
//!
//! Not here: the catalog of origins, which is a table like others.

use crate::bytes::{u8_at, u16_at, u64_at};
use crate::{Change, Record, WalError};

const SET: u8 = 0x00;
const DROP: u8 = 0x10;
/// No origin (`InvalidRepOriginId`).
const NONE: u16 = 0;
/// Changes that no origin is to be told of (`DoNotReplicateId`).
const DO_NOT_REPLICATE: u16 = u16::MAX;
/// Where the header of a prepared transaction's state has the position (`TwoPhaseFileHeader`).
const PREPARED_POSITION: usize = 56;

/// Reports what a `ReplicationOrigin` record changes.
pub(crate) fn changes<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let short = || record.malformed("shorter than its fields");
    match record.op() {
        SET => {
            let upto = u64_at(record.main, 0).ok_or_else(short)?;
            let origin = u16_at(record.main, 8).ok_or_else(short)?;
            advanced(origin, upto, u8_at(record.main, 10).ok_or_else(short)? != 0, sink);
        }
        DROP => sink(Change::OriginDropped { origin: u16_at(record.main, 0).ok_or_else(short)? }),
        _ => return Err(record.unknown()),
    }
    Ok(())
}

/// Reports what a transaction applied from an origin says of it: `upto` is its end there.
pub(crate) fn applied<'a>(record: &Record<'a>, upto: u64, sink: &mut dyn FnMut(Change<'a>)) {
    advanced(record.origin, upto, false, sink);
}

/// Reports the same of a transaction that is being prepared.
pub(crate) fn prepared<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let upto = u64_at(record.main, PREPARED_POSITION);
    applied(record, upto.ok_or_else(|| record.malformed("shorter than its header"))?, sink);
    Ok(())
}

fn advanced<'a>(origin: u16, upto: u64, backward: bool, sink: &mut dyn FnMut(Change<'a>)) {
    if ![NONE, DO_NOT_REPLICATE].contains(&origin) {
        sink(Change::OriginAdvanced { origin, upto, backward });
    }
}
