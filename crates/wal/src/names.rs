//! What record types are called, for errors: the words that `pg_waldump` prints.
//!
//! Follows the `*_identify` functions in `access/rmgrdesc`. The words are those of 15 to 18; the few types whose
//! number changed its meaning between two majors are in [`changed_in_17`] alone.
//!
//! Not here: which types exist in which major (`major`), resource managers (`record`).

use crate::{Record, RmgrId, WalError};

/// For each resource manager by number, the types by the upper four bits of the info; no word if there is none.
const WORDS: [&[&str]; 22] = [
    &[
        "CHECKPOINT_SHUTDOWN",
        "CHECKPOINT_ONLINE",
        "NOOP",
        "NEXTOID",
        "SWITCH",
        "BACKUP_END",
        "PARAMETER_CHANGE",
        "RESTORE_POINT",
        "FPW_CHANGE",
        "END_OF_RECOVERY",
        "FPI_FOR_HINT",
        "FPI",
        "",
        "OVERWRITE_CONTRECORD",
    ],
    &["COMMIT", "PREPARE", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED", "ASSIGNMENT", "INVALIDATION"],
    &["", "CREATE", "TRUNCATE"],
    &["ZEROPAGE", "TRUNCATE"],
    &["CREATE_FILE_COPY", "CREATE_WAL_LOG", "DROP"],
    &["CREATE", "DROP"],
    &["ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"],
    &["UPDATE"],
    &["LOCK", "RUNNING_XACTS", "INVALIDATIONS"],
    HEAP2,
    HEAP,
    BTREE,
    HASH,
    GIN,
    &["PAGE_UPDATE", "DELETE", "PAGE_REUSE", "PAGE_SPLIT", "", "", "PAGE_DELETE", "ASSIGN_LSN"],
    &["LOG"],
    SPGIST,
    BRIN,
    &["ZEROPAGE", "TRUNCATE"],
    &["SET", "DROP"],
    &["Generic"],
    &["MESSAGE"],
];
/// Without the three types that changed their meaning.
const HEAP2: &[&str] = &[
    "REWRITE",
    "",
    "",
    "",
    "VISIBLE",
    "MULTI_INSERT",
    "LOCK_UPDATED",
    "NEW_CID",
    "",
    "",
    "",
    "",
    "",
    "MULTI_INSERT+INIT",
];
const HEAP: &[&str] = &[
    "INSERT",
    "DELETE",
    "UPDATE",
    "TRUNCATE",
    "HOT_UPDATE",
    "HEAP_CONFIRM",
    "LOCK",
    "INPLACE",
    "INSERT+INIT",
    "",
    "UPDATE+INIT",
    "",
    "HOT_UPDATE+INIT",
];
const BTREE: &[&str] = &[
    "INSERT_LEAF",
    "INSERT_UPPER",
    "INSERT_META",
    "SPLIT_L",
    "SPLIT_R",
    "INSERT_POST",
    "DEDUP",
    "DELETE",
    "UNLINK_PAGE",
    "UNLINK_PAGE_META",
    "NEWROOT",
    "MARK_PAGE_HALFDEAD",
    "VACUUM",
    "REUSE_PAGE",
    "META_CLEANUP",
];
const HASH: &[&str] = &[
    "INIT_META_PAGE",
    "INIT_BITMAP_PAGE",
    "INSERT",
    "ADD_OVFL_PAGE",
    "SPLIT_ALLOCATE_PAGE",
    "SPLIT_PAGE",
    "SPLIT_COMPLETE",
    "MOVE_PAGE_CONTENTS",
    "SQUEEZE_PAGE",
    "DELETE",
    "SPLIT_CLEANUP",
    "UPDATE_META_PAGE",
    "VACUUM_ONE_PAGE",
];
const GIN: &[&str] = &[
    "",
    "CREATE_PTREE",
    "INSERT",
    "SPLIT",
    "VACUUM_PAGE",
    "DELETE_PAGE",
    "UPDATE_META_PAGE",
    "INSERT_LISTPAGE",
    "DELETE_LISTPAGE",
    "VACUUM_DATA_LEAF_PAGE",
];
const SPGIST: &[&str] = &[
    "",
    "ADD_LEAF",
    "MOVE_LEAFS",
    "ADD_NODE",
    "SPLIT_TUPLE",
    "PICKSPLIT",
    "VACUUM_LEAF",
    "VACUUM_ROOT",
    "VACUUM_REDIRECT",
];
const BRIN: &[&str] = &[
    "CREATE_INDEX",
    "INSERT",
    "UPDATE",
    "SAMEPAGE_UPDATE",
    "REVMAP_EXTEND",
    "DESUMMARIZE",
    "",
    "",
    "",
    "INSERT+INIT",
    "UPDATE+INIT",
];

/// Types that mean one thing before 17 and another from 17 on.
fn changed_in_17(rmgr: RmgrId, op: u8) -> Option<[&'static str; 2]> {
    Some(match (rmgr, op) {
        (RmgrId::HEAP2, 0x10) => ["PRUNE", "PRUNE_ON_ACCESS"],
        (RmgrId::HEAP2, 0x20) => ["VACUUM", "PRUNE_VACUUM_SCAN"],
        (RmgrId::HEAP2, 0x30) => ["FREEZE_PAGE", "PRUNE_VACUUM_CLEANUP"],
        (RmgrId::XLOG, 0xE0) => ["", "CHECKPOINT_REDO"],
        _ => return None,
    })
}

/// The word for a record type of major version `major`; `None` if it has none. Without a version, words that are
/// the same in all of them are known.
///
/// ```
/// use wal::{RmgrId, names::record_type};
/// assert_eq!(record_type(None, RmgrId::HASH, 0x40), Some("SPLIT_ALLOCATE_PAGE"));
/// assert_eq!(record_type(Some(17), RmgrId::HEAP2, 0x10), Some("PRUNE_ON_ACCESS"));
/// assert_eq!(record_type(None, RmgrId::HEAP2, 0x10), None);
/// ```
pub fn record_type(major: Option<u32>, rmgr: RmgrId, info: u8) -> Option<&'static str> {
    // Bit 0x80 of a transaction record is no part of its type.
    let op = info & if rmgr == RmgrId::XACT { 0x70 } else { 0xF0 };
    let word = match changed_in_17(rmgr, op) {
        Some([before, since]) => major.map(|major| if major < 17 { before } else { since }),
        None => WORDS.get(usize::from(rmgr.0)).and_then(|words| words.get(usize::from(op >> 4))).copied(),
    };
    word.filter(|word| !word.is_empty())
}

