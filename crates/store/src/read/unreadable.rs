//! What of a branch cannot be read, because an extension's resource manager wrote it.
//!
//! Not here: how that is remembered (`branch::extension`).

use types::{Key, Lsn};

use crate::answer::Unreadable;
use crate::branch::Branch;
use crate::branch::extension::{FIRST, LAST, rmgr_in};
use crate::error::Result;

/// What cannot be read at `lsn`, with at most `limit` forks.
pub(crate) fn unreadable(branch: &Branch, lsn: Lsn, limit: usize) -> Result<Unreadable> {
    let mut answer = Unreadable::default();
    for (key, version) in branch.scan(FIRST, LAST, lsn)? {
        match key {
            Key::Extension(rmgr) => answer.managers.push((rmgr, version.lsn)),
            Key::Unreadable(rel) if answer.forks.len() < limit => {
                answer.forks.push((rel, rmgr_in(&version)?, version.lsn));
            }
            Key::Unreadable(_) => answer.more += 1,
            _ => {}
        }
    }
    Ok(answer)
}
