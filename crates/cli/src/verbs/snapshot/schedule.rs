//! `scion snapshot schedule`: snapshots that a branch gets by itself.
//!
//! | written                              | means                                                        |
//! |--------------------------------------|--------------------------------------------------------------|
//! | `hourly keep 2 days`                 | at every full hour, each kept for two days                   |
//! | `daily at 3`                         | at 03:00 UTC, each kept for ever                             |
//! | `weekly on sunday at 3 keep 60 days` |                                                              |
//! | `monthly on last at 3`               | on the last day; `on 15` is the 15th                         |
//! | `yearly in march on 1 at 3`          |                                                              |
//!
//! What is left out is the first there is: Monday, the 1st, January, midnight.

use api::branch::Branch;
use api::percent;
use api::schedule::{BackupFrequency, BackupSchedule, BackupScheduleItem};
use clap::Subcommand;

use crate::args::moment;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// The day that is the last one of every month.
const LAST: u8 = 31;
/// Which words each frequency takes besides `keep`.
const TAKES: [(BackupFrequency, &[&str]); 5] = [
    (BackupFrequency::Hourly, &[]),
    (BackupFrequency::Daily, &["at"]),
    (BackupFrequency::Weekly, &["on", "at"]),
    (BackupFrequency::Monthly, &["on", "at"]),
    (BackupFrequency::Yearly, &["in", "on", "at"]),
];

/// Show and set when a branch gets snapshots by itself.
#[derive(Subcommand)]
pub enum Schedule {
    /// When the branch gets snapshots, and how long they are kept.
    Show {
        /// Branch that gets them [default: the project's default branch].
        #[arg(long, value_name = "BRANCH")]
        branch: Option<String>,
    },
    /// Make snapshots of the branch at these times from now on, and at no others.
    Set {
        /// When, in UTC, and how long to keep each: "daily at 3 keep 7 days", "weekly on sunday at 3 keep 60 days",
        /// "monthly on last at 3", "yearly in march on 1 at 3", "hourly keep 2 days".
        #[arg(required = true, value_name = "LINE")]
        lines: Vec<String>,
        /// Branch that gets them [default: the project's default branch].
        #[arg(long, value_name = "BRANCH")]
        branch: Option<String>,
    },
    /// Make no snapshots of the branch any more; those that are there stay.
    Off {
        /// Branch that gets none [default: the project's default branch].
        #[arg(long, value_name = "BRANCH")]
        branch: Option<String>,
    },
}

impl Schedule {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let (branch, lines) = match self {
            Self::Show { branch } => (branch, None),
            Self::Set { branch, lines } => {
                let lines: Vec<BackupScheduleItem> =
                    lines.iter().map(|line| parse(line)).collect::<Result<_, _>>()?;
                (branch, Some(lines))
            }
            Self::Off { branch } => (branch, Some(Vec::new())),
        };
        let session = session(global)?;
        let branch = match branch {
            Some(name) => session.branch(name)?,
            None => session.default_branch()?,
        };
        show(&session, global.output, &branch, lines)
    }
}

