//! What a `Gin` record does, in more detail than its type says.

use wal::Record;

const INSERT: u8 = 0x20;
const VACUUM_DATA_LEAF_PAGE: u8 = 0x90;
/// Bits of an INSERT's flags: the page is of a posting tree, the page is a leaf.
const IS_DATA: u8 = 1;
const IS_LEAF: u8 = 2;

/// What an INSERT inserts into.
pub fn tree(record: &Record<'_>) -> Option<&'static str> {
    (record.op() == INSERT).then(|| match record.main[0] & (IS_DATA | IS_LEAF) {
        0 => "entry inner",
        IS_LEAF => "entry leaf",
        IS_DATA => "posting inner",
        _ => "posting leaf",
    })
}

/// The actions on segments in a record that changes a leaf of a posting tree.
pub fn segment_actions(record: &Record<'_>) -> Vec<u8> {
    if record.op() != VACUUM_DATA_LEAF_PAGE && tree(record) != Some("posting leaf") {
        return Vec::new();
    }
    let data = record.block(0).unwrap().data;
    let half = |at: usize| usize::from(u16::from_le_bytes([data[at], data[at + 1]]));
    let mut at = 2;
    let mut actions = Vec::new();
    for _ in 0..half(0) {
        let action = data[at + 1];
        actions.push(action);
        at += 2;
        at += match action {
            2 | 3 => 8 + half(at + 6).next_multiple_of(2),
            4 => 2 + half(at) * 6,
            _ => 0,
        };
    }
    actions
}
