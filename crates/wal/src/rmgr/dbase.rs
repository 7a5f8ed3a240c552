//! Databases and tablespaces made and dropped.
//!
//! Follows `dbase_redo` in `dbcommands.c` and `tblspc_redo` in `tablespace.c`.
//!
//! ```text
//! CREATE_FILE_COPY  | db 4 | tablespace 4 | source db 4 | source tablespace 4 |
//! CREATE_WAL_LOG    | db 4 | tablespace 4 |
//! DROP              | db 4 | n 4 | tablespace 4 * n |
//! Tablespace CREATE, DROP  | tablespace 4 | [path] |
//! ```
//!
//! Not here: the pages of a database made by `WAL_LOG`; they follow as full-page images.

use crate::bytes::{i32_at, u32_at};
use crate::{Change, Record, WalError};

const CREATE_FILE_COPY: u8 = 0x00;
const CREATE_WAL_LOG: u8 = 0x10;
const DROP: u8 = 0x20;

const TABLESPACE_CREATE: u8 = 0x00;
const TABLESPACE_DROP: u8 = 0x10;

/// Reports what a `Database` record changes.
pub(crate) fn changes<'a>(record: &Record<'a>, sink: &mut dyn FnMut(Change<'a>)) -> Result<(), WalError> {
    let field = |at| u32_at(record.main, at).ok_or_else(|| record.malformed("shorter than its fields"));
    let database = field(0)?;
    match record.op() {
        CREATE_FILE_COPY => {
            let copy_of = Some((field(12)?, field(8)?));
            sink(Change::DatabaseCreated { tablespace: field(4)?, database, copy_of });
        }
        CREATE_WAL_LOG => {
            sink(Change::DatabaseCreated { tablespace: field(4)?, database, copy_of: None });
        }
        DROP => {
            let tablespaces = dropped_in(record.main);
            let tablespaces = tablespaces.ok_or_else(|| record.malformed("shorter than its tablespaces"))?;
            for raw in tablespaces.chunks_exact(4) {
                let tablespace = u32_at(raw, 0).unwrap_or(0);
                sink(Change::DatabaseDropped { tablespace, database });
            }
        }
        _ => return Err(record.unknown()),
    }
    Ok(())
}

fn dropped_in(main: &[u8]) -> Option<&[u8]> {
    let count = usize::try_from(i32_at(main, 4)?).ok()?;
    main.get(8..)?.get(..count.checked_mul(4)?)
}

/// Reports what a `Tablespace` record changes. The path is that of the server that wrote it and is not kept.
pub(crate) fn tablespace_changes<'a>(
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    let oid = u32_at(record.main, 0).ok_or_else(|| record.malformed("shorter than its fields"))?;
    match record.op() {
        TABLESPACE_CREATE => sink(Change::TablespaceCreated(oid)),
        TABLESPACE_DROP => sink(Change::TablespaceDropped(oid)),
        _ => return Err(record.unknown()),
    }
    Ok(())
}
