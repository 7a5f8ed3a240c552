//! Times: microseconds in the metadata, RFC 3339 on the wire.

use jiff::Timestamp;
use types::PgTime;

/// Microseconds since 1970-01-01 UTC, now.
pub fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// RFC 3339 in UTC with as many digits as needed.
pub fn show(unix_us: i64) -> String {
    Timestamp::from_microsecond(unix_us).map_or_else(|_| format!("{unix_us} us"), |time| time.to_string())
}

/// As [`show`], for a time out of the log.
pub fn show_pg(time: PgTime) -> String {
    show(time.unix_us())
}

/// A text that is no time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a time")]
pub struct NotATime(String);

/// A time as a client sends it: RFC 3339 with `Z` or an offset.
///
/// # Errors
/// For anything else.
pub fn parse(text: &str) -> Result<i64, NotATime> {
    // A space for the `T` is what Postgres prints.
    let parsed = text.trim().parse::<Timestamp>();
    // The last second there is cannot be made again of its microseconds, and so not be shown.
    let whole = parsed.and_then(|time| Timestamp::from_microsecond(time.as_microsecond()));
    whole.map(Timestamp::as_microsecond).map_err(|_| NotATime(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_offsets_mean_the_same_moment() {
        let utc = parse("2026-03-01T14:03:07.512Z").unwrap();
        assert_eq!(parse("2026-03-01T16:03:07.512+02:00").unwrap(), utc);
        assert_eq!(show(utc), "2026-03-01T14:03:07.512Z");
    }

    /// A changed sample showed it: such a time was kept, and shown as `253402207200512000 us`.
    #[test]
    fn a_time_that_cannot_be_shown_is_refused() {
        assert!(parse("9999-12-30T22:00:00.512Z").is_err());
        assert_eq!(show(parse("9999-12-30T21:59:59.512Z").unwrap()), "9999-12-30T21:59:59.512Z");
    }

    #[test]
    fn a_time_without_a_zone_is_refused() {
        for text in ["", "yesterday", "2026-03-01", "2026-03-01T14:03:07", "14:03:07Z", "1700000000"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
