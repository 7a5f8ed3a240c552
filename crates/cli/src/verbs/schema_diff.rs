//! `scion schema-diff`: what differs between the schemas of two branches, or of one branch at two moments.

use api::branch::Branch;
use api::percent;
use api::schema::SchemaDiff as Compared;
use clap::Args;
use jiff::Zoned;

use crate::args::moment::{self, Moment};
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::progress;
use crate::resolve::session;
use crate::wire::Said;

/// Show what differs between the schemas of two branches.
#[derive(Args)]
pub struct SchemaDiff {
    /// Branch whose schema is looked at.
    branch: String,
    /// Branch it is compared with [default: its parent].
    base: Option<String>,
    /// Database to compare.
    #[arg(short, long, default_value = "neondb")]
    database: String,
    /// When in the history of the branch: a log position or a time, as for `branch create` [default: now].
    #[arg(long, value_name = "LSN|TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// When in the history of the branch it is compared with [default: now].
    #[arg(long, value_name = "LSN|TIME", allow_hyphen_values = true)]
    base_at: Option<String>,
}

impl SchemaDiff {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let now = Zoned::now();
        let mut query = format!("db_name={}", percent::encoded(&self.database));
        for (prefix, at) in [("", &self.at), ("base_", &self.base_at)] {
            let (name, value) = match at.as_deref().map(|text| moment::parse(text, &now)).transpose()? {
                Some(Moment::Lsn(lsn)) => ("lsn", lsn),
                Some(Moment::Time(time)) => ("timestamp", time.to_string()),
                None => continue,
            };
            query.push_str(&format!("&{prefix}{name}={}", percent::encoded(&value)));
        }
        let session = session(global)?;
        let branch = session.branch(&self.branch)?;
        // The server says what is wrong with a branch that has no parent.
        let base = self.base.as_ref().or(branch.parent_id.as_ref());
        let base = base.map(|base| session.branch(base)).transpose()?;
        if let Some(base) = &base {
            query.push_str(&format!("&base_branch_id={}", percent::encoded(&base.id)));
        }
        let progress = progress::start(format!("comparing database {}", self.database));
        let path =
            session.path(&format!("/branches/{}/compare_schema?{query}", percent::encoded(&branch.id)));
        let answer: Said<Compared> = session.client.get(&path)?;
        drop(progress);
        let name_of_base = base.as_deref().map_or("", |base: &Branch| &base.name);
        session.name_history(answer.history_branch_id.as_deref(), &self.branch)?;
        session.name_history(answer.base_history_branch_id.as_deref(), name_of_base)?;
        match (global.output, answer.diff.as_str()) {
            (Format::Json, _) => output::json(answer.json()),
            (Format::Table, "") => output::words(&format!("the schemas of {} are the same", self.database)),
            (Format::Table, diff) => {
                let side = |branch: &str, at: &Option<String>| {
                    let at = at.as_ref().map_or_else(String::new, |at| format!(" at {at}"));
                    format!("{} of {branch}{at}", self.database)
                };
                output::diff(&labelled(
                    diff,
                    &side(name_of_base, &self.base_at),
                    &side(&branch.name, &self.at),
                ));
            }
        }
        Ok(())
    }
}

/// A unified diff whose sides are called `old` and `new`.
fn labelled(diff: &str, old: &str, new: &str) -> String {
    let mut lines = diff.splitn(3, '\n');
    match (lines.next(), lines.next(), lines.next()) {
        (Some(first), Some(second), Some(rest))
            if first.starts_with("--- ") && second.starts_with("+++ ") =>
        {
            format!("--- {old}\n+++ {new}\n{rest}")
        }
        _ => diff.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_of_a_diff_are_called_by_their_branches() {
        let diff = "--- a/db\n+++ b/db\n@@ -1 +1 @@\n-a\n+b\n";
        let expected = "--- db of main\n+++ db of dev\n@@ -1 +1 @@\n-a\n+b\n";
        assert_eq!(labelled(diff, "db of main", "db of dev"), expected);
        assert_eq!(labelled("other", "a", "b"), "other");
    }
}
