//! Why something was not done, split by what the caller does next.
//!
//! One place decides the kind of every failure of the store and of SQLite. A message names the object; a second line that
//! begins with `hint:` says what to do.
//!
//! Not here: which HTTP status a kind is (`http::answer`).

use std::io;
use std::time::Duration;

use store::StoreError;

use crate::clock;

/// What every function that can fail returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ask for something else: what was asked for cannot be understood.
    Malformed,
    /// Send a valid key.
    Unauthorized,
    /// Name something that exists.
    NotFound,
    /// Do without: it is not known.
    Unknown,
    /// Choose another name, or look at what is there already.
    Conflict,
    /// Change first what the rule is about that refuses it.
    Refused,
    /// The same again in a moment: another request has it in hand.
    Busy,
    /// The same again later: too many came before it.
    TooMany,
    /// The same again later: what it needs does not answer.
    Unavailable,
    /// Free some space, and then the same again.
    DiskFull,
    /// Report it: our fault, or damaged data.
    Internal,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller does next.
    pub kind: Kind,
    /// What it is about, in capitals, for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// When to try again, if that is known.
    pub retry_after_s: Option<u64>,
}

impl Error {
    fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), retry_after_s: None }
    }

    /// [`Kind::Malformed`]: it cannot be understood.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, "BAD_REQUEST", message)
    }

    /// [`Kind::Unauthorized`]: no valid key.
    pub fn unauthorized() -> Self {
        let text = "the API key is missing or wrong\nhint: send `Authorization: Bearer <key>`; the key is in the \
                    file api-key of the data directory";
        Self::new(Kind::Unauthorized, "UNAUTHORIZED", text)
    }

    /// [`Kind::NotFound`]: `what` (`branch`) named `id` does not exist. Clients look for the words `branch not found`.
    pub fn not_found(what: &str, id: &str) -> Self {
        let code = match what {
            "project" => "PROJECT_NOT_FOUND",
            "branch" => "BRANCH_NOT_FOUND",
            "endpoint" => "ENDPOINT_NOT_FOUND",
            _ => "NOT_FOUND",
        };
        Self::new(Kind::NotFound, code, format!("{what} not found: {id}"))
    }

    /// [`Kind::NotFound`], in the words of Postgres.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND", message)
    }

    /// [`Kind::Unknown`].
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, "PRECONDITION_FAILED", message)
    }

    /// [`Kind::Conflict`]: a name is taken.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, "CONFLICT", message)
    }

    /// [`Kind::TooMany`]: more requests than `rate` a second; one more may come after `wait`.
    pub fn too_many(rate: u32, wait: Duration) -> Self {
        let hint = "hint: wait as long as Retry-After says; `scion serve --rate-limit` changes the limit";
        let text = format!("this key made more than {rate} requests a second\n{hint}");
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(Kind::TooMany, "TOO_MANY_REQUESTS", text).again_after(seconds.max(1))
    }

    /// [`Kind::Refused`]: a rule refuses it.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, code, message)
    }

    /// [`Kind::Busy`].
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, "LOCKED", message)
    }

    /// [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "INTERNAL", message)
    }

    /// [`Kind::Unavailable`]: the store or an endpoint cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, "UNAVAILABLE", message)
    }

    /// [`Kind::Unavailable`]: as many as may be are under way, and this was not begun.
    pub fn crowded(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, "TOO_MANY_AT_ONCE", message)
    }

    /// Whether that is what it is.
    pub fn is_crowded(&self) -> bool {
        self.code == "TOO_MANY_AT_ONCE"
    }

    /// Whether the server failed at it; the others are the caller's to mend, or to ask again.
    pub const fn is_failure(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::DiskFull | Kind::Internal)
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub const fn again_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// [`Kind::DiskFull`].
    pub fn disk_full(message: impl std::fmt::Display) -> Self {
        let hint = "hint: nothing was lost; free some space and try again";
        Self::new(Kind::DiskFull, "DISK_FULL", format!("{message}\n{hint}"))
    }

    /// An I/O error at `doing` ("write spec.json").
    pub fn io(doing: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::disk_full(format!("{doing}: {error}"))
            }
            _ => Self::internal(format!("{doing}: {error}")),
        }
    }
}

