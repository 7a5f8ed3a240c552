//! When is something due that a cron line plans? No clock, no row.
//!
//! What was missed while nobody looked is made up once: of all planned times that went by, only the last one is due.
//! Whoever acts on it writes it down together with what it made, so that nothing is made twice.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::error::{Error, Result};

/// A cron line in a time zone.
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

impl Timetable {
    /// Reads a cron line of five fields, or six with seconds first; without a time zone it speaks of UTC.
    ///
    /// # Errors
    /// `Malformed` for a line or a zone that is none, or one that plans nothing.
    pub fn parse(line: &str, zone: Option<&str>) -> Result<Self> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(line).map_err(|error| {
            let hint = "hint: minute, hour, day of the month, month, day of the week, like \"0 3 * * 1-5\"";
            Error::malformed(format!("{line:?} is not a cron expression: {error}\n{hint}"))
        })?;
        let zone = match zone.filter(|zone| !zone.is_empty()) {
            None => TimeZone::UTC,
            Some(zone) => TimeZone::get(zone).map_err(|_| {
                let hint = "hint: write it like Europe/Berlin";
                Error::malformed(format!("{zone:?} is not a time zone that this machine knows\n{hint}"))
            })?,
        };
        let this = Self { cron, zone };
        match this.next(0) {
            Some(_) => Ok(this),
            None => Err(Error::malformed(format!("{line:?} never matches a date"))),
        }
    }

    /// The first planned time after `after_us`.
    pub fn next(&self, after_us: i64) -> Option<i64> {
        let found = self.cron.find_next_occurrence(&self.zoned(after_us)?, false).ok()?;
        Some(found.timestamp().as_microsecond())
    }

    /// The last planned time after `after_us` and not after `now_us`.
    pub fn due(&self, after_us: i64, now_us: i64) -> Option<i64> {
        let found = self.cron.find_previous_occurrence(&self.zoned(now_us)?, true).ok()?;
        Some(found.timestamp().as_microsecond()).filter(|due_us| *due_us > after_us)
    }

    /// Whole seconds, as nothing finer is ever planned.
    fn zoned(&self, us: i64) -> Option<Zoned> {
        let whole = Timestamp::from_second(us.div_euclid(1_000_000)).ok()?;
        Some(whole.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{parse, show};
    use crate::error::Kind;

    fn at(text: &str) -> i64 {
        parse(text).unwrap()
    }

    fn due(line: &str, after: &str, now: &str) -> Option<String> {
        Timetable::parse(line, None).unwrap().due(at(after), at(now)).map(show)
    }

    #[test]
    fn of_all_that_was_missed_only_the_last_is_due() {
        let nightly = |after, now| due("0 3 * * *", after, now);
        assert_eq!(nightly("2026-03-01T03:00:00Z", "2026-03-02T02:59:59.9Z"), None);
        let second = Some("2026-03-02T03:00:00Z".to_owned());
        assert_eq!(nightly("2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"), second);
        assert_eq!(nightly("2026-03-01T03:00:00Z", "2026-03-02T03:00:00.7Z"), second);
        let fifth = Some("2026-03-05T03:00:00Z".to_owned());
        assert_eq!(nightly("2026-03-01T03:00:00Z", "2026-03-05T14:00:00Z"), fifth);
        assert_eq!(nightly("2026-03-05T03:00:00Z", "2026-03-05T14:00:01Z"), None, "made up once");
        assert_eq!(nightly("2026-03-05T03:00:00Z", "2026-03-04T00:00:00Z"), None, "a clock that went back");
    }

    /// A clock that is stepped through a week second by second, minute by minute or in leaps plans the same runs,
    /// except that a leap over several makes up one.
    #[test]
    fn every_run_is_made_once_whatever_the_steps_of_the_clock() {
        let hourly = Timetable::parse("30 * * * *", None).unwrap();
        let (begin, end) = (at("2026-03-01T00:00:00Z"), at("2026-03-08T00:00:00Z"));
        let runs = |step_s: i64| {
            let (mut last, mut now, mut made) = (begin, begin, Vec::new());
            while now < end {
                if let Some(planned) = hourly.due(last, now) {
                    made.push(planned);
                    last = planned;
                }
                now += step_s * 1_000_000;
            }
            made
        };
        let every = runs(7);
        assert_eq!(every.len(), 7 * 24);
        assert!(every.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(runs(1801), every);
        assert_eq!(runs(10 * 3600).len(), 16);
    }

    #[test]
    fn a_time_zone_moves_with_summer_time() {
        let Ok(berlin) = Timetable::parse("0 3 * * *", Some("Europe/Berlin")) else {
            return oracle::skips::skipped("zones", "no time zones on this machine; tzdata has them");
        };
        assert_eq!(
            berlin.next(at("2026-03-28T00:00:00Z")).map(show),
            Some("2026-03-28T02:00:00Z".to_owned())
        );
        assert_eq!(
            berlin.next(at("2026-03-30T00:00:00Z")).map(show),
            Some("2026-03-30T01:00:00Z".to_owned())
        );
    }

    #[test]
    fn what_is_no_timetable_is_refused() {
        for line in ["", "nightly", "* * * *", "61 * * * *", "0 0 30 2 *"] {
            assert_eq!(
                Timetable::parse(line, None).err().map(|error| error.kind),
                Some(Kind::Malformed),
                "{line}"
            );
        }
        assert_eq!(Timetable::parse("* * * * *", Some("Mars/Base")).err().unwrap().kind, Kind::Malformed);
    }
}