/// A record's resource manager and type for errors: `Hash/SPLIT_ALLOCATE_PAGE`, or its number if that has no word.
pub fn describe(major: Option<u32>, record: &Record<'_>) -> String {
    let rmgr = record.rmgr.name();
    match record_type(major, record.rmgr, record.info) {
        Some(word) if word == rmgr => word.to_owned(),
        Some(word) => format!("{rmgr}/{word}"),
        None => format!("{rmgr} (resource manager {}, info 0x{:02X})", record.rmgr.0, record.info),
    }
}

impl Record<'_> {
    /// An error that says this record's content cannot be.
    pub(crate) fn malformed(&self, reason: &str) -> WalError {
        WalError::Malformed { at: self.start, record: describe(None, self), reason: reason.to_owned() }
    }

    /// An error that says this record's type is not known.
    pub(crate) fn unknown(&self) -> WalError {
        WalError::Unknown { at: self.start, record: describe(None, self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::major;

    #[test]
    fn every_type_that_a_major_knows_has_a_word_and_no_other_has() {
        for major in major::MAJORS.map(|number| major::of(number).unwrap()) {
            for rmgr in (0..=u8::MAX).map(RmgrId) {
                for op in (0..=0xF0).step_by(0x10) {
                    let word = record_type(Some(major.number), rmgr, op);
                    assert_eq!(word.is_some(), major.knows(rmgr, op), "{rmgr:?} {op:#x} {word:?}");
                }
            }
        }
    }

    #[test]
    fn a_type_that_changed_its_meaning_has_a_word_only_with_the_version() {
        let pruned = |major| record_type(major, RmgrId::HEAP2, 0x20);
        assert_eq!([pruned(Some(15)), pruned(Some(16))], [Some("VACUUM"); 2]);
        assert_eq!([pruned(Some(17)), pruned(Some(18))], [Some("PRUNE_VACUUM_SCAN"); 2]);
        assert_eq!(pruned(None), None);
    }
}
