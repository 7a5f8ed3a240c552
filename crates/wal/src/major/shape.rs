//! What is told of a major version.

use crate::RmgrId;

/// For each resource manager, bit `n` is set if a record's info may have `n` in its upper four bits.
pub(crate) type RecordTypes = [(RmgrId, u16); 22];

/// One major version.
#[derive(Debug)]
pub struct Major {
    /// The version's number.
    pub number: u32,
    /// First two bytes of every WAL page (`XLOG_PAGE_MAGIC`).
    pub(crate) page_magic: u16,
    /// `PG_CONTROL_VERSION`.
    pub(crate) control_version: u32,
    /// `CATALOG_VERSION_NO` of every release of the major.
    pub catalog_version: u32,
    /// Where the CRC of `pg_control` is: the end of what it covers.
    pub(crate) control_crc_at: usize,
    /// Bytes of `pg_filenode.map` (`RelMapFile`).
    pub(crate) relation_map_bytes: usize,
    /// Bytes of an SLRU page's number in the records that zero or truncate.
    pub(crate) slru_page_bytes: usize,
    /// Bytes of a dropped statistics item in commit and abort records (`xl_xact_stats_item`).
    pub(crate) stats_item_bytes: usize,
    /// A checkpoint says `wal_level`, at the offset of what is padding before.
    pub(crate) checkpoint_has_wal_level: bool,
    /// Which records there are.
    pub(crate) record_types: RecordTypes,
}

impl Major {
    /// True if records of `rmgr` with these bits in the upper half of their info exist.
    pub(crate) fn knows(&self, rmgr: RmgrId, op: u8) -> bool {
        self.record_types.get(usize::from(rmgr.0)).is_some_and(|&(_, types)| types >> (op >> 4) & 1 != 0)
    }
}
