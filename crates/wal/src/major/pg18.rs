//! PostgreSQL 18.
//!
//! Since 17: statistics are dropped by 64-bit ids, and the control file says whether `char` is signed.

use super::pg17;
use super::shape::Major;

pub(super) const MAJOR: Major = Major {
    number: 18,
    page_magic: 0xD118,
    control_version: 1800,
    catalog_version: 202_506_291,
    control_crc_at: 292,
    relation_map_bytes: 524,
    slru_page_bytes: 8,
    stats_item_bytes: 16,
    checkpoint_has_wal_level: true,
    record_types: pg17::RECORD_TYPES,
};
