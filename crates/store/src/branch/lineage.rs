//! Which branch, and which of its timelines, has which part of the log that leads to a position.
//!
//! The imported timeline owns everything before the root's start.

use types::{Lsn, TimelineId};

use super::Branch;
use crate::error::Result;
use crate::log::segments::{Missing, WalFiles};

/// Reads WAL of `branch` and its ancestors from `from` up to `to`.
pub(crate) fn read_wal(files: &WalFiles, branch: &Branch, from: Lsn, to: Lsn) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (branch, from, to) in lineage(branch, from, to) {
        for (timeline, begin, end) in branch.spans(from, to) {
            let at = bytes.len();
            let len = usize::try_from(end.bytes_since(begin).unwrap_or(0)).unwrap_or(0);
            bytes.resize(at + len, 0);
            let out = bytes.get_mut(at..).unwrap_or(&mut []);
            files.read(&branch.id, timeline, begin, out, Missing::IsDamage)?;
        }
    }
    Ok(bytes)
}

/// The timelines that lead to `lsn` on `branch`, oldest first, with where each ends; those that hold no WAL are left out.
/// The imported timeline owns everything before the root's start.
pub(crate) fn history(branch: &Branch, lsn: Lsn) -> Vec<(TimelineId, Lsn)> {
    let first = Lsn::from_raw(1).unwrap_or(Lsn::MAX);
    let spans = lineage(branch, first, lsn).into_iter().flat_map(|(branch, from, to)| branch.spans(from, to));
    spans.map(|(timeline, _, end)| (timeline, end)).collect()
}

/// Which of `branch` and its ancestors has which part of `from..to`, oldest first.
fn lineage(branch: &Branch, from: Lsn, to: Lsn) -> Vec<(&Branch, Lsn, Lsn)> {
    let (mut branch, mut to, mut parts) = (branch, to, Vec::new());
    while let Some((parent, start)) = branch.parent()
        && from < start
    {
        if start < to {
            parts.push((branch, start, to));
            to = start;
        }
        branch = parent;
    }
    parts.push((branch, from, to));
    parts.reverse();
    parts
}
