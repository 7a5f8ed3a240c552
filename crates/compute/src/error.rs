//! Why an endpoint cannot go on, split by what the agent does next.

use std::io;

use crate::client::ClientError;

/// Why a step of an endpoint's life failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint was asked to stop meanwhile; not a failure.
    #[error("stopped while starting")]
    Cancelled,
    /// Asked to stop before the WAL of an earlier run was shipped.
    #[error("stopped before the WAL left in {0} was in the store; the next start ships it")]
    Unshipped(std::path::PathBuf),
    /// The spec cannot be run.
    #[error("{0}")]
    Spec(String),
    /// The store refused.
    #[error("the store: {0}")]
    Store(crate::protocol::Failure),
    /// What the store sent does not fit together.
    #[error("the store's answer: {0}")]
    Answer(String),
    /// Postgres refuses the superuser, in these words.
    #[error("postgres refuses the superuser: {0}")]
    Barred(String),
    /// Postgres did not come up, or ended.
    #[error("{0}")]
    Postgres(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// Verb phrase with the object's name.
        what: String,
        /// The reason.
        source: io::Error,
    },
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Cancelled => Self::Cancelled,
            ClientError::Refused(failure) => Self::Store(failure),
            ClientError::Unexpected => Self::Answer("a reply of the wrong kind".to_owned()),
        }
    }
}

/// The store sent a `pg_control` or log of a kind that is not known.
impl From<wal::WalError> for Error {
    fn from(error: wal::WalError) -> Self {
        Self::Answer(error.to_string())
    }
}

/// Adds to an `io::Error` what was being done.
pub(crate) trait While<T> {
    /// `what` is a verb phrase with the object's name: "create /x/pg_wal".
    fn while_(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> While<T> for io::Result<T> {
    fn while_(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// What a system call that answers with a number came to.
pub fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
