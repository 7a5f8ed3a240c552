//! Commit times as Postgres writes them.

/// Microseconds since 2000-01-01 00:00:00 UTC (`TimestampTz`), the clock of commit records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PgTime(i64);

/// Microseconds from 1970-01-01 to 2000-01-01 UTC.
const UNIX_TO_PG_US: i64 = 946_684_800_000_000;

impl PgTime {
    /// The time `us` microseconds after 2000-01-01 UTC.
    pub const fn from_pg_us(us: i64) -> Self {
        Self(us)
    }

    /// Microseconds after 2000-01-01 UTC.
    pub const fn pg_us(self) -> i64 {
        self.0
    }

    /// The time `us` microseconds after 1970-01-01 UTC; saturates.
    pub const fn from_unix_us(us: i64) -> Self {
        Self(us.saturating_sub(UNIX_TO_PG_US))
    }

    /// Microseconds after 1970-01-01 UTC; saturates.
    pub const fn unix_us(self) -> i64 {
        self.0.saturating_add(UNIX_TO_PG_US)
    }
}
