//! What `--at` means: a position in the log, or a moment in any of the ways people write one. Spans of time too.
//!
//! | written                          | means                                                        |
//! |----------------------------------|--------------------------------------------------------------|
//! | `0/5A3C1E8`                      | that position in the parent's log                            |
//! | `2026-03-01T14:03:07.512+01:00`  | RFC 3339                                                     |
//! | `2026-03-01 14:03:07`            | local time; a date alone is its midnight                     |
//! | `14:03:07.512`                   | local time of day, the latest one that is not in the future  |
//! | `5 minutes ago`, `1h 30m ago`    | before now                                                   |
//!
//! A local time that a clock change made ambiguous is refused, not guessed.

use jiff::civil::{DateTime, Time};
use jiff::{Span, Timestamp, Zoned};

use crate::failure::{Failure, Kind};

/// Where a branch begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A log position as Postgres prints it.
    Lsn(String),
    /// A moment.
    Time(Timestamp),
}

/// Reads `text`, taking `now` for the present and its time zone for local times.
pub fn parse(text: &str, now: &Zoned) -> Result<Moment, Failure> {
    let text = text.trim();
    if is_lsn(text) {
        return Ok(Moment::Lsn(text.to_ascii_uppercase()));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Moment::Time(time));
    }
    let time = if text.ends_with("ago") {
        before(text, now)
    } else if text.contains('-') {
        text.parse::<DateTime>().ok().map(|local| at_local(local, now)).transpose()?
    } else if text.contains(':') {
        text.parse::<Time>().ok().map(|time| latest(time, now)).transpose()?
    } else {
        None
    };
    // Commit times have microseconds; what is finer would only make the request unreadable.
    let whole = |time: Timestamp| Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time);
    time.map(|time| Moment::Time(whole(time))).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("{text:?} is neither a log position nor a time")).hint(
            "write it like 0/5A3C1E8, 14:03:07, \"2026-03-01 14:03:07\", 2026-03-01T14:03:07Z or \"5 minutes ago\"",
        )
    })
}

/// The moment that is `span` from now: "2h", "3 days".
pub fn after(span: &str, now: &Zoned) -> Result<Timestamp, Failure> {
    let wrong = |what: &str| Failure::new(Kind::Usage, format!("{span:?} {what}"));
    let parsed: Span =
        span.parse().map_err(|_| wrong("is no span of time").hint("write it like 2h or \"3 days\""))?;
    let at = now.checked_add(parsed).ok().filter(|at| at > now);
    at.map(|at| at.timestamp()).ok_or_else(|| wrong("does not lead into the future"))
}

/// A span of time in whole seconds.
pub fn seconds(text: &str) -> Result<i64, Failure> {
    let wrong = || {
        Failure::new(Kind::Usage, format!("{text:?} is no span of time"))
            .hint("write it like 2h or \"3 days\"")
    };
    let span: Span = text.parse().map_err(|_| wrong())?;
    // Days are those of UTC, all as long.
    let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Some(span.as_secs()).filter(|seconds| *seconds >= 0).ok_or_else(wrong)
}

fn is_lsn(text: &str) -> bool {
    let half =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_once('/').is_some_and(|(high, low)| half(high) && half(low))
}

fn before(text: &str, now: &Zoned) -> Option<Timestamp> {
    let span = text.parse::<Span>().ok()?;
    now.checked_add(span).ok().map(|zoned| zoned.timestamp()).filter(|then| *then <= now.timestamp())
}

fn latest(time: Time, now: &Zoned) -> Result<Timestamp, Failure> {
    let today = at_local(now.date().to_datetime(time), now)?;
    if today <= now.timestamp() {
        return Ok(today);
    }
    match now.date().yesterday() {
        Ok(yesterday) => at_local(yesterday.to_datetime(time), now),
        Err(_) => Ok(today),
    }
}

