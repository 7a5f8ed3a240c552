//! PostgreSQL 16.
//!
//! Since 15: a relation map holds 64 entries, without padding. The control file is that of 15.

use super::pg15;
use super::shape::Major;

pub(super) const MAJOR: Major = Major {
    number: 16,
    page_magic: 0xD113,
    control_version: 1300,
    catalog_version: 202_307_071,
    control_crc_at: 288,
    relation_map_bytes: 524,
    slru_page_bytes: 4,
    stats_item_bytes: 12,
    checkpoint_has_wal_level: false,
    record_types: pg15::RECORD_TYPES,
};