impl From<clock::NotATime> for Error {
    fn from(error: clock::NotATime) -> Self {
        let hint = "hint: write it as RFC 3339, like 2026-03-01T14:03:07.512Z";
        Self::malformed(format!("{error}\n{hint}"))
    }
}

/// The error with its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::NotFound { branch } => Self::not_found("branch", branch.as_str()),
            StoreError::Exists { .. } => Self::conflict(text),
            StoreError::HasChildren { .. } => {
                let hint = "hint: delete its children first";
                Self::refused("BRANCH_HAS_CHILDREN", format!("{text}\n{hint}"))
            }
            StoreError::Ahead { .. } => {
                let hint = "hint: leave out parent_lsn to branch from the head";
                Self::refused("LSN_AHEAD", format!("{text}\n{hint}"))
            }
            StoreError::BeforeStart { .. } => Self::refused("LSN_BEFORE_START", text),
            StoreError::BeforeHistory { first, .. } => {
                let first = clock::show_pg(first);
                let text = format!("the time is before the history of the branch, which begins at {first}");
                Self::refused("TIME_BEFORE_HISTORY", text)
            }
            StoreError::NotBoundary { .. } => Self::refused("LSN_NOT_A_BOUNDARY", text),
            StoreError::Full { .. } => Self::disk_full(text),
            StoreError::Locked { .. }
            | StoreError::Superseded { .. }
            | StoreError::Timeout { .. }
            | StoreError::Behind { .. }
            | StoreError::FlushFailing { .. }
            | StoreError::MemoryFull { .. }
            | StoreError::Io { .. } => Self::unavailable(text),
            StoreError::Stuck { .. } => {
                let hint = "hint: `scion admin log show BRANCH` says what is stuck and what can be done";
                Self::unavailable(format!("{text}\n{hint}"))
            }
            StoreError::NotStuck { .. } => Self::refused("LOG_NOT_STUCK", text),
            StoreError::Fenced { .. }
            | StoreError::Gap { .. }
            | StoreError::NoRelation { .. }
            | StoreError::BeyondEnd { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Corrupt { .. }
            | StoreError::NoBase { .. }
            | StoreError::Redo(_)
            | StoreError::Wal(_)
            | StoreError::Import { .. } => Self::internal(text),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = format!("metadata: {error}");
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::disk_full(text),
            Some(rusqlite::ErrorCode::ConstraintViolation) => Self::conflict(text),
            Some(rusqlite::ErrorCode::DatabaseBusy) => Self::unavailable(text),
            _ => Self::internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_refuses_is_refused_by_a_rule_and_not_a_fault() {
        let branch: types::BranchId = "br-a-b-c".parse().unwrap();
        let lsn = |raw| types::Lsn::from_raw(raw).unwrap();
        let ahead = StoreError::Ahead { branch: branch.clone(), asked: lsn(0xFF), head: lsn(0x10) };
        let error = Error::from(ahead);
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.message.contains("0/FF is ahead of branch br-a-b-c, which ends at 0/10"));
        assert!(error.message.contains("\nhint: "));
        let children = StoreError::HasChildren { branch: branch.clone(), child: branch.clone() };
        assert_eq!(Error::from(children).kind, Kind::Refused);
        assert_eq!(Error::from(StoreError::NotFound { branch: branch.clone() }).kind, Kind::NotFound);
        assert_eq!(Error::from(StoreError::Exists { branch }).kind, Kind::Conflict);
    }

    #[test]
    fn a_full_disk_is_told_as_one_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Error::io("write x")(full()).kind, Kind::DiskFull);
        assert_eq!(Error::from(StoreError::Full { path: "x".into() }).kind, Kind::DiskFull);
        let sqlite = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        assert_eq!(Error::from(rusqlite::Error::SqliteFailure(sqlite, None)).kind, Kind::DiskFull);
    }
}
