//! Why WAL could not be read.

use types::Lsn;

/// Why WAL could not be read or understood. The position is that of the record or page at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The bytes are not WAL that continues what was read: the log ends before here, or it is damaged.
    #[error("no valid WAL at {at}: {reason}")]
    Invalid {
        /// Where.
        at: Lsn,
        /// What was found and what was expected.
        reason: String,
    },
    /// The record's frame is valid but its content cannot be.
    #[error("malformed {record} record at {at}: {reason}")]
    Malformed {
        /// Start of the record.
        at: Lsn,
        /// Resource manager and record type, as `pg_waldump` names them.
        record: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A record type this version does not know.
    #[error("unknown record type {record} at {at}; ingest stops here and keeps the WAL")]
    Unknown {
        /// Start of the record.
        at: Lsn,
        /// Resource manager and info bits.
        record: String,
    },
    /// WAL of another server version, block size or segment size.
    #[error("unsupported WAL: {0}")]
    Unsupported(String),
}
