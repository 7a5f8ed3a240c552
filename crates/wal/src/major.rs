//! What differs between major versions: one file each, all of the same shape.
//!
//! Not here: which fields redo reads (`redo`), what a server must be told (`compute`).

mod pg15;
mod pg16;
mod pg17;
mod pg18;
mod shape;

pub use shape::Major;

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

/// The major version with this number; `None` if it is not supported.
pub fn of(number: u32) -> Option<&'static Major> {
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
    use crate::RmgrId;

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
