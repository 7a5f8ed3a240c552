//! Figures as they are measured, and the table at the end.

use std::time::Duration;

/// What was measured so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<[String; 3]>,
}

impl Report {
    /// Adds one figure and what it should reach.
    pub fn add(&mut self, what: &str, figure: String, target: &str) {
        eprintln!("{what}: {figure} (target {target})");
        self.rows.push([what.to_owned(), figure, target.to_owned()]);
    }

    /// The README's table.
    pub fn print(&self) {
        println!("| measure | measured | target |\n|---|---|---|");
        for [what, figure, target] in &self.rows {
            println!("| {what} | {figure} | {target} |");
        }
    }
}

/// The value below which `percent` of `values` lie.
pub fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let index = (values.len() * percent / 100).min(values.len() - 1);
    values[index]
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds with one digit.
pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
