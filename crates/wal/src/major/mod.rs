//! What differs between major versions: one file each, all of the same shape.
//!
//! Not here: which fields redo reads (`redo`), what a server must be told (`compute`).

mod pg15;
mod pg16;
mod pg17;
mod pg18;

use crate::RmgrId;

/// The majors that are supported, oldest first.
pub const MAJORS: [u32; 4] = [pg15::MAJOR.number, pg16::MAJOR.number, pg17::MAJOR.number, pg18::MAJOR.number];

const ALL: [&Major; 4] = [&pg15::MAJOR, &pg16::MAJOR, &pg17::MAJOR, &pg18::MAJOR];

/// `XLOG_PAGE_MAGIC` of majors that are not supported, so that an error can name them.
const OTHER_MAGICS: [(u16, u32); 5] = [(0xD10D, 14), (0xD106, 13), (0xD101, 12), (0xD098, 11), (0xD097, 10)];

/// Control and catalog versions of majors that are not supported, for the same reason.
const OTHER_CLUSTERS: [(u32, u32, u32); 5] = [
    (1300, 202_107_181, 14),
    (1300, 202_007_201, 13),
    (1201, 201_909_212, 12),
    (1100, 201_809_051, 11),
    (1002, 201_707_211, 10),
];

/// For each resource manager, bit `n` is set if a record's info may have `n` in its upper four bits.
pub(crate) type RecordTypes = [(RmgrId, u16); 22];

/// One major version.
#[derive(Debug)]
pub(crate) struct Major {
    /// The version's number.
    pub(crate) number: u32,
    /// First two bytes of every WAL page (`XLOG_PAGE_MAGIC`).
    pub(crate) page_magic: u16,
    /// `PG_CONTROL_VERSION`.
    pub(crate) control_version: u32,
    /// `CATALOG_VERSION_NO` of every release of the major.
    pub(crate) catalog_version: u32,
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
    pub(crate) record_types: RecordTypes,
}

impl Major {
    /// True if records of `rmgr` with these bits in the upper half of their info exist.
    pub(crate) fn knows(&self, rmgr: RmgrId, op: u8) -> bool {
        self.record_types.get(usize::from(rmgr.0)).is_some_and(|&(_, types)| types >> (op >> 4) & 1 != 0)
    }
}

/// The major version with this number; `None` if it is not supported.
pub(crate) fn of(number: u32) -> Option<&'static Major> {
    ALL.into_iter().find(|major| major.number == number)
}

/// The major version of a `pg_control` with these two version numbers.
pub(crate) fn of_control(control_version: u32, catalog_version: u32) -> Option<&'static Major> {
    ALL.into_iter()
        .find(|major| major.control_version == control_version && major.catalog_version == catalog_version)
}

/// The number of the major version that is not supported and whose `pg_control` has these two version numbers.
pub(crate) fn other_of_control(control_version: u32, catalog_version: u32) -> Option<u32> {
    let is_it = |known: &(u32, u32, u32)| (known.0, known.1) == (control_version, catalog_version);
    OTHER_CLUSTERS.into_iter().find(is_it).map(|(_, _, number)| number)
}

/// The number of the major version whose WAL pages have this magic, supported or not.
pub(crate) fn of_page_magic(magic: u16) -> Option<u32> {
    let known = ALL.into_iter().map(|major| (major.page_magic, major.number));
    known.chain(OTHER_MAGICS).find(|&(known, _)| known == magic).map(|(_, number)| number)
}

/// The supported majors in words: `15, 16, 17 and 18`.
pub(crate) fn supported() -> String {
    let numbers = MAJORS.map(|number| number.to_string());
    let [first @ .., last] = &numbers;
    format!("{} and {last}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_listed_by_resource_manager_number() {
        for major in ALL {
            for (number, (rmgr, _)) in major.record_types.iter().enumerate() {
                assert_eq!(usize::from(rmgr.0), number);
            }
            assert!(major.knows(RmgrId::XLOG, 0xD0));
            assert!(!major.knows(RmgrId::XLOG, 0xC0));
            assert_eq!(major.knows(RmgrId::XLOG, 0xE0), major.number >= 17);
            assert!(!major.knows(RmgrId(22), 0));
        }
    }

    #[test]
    fn a_major_is_found_by_its_numbers_and_no_other() {
        for major in ALL {
            let found = of_control(major.control_version, major.catalog_version);
            assert_eq!(found.map(|major| major.number), Some(major.number));
            assert_eq!(of_page_magic(major.page_magic), Some(major.number));
        }
        assert!(of(14).is_none() && of(19).is_none());
        assert_eq!(of_page_magic(0xD10D), Some(14));
        assert_eq!(supported(), "15, 16, 17 and 18");
    }
}
