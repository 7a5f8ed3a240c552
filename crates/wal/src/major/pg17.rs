//! PostgreSQL 17.
//!
//! Since 16: numbers of SLRU pages have 8 bytes, a checkpoint says `wal_level`, and where an online checkpoint's
//! replay starts there is a record, `CHECKPOINT_REDO`.

use super::pg15;
use super::shape::{Major, RecordTypes};
use crate::RmgrId;

pub(super) const MAJOR: Major = Major {
    number: 17,
    page_magic: 0xD116,
    control_version: 1700,
    catalog_version: 202_406_281,
    control_crc_at: 288,
    relation_map_bytes: 524,
    slru_page_bytes: 8,
    stats_item_bytes: 12,
    checkpoint_has_wal_level: true,
    record_types: RECORD_TYPES,
};

/// Those of 15, and `XLOG_CHECKPOINT_REDO`. Also those of 18.
pub(super) const RECORD_TYPES: RecordTypes = {
    let mut types = pg15::RECORD_TYPES;
    types[0] = (RmgrId::XLOG, 0b0110_1111_1111_1111);
    types
};