/// Shows the schedule of a branch, after it was set if `lines` are given.
fn show(
    session: &Session,
    format: Format,
    branch: &Branch,
    lines: Option<Vec<BackupScheduleItem>>,
) -> Result<(), Failure> {
    let path = session.path(&format!("/branches/{}/backup_schedule", percent::encoded(&branch.id)));
    let answer: Said<BackupSchedule> = match lines {
        Some(schedule) => session.client.put(&path, BackupSchedule { schedule })?,
        None => session.client.get(&path)?,
    };
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    if answer.schedule.is_empty() {
        output::words(&format!("branch {} gets no snapshots by itself", branch.name));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = answer.schedule.iter().map(|line| vec![when(line), kept(line)]).collect();
    output::table(&["WHEN (UTC)", "KEPT"], &rows);
    Ok(())
}

/// A line as the API takes it.
fn parse(line: &str) -> Result<BackupScheduleItem, Failure> {
    let wrong = |what: String| {
        Failure::new(Kind::Usage, format!("{line:?}: {what}"))
            .hint("write it like \"weekly on sunday at 3 keep 60 days\"")
    };
    let text = line.to_lowercase();
    let (text, keep) = match text.split_once(" keep ") {
        Some((text, keep)) => (text, Some(keep)),
        None => (text.as_str(), None),
    };
    let mut words = text.split_whitespace();
    let named = words.next().unwrap_or_default();
    let (frequency, takes) = TAKES
        .into_iter()
        .find(|(frequency, _)| wire::word(frequency) == named)
        .ok_or_else(|| wrong(format!("{named:?} is not hourly, daily, weekly, monthly or yearly")))?;
    let retention_seconds = keep.map(moment::seconds).transpose()?;
    let mut item = BackupScheduleItem { frequency, hour: None, day: None, month: None, retention_seconds };
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        let (field, number) = match word {
            _ if !takes.contains(&word) => return Err(wrong(format!("{named} takes no {word:?}"))),
            "at" => (&mut item.hour, value.strip_suffix(":00").unwrap_or(value).parse().ok()),
            "in" => (&mut item.month, number_of(value, &MONTHS)),
            _ if frequency == BackupFrequency::Weekly => (&mut item.day, number_of(value, &WEEKDAYS)),
            _ if value == "last" => (&mut item.day, Some(LAST)),
            _ => (&mut item.day, value.parse().ok()),
        };
        *field = Some(number.ok_or_else(|| wrong(format!("{value:?} is not what comes after {word:?}")))?);
    }
    Ok(item)
}

/// Which of `names` is meant by a beginning of at least three letters, or by its number; the first is 1.
fn number_of(text: &str, names: &[&str]) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let at = names.iter().position(|name| text.len() >= 3 && name.starts_with(text))?;
    u8::try_from(at + 1).ok()
}

/// When a line means, in the words that it can be written in.
fn when(line: &BackupScheduleItem) -> String {
    let takes = TAKES.into_iter().find(|(frequency, _)| *frequency == line.frequency);
    let mut words = vec![wire::word(line.frequency)];
    for word in takes.map_or(&[] as &[&str], |(_, takes)| takes) {
        let name = |number: u8, names: &[&str]| {
            let name = number.checked_sub(1).and_then(|at| names.get(usize::from(at)));
            name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
        };
        let value = match *word {
            "at" => format!("{:02}:00", line.hour.unwrap_or(0)),
            "in" => name(line.month.unwrap_or(1), &MONTHS),
            _ if line.frequency == BackupFrequency::Weekly => name(line.day.unwrap_or(1), &WEEKDAYS),
            _ => match line.day.unwrap_or(1) {
                LAST => "last".to_owned(),
                day => day.to_string(),
            },
        };
        words.extend([(*word).to_owned(), value]);
    }
    words.join(" ")
}

fn kept(line: &BackupScheduleItem) -> String {
    let Some(seconds) = line.retention_seconds.map(wire::unsigned) else { return "for ever".to_owned() };
    match (seconds % 86_400, seconds / 86_400) {
        (0, 1) => "1 day".to_owned(),
        (0, days) => format!("{days} days"),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_written() {
        for (written, shown, kept_for) in [
            ("hourly keep 2 days", "hourly", "2 days"),
            ("daily at 3", "daily at 03:00", "for ever"),
            ("daily at 23:00 keep 36 hours", "daily at 23:00", "36 h"),
            ("Weekly on Sun at 3 keep 1 day", "weekly on sunday at 03:00", "1 day"),
            ("weekly", "weekly on monday at 00:00", "for ever"),
            ("monthly on last at 3", "monthly on last at 03:00", "for ever"),
            ("yearly in march on 15", "yearly in march on 15 at 00:00", "for ever"),
        ] {
            let line = parse(written).unwrap();
            assert_eq!((when(&line).as_str(), kept(&line).as_str()), (shown, kept_for), "{written}");
            assert_eq!(when(&parse(shown).unwrap()), shown);
        }
    }

    #[test]
    fn what_no_line_is_is_refused() {
        for wrong in [
            "",
            "sometimes",
            "hourly at 3",
            "daily on monday",
            "daily at",
            "daily at three",
            "weekly on so",
            "monthly in may",
            "daily keep often",
        ] {
            assert_eq!(parse(wrong).unwrap_err().kind, Kind::Usage, "{wrong}");
        }
    }
}
