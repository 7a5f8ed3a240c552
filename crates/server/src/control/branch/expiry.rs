//! When a branch expires, and which ones may. No clock, no row is read or written.

use crate::clock;
use crate::error::{Error, Result};
use crate::limits::TTL_MAX_S;
use crate::metadata::branch::{self, BranchRow};

/// When a branch expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Microseconds since 1970.
    pub at_us: i64,
    /// Seconds from when that was said.
    pub ttl_s: i64,
}

impl Expiry {
    /// `ttl_s` seconds after `now_us`.
    pub fn after(ttl_s: i64, now_us: i64) -> Self {
        Self { at_us: now_us.saturating_add(ttl_s.saturating_mul(1_000_000)), ttl_s }
    }
}

/// Reads the `expires_at` of a request; whole seconds count.
///
/// # Errors
/// `Malformed` for text that is no time, `Refused` for a time in the past or more than 30 days ahead.
pub fn parse(text: Option<&str>, now_us: i64) -> Result<Option<Expiry>> {
    let Some(text) = text else { return Ok(None) };
    let at_us = clock::parse(text)?.div_euclid(1_000_000).saturating_mul(1_000_000);
    if at_us <= now_us {
        return Err(refusal(&format!("{text} is in the past; a branch expires in the future")));
    }
    let ttl_s = (at_us - now_us + 500_000).div_euclid(1_000_000);
    if ttl_s > TTL_MAX_S {
        return Err(refusal(&format!("{text} is more than 30 days ahead")));
    }
    Ok(Some(Expiry { at_us, ttl_s }))
}

/// Checks that a branch may expire, if it does.
///
/// # Errors
/// `Refused` for the default, a protected branch and one with children.
pub fn check(row: &BranchRow, children: &[BranchRow]) -> Result<()> {
    if row.expires_us.is_none() {
        return Ok(());
    }
    match (row.protected, row.is_default, children) {
        (true, _, _) => Err(refusal("a protected branch cannot expire")),
        (_, true, _) => Err(refusal("the default branch cannot expire")),
        (_, _, []) => Ok(()),
        (_, _, children) => Err(refusal(&format!(
            "branch {} has children and cannot expire: {}",
            row.name,
            branch::names_of(children)
        ))),
    }
}

/// Checks that a branch may have children.
///
/// # Errors
/// `Refused` for one that expires.
pub fn check_parent(row: &BranchRow) -> Result<()> {
    if row.expires_us.is_none() {
        return Ok(());
    }
    let hint = "hint: let it not expire, by setting its expires_at to null";
    Err(refusal(&format!("branch {} expires and cannot have children\n{hint}", row.name)))
}

/// The refusal of an expiry.
pub fn refusal(text: &str) -> Error {
    Error::refused("EXPIRY_NOT_ALLOWED", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::metadata::tests::branch_row;

    #[test]
    fn a_time_to_live_is_at_most_thirty_days_and_at_least_something() {
        let now_us = clock::parse("2026-03-01T12:00:00Z").unwrap();
        let parse = |text: &str| parse(Some(text), now_us);
        let two_hours = parse("2026-03-01T14:00:00.900Z").unwrap().unwrap();
        assert_eq!(two_hours, Expiry::after(7200, now_us));
        assert!(parse("2026-03-31T12:00:00Z").is_ok());
        assert_eq!(parse("2026-03-31T12:00:01Z").unwrap_err().kind, Kind::Refused);
        assert_eq!(parse("2026-03-01T12:00:00.400Z").unwrap_err().kind, Kind::Refused);
        assert_eq!(parse("tomorrow").unwrap_err().kind, Kind::Malformed);
        assert_eq!(super::parse(None, now_us).unwrap(), None);
    }

    #[test]
    fn what_others_rely_on_does_not_expire() {
        let row = BranchRow { expires_us: Some(1), ..branch_row("br-a-a-a", "dev") };
        assert!(check(&row, &[]).is_ok());
        assert!(check(&row, std::slice::from_ref(&row)).is_err());
        assert!(check(&BranchRow { protected: true, ..row.clone() }, &[]).is_err());
        assert!(check(&BranchRow { is_default: true, ..row.clone() }, &[]).is_err());
        assert!(check_parent(&row).is_err());
        assert!(check_parent(&branch_row("br-a-a-a", "dev")).is_ok());
    }
}
