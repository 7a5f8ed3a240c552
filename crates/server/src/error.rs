//! Why a request was not done, and which HTTP status that is.
//!
//! One place decides the status of every failure, so that the CLI can turn statuses into exit codes. A message names
//! the object; a second line that begins with `hint:` says what to do.

use std::io;
use std::time::Duration;

use store::StoreError;

/// What every function that serves a request returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// HTTP status.
    pub status: u16,
    /// The kind of error, in capitals.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// When to try again, if that is known: the header `Retry-After`.
    pub retry_after_s: Option<u64>,
}

impl Error {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None }
    }

    /// 400: the request cannot be understood.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, "BAD_REQUEST", message)
    }

    /// 401: no valid key.
    pub fn unauthorized() -> Self {
        let text = "the API key is missing or wrong\nhint: send `Authorization: Bearer <key>`; the key is in the \
                    file api-key of the data directory";
        Self::new(401, "UNAUTHORIZED", text)
    }

    /// 404: `kind` (`branch`) named `id` does not exist. Clients look for the words `branch not found`.
    pub fn not_found(kind: &str, id: &str) -> Self {
        let code = match kind {
            "project" => "PROJECT_NOT_FOUND",
            "branch" => "BRANCH_NOT_FOUND",
            "endpoint" => "ENDPOINT_NOT_FOUND",
            _ => "NOT_FOUND",
        };
        Self::new(404, code, format!("{kind} not found: {id}"))
    }

    /// An error of the HTTP library: a parameter that cannot be read, a method that a route does not have.
    pub fn foreign(status: axum::http::StatusCode, message: impl Into<String>) -> Self {
        let code = match status.as_u16() {
            400 => "BAD_REQUEST",
            404 => "NOT_FOUND",
            405 => "METHOD_NOT_ALLOWED",
            408 => "REQUEST_TIMEOUT",
            413 => "BODY_TOO_LARGE",
            415 => "UNSUPPORTED_MEDIA_TYPE",
            status if status < 500 => "REFUSED",
            _ => "INTERNAL",
        };
        Self::new(status.as_u16(), code, message)
    }

    /// 404, in the words of Postgres.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(404, "NOT_FOUND", message)
    }

    /// 412: what is asked for is not known.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(412, "PRECONDITION_FAILED", message)
    }

    /// 409: a name is taken.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "CONFLICT", message)
    }

    /// 408: the request did not arrive whole in time.
    pub fn too_slow() -> Self {
        Self::new(408, "REQUEST_TIMEOUT", "the request body did not arrive in time")
    }

    /// 413: a request body of more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "BODY_TOO_LARGE", format!("the request body has more than {limit} bytes"))
    }

    /// 429: more requests than `rate` a second; one more may come after `wait`.
    pub fn too_many(rate: u32, wait: Duration) -> Self {
        let hint = "hint: wait as long as Retry-After says; `scion serve --rate-limit` changes the limit";
        let text = format!("this key made more than {rate} requests a second\n{hint}");
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { retry_after_s: Some(seconds.max(1)), ..Self::new(429, "TOO_MANY_REQUESTS", text) }
    }

    /// 422: a rule refuses it.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(422, code, message)
    }

    /// 423: try again.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(423, "LOCKED", message)
    }

    /// 500: our fault, or damaged data.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "INTERNAL", message)
    }

    /// 503: the store or an endpoint cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "UNAVAILABLE", message)
    }

    /// 503: as many as may be are under way, and this was not begun.
    pub fn crowded(message: impl Into<String>) -> Self {
        Self::new(503, "TOO_MANY_AT_ONCE", message)
    }

    /// Whether that is what it is.
    pub fn is_crowded(&self) -> bool {
        self.code == "TOO_MANY_AT_ONCE"
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn again_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// 507: no space.
    pub fn disk_full(message: impl std::fmt::Display) -> Self {
        let hint = "hint: nothing was lost; free some space and try again";
        Self::new(507, "DISK_FULL", format!("{message}\n{hint}"))
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
                let first = crate::machine::clock::show_pg(first);
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
                Self::unavailable(format!(
                    "{text}
{hint}"
                ))
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
        assert_eq!(error.status, 422);
        assert!(error.message.contains("0/FF is ahead of branch br-a-b-c, which ends at 0/10"));
        assert!(error.message.contains("\nhint: "));
        let children = StoreError::HasChildren { branch: branch.clone(), child: branch.clone() };
        assert_eq!(Error::from(children).status, 422);
        assert_eq!(Error::from(StoreError::NotFound { branch: branch.clone() }).status, 404);
        assert_eq!(Error::from(StoreError::Exists { branch }).status, 409);
    }

    #[test]
    fn a_full_disk_is_507_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Error::io("write x")(full()).status, 507);
        assert_eq!(Error::from(StoreError::Full { path: "x".into() }).status, 507);
        let sqlite = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        assert_eq!(Error::from(rusqlite::Error::SqliteFailure(sqlite, None)).status, 507);
    }
}
