//! What a judge found in one run: as a file under `target/oracle/results`, and as the tables of redo's README.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::Compared;
use crate::replay::{Count, Replayed};

/// Between these lines of redo's README is what [`report`] writes.
const BEGIN: &str = "<!-- written by `cargo xtask oracle report` -->";
const END: &str = "<!-- end of what it writes -->";

/// Which run it was.
#[derive(Clone, Debug)]
pub struct Run {
    /// `consistency`, `judge` or `directory`.
    pub judge: &'static str,
    /// The load.
    pub suite: &'static str,
    /// What exactly was run: [`crate::suites::Suite::described`].
    pub load: String,
    /// Major version.
    pub major: u32,
    /// Minor version, such as `15.18`.
    pub version: String,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn results_dir() -> PathBuf {
    workspace().join("target/oracle/results")
}

/// Keeps what a run found, in place of what the same run found before.
pub fn keep(run: &Run, replayed: &Replayed, compared: &Compared) {
    let counts: BTreeMap<_, _> = replayed
        .counts
        .iter()
        .map(|(name, count)| (name, [count.applied, count.verified, count.unsupported, count.differing]))
        .collect();
    let value = json!({
        "judge": run.judge, "suite": run.suite, "load": run.load, "major": run.major, "version": run.version,
        "records": replayed.records, "wal_bytes": replayed.wal_bytes, "counts": counts,
        "maps": compared.maps, "slrus": compared.slrus, "file_mismatches": compared.mismatches.len(),
    });
    write(run, &value);
}

/// Keeps what a comparison of whole directories found after `records` records: LSNs, pages, SLRU pages, differences.
pub fn keep_directory(run: &Run, records: u64, [points, pages, slrus, differing]: [u64; 4]) {
    let value = json!({
        "judge": run.judge, "suite": run.suite, "load": run.load, "major": run.major, "version": run.version,
        "records": records,
        "points": points, "pages": pages, "slrus": slrus, "differing": differing,
    });
    write(run, &value);
}

fn write(run: &Run, value: &Value) {
    fs::create_dir_all(results_dir()).unwrap();
    let name = format!("{}-{}-{}.json", run.judge, run.major, run.suite);
    fs::write(results_dir().join(name), format!("{value:#}\n")).unwrap();
}

/// Writes the tables of all kept runs into redo's README.
pub fn report() {
    let mut runs = Vec::new();
    let entries =
        fs::read_dir(results_dir()).expect("no results yet: run `cargo xtask oracle consistency` first");
    for entry in entries {
        runs.push(serde_json::from_slice::<Value>(&fs::read(entry.unwrap().path()).unwrap()).unwrap());
    }
    runs.sort_by_key(|run| format!("{} {} {}", run["judge"], run["major"], run["suite"]));
    let (directories, runs): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run["judge"] == "directory");
    let text = format!("{}\n{}\n{}", runs_table(&runs), directories_table(&directories), types_table(&runs));
    let path = workspace().join("crates/redo/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the line that begins the tables");
    let (_, after) = rest.split_once(END).expect("the README has the line that ends the tables");
    fs::write(&path, format!("{before}{BEGIN}\n\n{text}\n{END}{after}")).unwrap();
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn counts(run: &Value) -> BTreeMap<String, Count> {
    let empty = serde_json::Map::new();
    let parse = |(name, value): (&String, &Value)| {
        let at = |index: usize| number(&value[index]);
        let count = Count { applied: at(0), verified: at(1), unsupported: at(2), differing: at(3) };
        (name.clone(), count)
    };
    run["counts"].as_object().unwrap_or(&empty).iter().map(parse).collect()
}

fn runs_table(runs: &[Value]) -> String {
    let mut text = "| Judge | PostgreSQL | Load | Records | Steps judged | Pages of maps, SLRUs | Not supported | Differences |\n|---|---|---|---:|---:|---:|---:|---:|\n".to_owned();
    for run in runs {
        let total = counts(run).values().fold([0; 3], |[verified, unsupported, differing], count| {
            [verified + count.verified, unsupported + count.unsupported, differing + count.differing]
        });
        let word = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {}, {} | {} | {} |",
            word("judge"),
            word("version"),
            word("load"),
            grouped(number(&run["records"])),
            grouped(total[0]),
            grouped(number(&run["maps"])),
            grouped(number(&run["slrus"])),
            grouped(total[1]),
            grouped(total[2] + number(&run["file_mismatches"])),
        )
        .unwrap();
    }
    text
}

fn directories_table(runs: &[Value]) -> String {
    let mut text = "| Directory at an LSN | PostgreSQL | Load | Records | LSNs | Pages | SLRU pages | Differences |\n|---|---|---|---:|---:|---:|---:|---:|\n".to_owned();
    for run in runs {
        let word = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| grouped(number(&run[name]));
        writeln!(
            text,
            "| store and stock recovery | {} | {} | {} | {} | {} | {} | {} |",
            word("version"),
            word("load"),
            count("records"),
            count("points"),
            count("pages"),
            count("slrus"),
            count("differing"),
        )
        .unwrap();
    }
    text
}

/// By record type and major: steps judged over all runs, and differences if there are any.
fn types_table(runs: &[Value]) -> String {
    let majors: BTreeSet<u64> = runs.iter().map(|run| number(&run["major"])).collect();
    let mut by_type: BTreeMap<String, BTreeMap<u64, Count>> = BTreeMap::new();
    for run in runs {
        for (name, count) in counts(run) {
            let sum = by_type.entry(name).or_default().entry(number(&run["major"])).or_default();
            sum.applied += count.applied;
            sum.verified += count.verified;
            sum.differing += count.differing;
        }
    }
    let heads: Vec<_> = majors.iter().map(|major| format!(" {major} |")).collect();
    let mut text = format!("| Record type |{}\n|---|{}\n", heads.concat(), "---:|".repeat(majors.len()));
    for (name, majors_of) in by_type {
        write!(text, "| {name} |").unwrap();
        for major in &majors {
            match majors_of.get(major) {
                None => write!(text, " |").unwrap(),
                Some(count) if count.differing > 0 => {
                    write!(text, " {}, {} differ |", grouped(count.verified), grouped(count.differing))
                        .unwrap();
                }
                Some(count) if count.verified == 0 => {
                    write!(text, " ({}) |", grouped(count.applied)).unwrap()
                }
                Some(count) => write!(text, " {} |", grouped(count.verified)).unwrap(),
            }
        }
        text.push('\n');
    }
    text
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
