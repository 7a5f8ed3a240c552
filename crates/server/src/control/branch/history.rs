//! Whose history a moment lies in. A branch answers for what was before its own start from the branch it began on, and
//! so on up to the root: `main` has its past after a restore, too.
//!
//! ```text
//!   old   ----------*--------+--->        main asked for * answers from old, which it began on at +:
//!   main                     +------>     the new branch has main as its parent and old as its `history_branch_id`
//! ```
//!
//! What must hold
//! - What is made there begins with the roles and passwords of the branch whose history it is, and with new passwords
//!   if that is protected, or no longer known.
//! - A branch made of a schema alone shows nothing of before it was made, nor does what begins on it.
//!
//! Not here: finding the position (`store`), making the branch (`branch::create`).

use rusqlite::Connection;
use store::BranchPoint;
use types::PgTime;

use crate::clock;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::snapshot;
use crate::names::parse_branch;

/// Whose history a point is in that was found for a branch.
pub struct History {
    /// The branch, if it is another than the one that was asked and is known.
    pub other: Option<String>,
    /// The branch or snapshot whose roles and databases of that moment are known.
    pub roles: String,
    /// Whether what is made there needs passwords of its own.
    pub protected: bool,
}

/// Whose history `point` is in, which was found for `source`.
///
/// # Errors
/// Those of SQLite; `NotFound` and `Busy` if `source` was deleted or given other data meanwhile.
pub fn of(connection: &Connection, source: &BranchRow, point: &BranchPoint) -> Result<History> {
    let holder = branch::holder(connection, source)?;
    let data = point.branch.as_str();
    if data == source.store_id {
        return Ok(History { other: None, roles: holder, protected: source.protected });
    }
    let project = &source.project_id;
    if let Some(row) = branch::of_data(connection, project, data)? {
        let protected = source.protected || row.protected;
        return Ok(History { other: Some(row.id.clone()), roles: row.id, protected });
    }
    if let Some(row) = snapshot::of_data(connection, project, data)? {
        return Ok(History { other: None, roles: row.id, protected: source.protected });
    }
    // A branch that is gone: whether its passwords may be used here is not known any more.
    Ok(History { other: None, roles: holder, protected: true })
}

/// Id of the branch whose history `point` is in, if it is another than `source` and known.
///
/// # Errors
/// Those of SQLite; `NotFound` and `Busy` if `source` was deleted or given other data meanwhile.
pub fn history_of(control: &Control, source: &BranchRow, point: &BranchPoint) -> Result<Option<String>> {
    control.metadata.read(|connection| of(connection, source, point)).map(|history| history.other)
}

/// Refuses a `time` before a branch that was made of a schema alone, in the history of `parent`.
///
/// # Errors
/// `Refused` for such a time; those of the store and SQLite.
pub fn check_schema_only(control: &Control, parent: &BranchRow, time: PgTime) -> Result<()> {
    let ancestors = control.storage.store(&parent.project_id)?.ancestors(&parse_branch(&parent.store_id)?)?;
    let rows =
        control.metadata.read(|connection| branch::with_schema_only(connection, &parent.project_id))?;
    let in_history = |row: &&BranchRow| {
        row.store_id == parent.store_id || ancestors.iter().any(|(id, _)| id.as_str() == row.store_id)
    };
    for row in rows.iter().filter(in_history) {
        if let Some(began_us) = row.parent_time_us.filter(|began_us| time.unix_us() < *began_us) {
            return Err(before_history(&row.name, time, began_us));
        }
    }
    Ok(())
}

/// The refusal of a `time` before `began_us`, when all that is known of branch `name` begins.
pub fn before_history(name: &str, time: PgTime, began_us: i64) -> Error {
    let (asked, began) = (clock::show_pg(time), clock::show(began_us));
    let text = format!("{asked} is before the history of {name}, which begins at {began}");
    Error::refused("TIME_BEFORE_HISTORY", format!("{text}\nhint: nothing older is there"))
}
