//! Relation maps: which file a catalog that cannot look itself up is in.
//!
//! Follows `relmap_redo` in `relmapper.c`: `| db 4 | tablespace 4 | n 4 | pg_filenode.map, n bytes |`.

use crate::bytes::u32_at;
use crate::major::Major;
use crate::{Change, Record, WalError};

const UPDATE: u8 = 0x00;

/// Reports what a `RelMap` record changes.
pub(crate) fn changes<'a>(
    major: &Major,
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    if record.op() != UPDATE {
        return Err(record.unknown());
    }
    let body = || {
        let len = usize::try_from(u32_at(record.main, 8)?).ok()?;
        let bytes = record.main.get(12..)?.get(..len)?;
        Some((u32_at(record.main, 4)?, u32_at(record.main, 0)?, bytes))
    };
    let (tablespace, database, bytes) = body().ok_or_else(|| record.malformed("shorter than its map"))?;
    if bytes.len() != major.relation_map_bytes {
        return Err(record.malformed("a relation map of another size"));
    }
    sink(Change::RelMap { tablespace, database, bytes });
    Ok(())
}