fn at_local(local: DateTime, now: &Zoned) -> Result<Timestamp, Failure> {
    now.time_zone().to_ambiguous_zoned(local).unambiguous().map(|zoned| zoned.timestamp()).map_err(|_| {
        Failure::new(Kind::Usage, format!("{local} exists twice or not at all: the clock was changed then"))
            .hint("write it with its offset, like 2026-03-01T14:03:07+01:00")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_seconds() {
        assert_eq!(seconds("2h").ok(), Some(7200));
        assert_eq!(seconds("3 days").ok(), Some(259_200));
        assert!(seconds("often").is_err() && seconds("-2h").is_err());
    }

    fn at(text: &str) -> Result<Moment, Kind> {
        let now: Zoned = "2026-03-01T14:05:00+01:00[Europe/Berlin]".parse().unwrap();
        parse(text, &now).map_err(|failure| failure.kind)
    }

    fn time(text: &str) -> Result<Moment, Kind> {
        Ok(Moment::Time(text.parse().unwrap()))
    }

    #[test]
    fn positions_are_read_as_postgres_prints_them() {
        assert_eq!(at("0/5a3c1e8"), Ok(Moment::Lsn("0/5A3C1E8".to_owned())));
        assert_eq!(at("0/123456789"), Err(Kind::Usage));
    }

    #[test]
    fn a_time_of_day_is_the_latest_one_in_the_past() {
        assert_eq!(at("14:03:07.512"), time("2026-03-01T13:03:07.512Z"));
        assert_eq!(at("14:03"), time("2026-03-01T13:03:00Z"));
        assert_eq!(at("23:58:00"), time("2026-02-28T22:58:00Z"));
    }

    #[test]
    fn dates_without_an_offset_are_local() {
        assert_eq!(at("2026-02-27 14:03:07"), time("2026-02-27T13:03:07Z"));
        assert_eq!(at("2026-02-27"), time("2026-02-26T23:00:00Z"));
    }

    #[test]
    fn rfc_3339_is_taken_at_its_word() {
        assert_eq!(at("2026-02-27T14:03:07+05:00"), time("2026-02-27T09:03:07Z"));
        assert_eq!(at("2026-02-27T14:03:07.25Z"), time("2026-02-27T14:03:07.25Z"));
    }

    #[test]
    fn ago_counts_back_from_now() {
        assert_eq!(at("5 minutes ago"), time("2026-03-01T13:00:00Z"));
        assert_eq!(at("1h 30m ago"), time("2026-03-01T11:35:00Z"));
        assert_eq!(at("2 days ago"), time("2026-02-27T13:05:00Z"));
    }

    #[test]
    fn a_local_time_the_clock_change_doubled_is_refused() {
        assert_eq!(at("2025-10-26 02:30:00"), Err(Kind::Usage));
        assert_eq!(at("2025-10-26T02:30:00+01:00"), time("2025-10-26T01:30:00Z"));
    }

    #[test]
    fn changed_moments_and_spans_are_refused_or_understood() {
        let now: Zoned = "2026-03-01T14:05:00+01:00[Europe/Berlin]".parse().unwrap();
        for text in ["1h 30m ago", "P1Y2M3DT4H ago", "9999-12-31 23:59:59", "14:03:07.512", "0/5a3c1e8"] {
            for (at, end) in (0..=text.len()).flat_map(|at| (at..=text.len()).map(move |end| (at, end))) {
                for put in ["", "-", "9", "99999999999999999999", "ago", " ", ":", "\u{fc}"] {
                    let changed = format!("{}{put}{}", &text[..at], &text[end..]);
                    // That it is refused is as good.
                    let _ = (parse(&changed, &now), after(&changed, &now), seconds(&changed));
                }
            }
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for text in ["", "soon", "5 minutes", "14", "yesterday-ish", "25:00:00", "-5 minutes ago", "1/2/3"] {
            assert_eq!(at(text), Err(Kind::Usage), "{text}");
        }
    }
}
