//! Times as the API takes them.

use std::process::Command;

use crate::process;

/// RFC 3339, so many seconds from now.
pub fn in_seconds(seconds: u64) -> String {
    let at = format!("+{seconds} seconds");
    process::run(Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%SZ"])).trim().to_owned()
}
