//! Everything `scion` prints: data to stdout, words to stderr.
//!
//! Colour is used only on a terminal, never as the only sign, and not when `NO_COLOR` is set. A reader that goes away
//! (`scion branch list | head -1`) ends the printing quietly.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde_json::Value;

use crate::failure::Failure;

/// How data is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// The API's own objects.
    Json,
}

/// Prints one line of data.
pub fn data(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line of words.
pub fn words(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints `value` as indented JSON.
pub fn json(value: &Value) {
    data(&format!("{value:#}"));
}

/// Prints rows under a header, in columns as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut out = std::io::stdout().lock();
    for (index, line) in aligned(header, rows).iter().enumerate() {
        let written = if index == 0 { writeln!(out, "{}", dim(line)) } else { writeln!(out, "{line}") };
        if written.is_err() {
            return;
        }
    }
}

/// Prints `error:` and `hint:` lines for a failure.
pub fn failure(failure: &Failure) {
    let error = paint("error:", "1;31", std::io::stderr().is_terminal());
    words(&format!("{error} {}", failure.message));
    if let Some(hint) = &failure.hint {
        let label = paint("hint: ", "1;36", std::io::stderr().is_terminal());
        words(&format!("{label} {hint}"));
    }
}

/// Prints a unified diff.
pub fn diff(text: &str) {
    let terminal = std::io::stdout().is_terminal();
    for line in text.lines() {
        let code = match line.as_bytes() {
            [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => "1",
            [b'-', ..] => "31",
            [b'+', ..] => "32",
            [b'@', ..] => "36",
            _ => "0",
        };
        data(&paint(line, code, terminal && code != "0"));
    }
}

fn dim(text: &str) -> String {
    paint(text, "2", std::io::stdout().is_terminal())
}

fn paint(text: &str, code: &str, terminal: bool) -> String {
    let wanted = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn aligned(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// `text` in one line that leaves the terminal as it is: a row is a line, whatever a server wrote into a field.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    // A branch is indented below its parent.
    let first = lines.next().unwrap_or_default();
    let line = lines.fold(first.to_owned(), |line, next| format!("{line}; {}", next.trim_start()));
    line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// `bytes` with a unit and two or three digits: `48 KB`, `1.2 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount < 10.0);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// How long ago the RFC 3339 time `text` was: `20 s ago`. The text itself if it is not a time.
pub fn age(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else { return text.to_owned() };
    let seconds = now.duration_since(then).max(SignedDuration::ZERO).as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The RFC 3339 time `text` in local time, without the date if it is today's.
pub fn local_time(text: &str, now: &Zoned) -> String {
    let Ok(then) = text.parse::<Timestamp>() else { return text.to_owned() };
    let then = then.to_zoned(now.time_zone().clone());
    let format = if then.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    then.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_carries_its_unit() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (48 << 10, "48 KB"), (1_258_291, "1.2 MB"), (61 << 20, "61 MB")];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn ages_are_in_the_largest_unit_that_still_says_something() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(age("2026-03-01T11:59:40Z", now), "20 s ago");
        assert_eq!(age("2026-03-01T11:55:00Z", now), "5 min ago");
        assert_eq!(age("2026-02-20T12:00:00Z", now), "9 days ago");
        assert_eq!(age("2026-03-01T12:00:01Z", now), "0 s ago", "a clock ahead of ours");
    }

    #[test]
    fn the_date_is_shown_only_when_it_is_not_today() {
        let now: Zoned = "2026-03-01T12:00:00+01:00[+01:00]".parse().unwrap();
        assert_eq!(local_time("2026-03-01T10:00:00Z", &now), "11:00:00");
        assert_eq!(local_time("2026-02-28T10:00:00Z", &now), "2026-02-28 11:00:00");
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let rows = vec![vec!["main".to_owned(), "-".to_owned()], vec!["a".to_owned(), "main".to_owned()]];
        assert_eq!(aligned(&["NAME", "PARENT"], &rows), ["NAME   PARENT", "main   -", "a      main"]);
        let rows = vec![vec!["   \u{2514}\u{2500} kid".to_owned(), "dev".to_owned()]];
        assert_eq!(
            aligned(&["NAME", "PARENT"], &rows)[1],
            "   \u{2514}\u{2500} kid   dev",
            "the place in a tree"
        );
    }

    #[test]
    fn a_cell_of_several_lines_stays_one_row() {
        let note = "postgres ended (exit status: 1):\r\n\nFATAL:\tno\u{1b}[2Jspace\n";
        let rows = vec![vec!["main".to_owned(), note.to_owned()], vec!["a".to_owned(), "-".to_owned()]];
        let line = "main   postgres ended (exit status: 1):; FATAL: no [2Jspace";
        assert_eq!(aligned(&["NAME", "NOTE"], &rows), ["NAME   NOTE", line, "a      -"]);
    }
}
