//! PostgreSQL 15.
//!
//! Follows `access/xlog_internal.h`, `catalog/pg_control.h`, `catalog/catversion.h`, and the `*xlog.h` headers.

use super::shape::{Major, RecordTypes};
use crate::RmgrId;

pub(super) const MAJOR: Major = Major {
    number: 15,
    page_magic: 0xD110,
    control_version: 1300,
    catalog_version: 202_209_061,
    control_crc_at: 288,
    relation_map_bytes: 512,
    slru_page_bytes: 4,
    stats_item_bytes: 12,
    checkpoint_has_wal_level: false,
    record_types: RECORD_TYPES,
};

/// Also those of 16.
pub(super) const RECORD_TYPES: RecordTypes = [
    (RmgrId::XLOG, 0b0010_1111_1111_1111),
    (RmgrId::XACT, 0b0111_1111_0111_1111),
    (RmgrId::SMGR, 0b0000_0000_0000_0110),
    (RmgrId::CLOG, 0b0000_0000_0000_0011),
    (RmgrId::DBASE, 0b0000_0000_0000_0111),
    (RmgrId::TBLSPC, 0b0000_0000_0000_0011),
    (RmgrId::MULTIXACT, 0b0000_0000_0000_1111),
    (RmgrId::RELMAP, 0b0000_0000_0000_0001),
    (RmgrId::STANDBY, 0b0000_0000_0000_0111),
    (RmgrId::HEAP2, 0b0010_0000_1111_1111),
    (RmgrId::HEAP, 0b0001_0101_1111_1111),
    (RmgrId::BTREE, 0b0111_1111_1111_1111),
    (RmgrId::HASH, 0b0001_1111_1111_1111),
    (RmgrId::GIN, 0b0000_0011_1111_1110),
    (RmgrId::GIST, 0b0000_0000_1100_1111),
    (RmgrId::SEQ, 0b0000_0000_0000_0001),
    (RmgrId::SPGIST, 0b0000_0001_1111_1110),
    (RmgrId::BRIN, 0b0000_0110_0011_1111),
    (RmgrId::COMMIT_TS, 0b0000_0000_0000_0011),
    (RmgrId::REPLORIGIN, 0b0000_0000_0000_0011),
    (RmgrId::GENERIC, 0b0000_0000_0000_0001),
    (RmgrId::LOGICALMSG, 0b0000_0000_0000_0001),
];
