//! PostgreSQL 15: magic numbers, and which record types exist.
//!
//! Follows `access/xlog_internal.h`, `catalog/pg_control.h`, `catalog/catversion.h`, and the `*xlog.h` headers.

use crate::RmgrId;

/// The major version.
pub(crate) const MAJOR: u32 = 15;
/// `XLOG_PAGE_MAGIC`.
pub(crate) const PAGE_MAGIC: u16 = 0xD110;
/// `PG_CONTROL_VERSION`, shared by 13 to 16.
pub(crate) const CONTROL_VERSION: u32 = 1300;
/// `CATALOG_VERSION_NO` of every release of 15.
pub(crate) const CATALOG_VERSION: u32 = 202_209_061;
/// Bytes of `pg_filenode.map` (`RelMapFile`).
pub(crate) const RELATION_MAP_SIZE: usize = 512;

/// For each resource manager, bit `n` is set if a record's info may have `n` in its upper four bits.
const TYPES: [(RmgrId, u16); 22] = [
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

/// True if records of `rmgr` with these bits in the upper half of their info exist.
pub(crate) fn knows(rmgr: RmgrId, op: u8) -> bool {
    TYPES.get(usize::from(rmgr.0)).is_some_and(|&(_, types)| types >> (op >> 4) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_listed_by_resource_manager_number() {
        for (number, (rmgr, _)) in TYPES.iter().enumerate() {
            assert_eq!(usize::from(rmgr.0), number);
        }
        assert!(knows(RmgrId::XLOG, 0xD0));
        assert!(!knows(RmgrId::XLOG, 0xC0));
        assert!(!knows(RmgrId(22), 0));
    }
}
