//! `scion schema-diff`: what differs between the schemas of two branches, or of one branch at two moments.

use clap::Args;
use jiff::Zoned;

use crate::args::Global;
use crate::failure::Failure;
use crate::moment::{self, Moment};
use crate::output::{self, Format};
use crate::resolve::session;
use crate::{progress, wire};

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
        let mut query = format!("db_name={}", wire::percent_encoded(&self.database));
        for (prefix, at) in [("", &self.at), ("base_", &self.base_at)] {
            let (name, value) = match at.as_deref().map(|text| moment::parse(text, &now)).transpose()? {
                Some(Moment::Lsn(lsn)) => ("lsn", lsn),
                Some(Moment::Time(time)) => ("timestamp", time.to_string()),
                None => continue,
            };
            query.push_str(&format!("&{prefix}{name}={}", wire::percent_encoded(&value)));
        }
        let session = session(global)?;
        let branch = session.branch(&self.branch)?;
        if let Some(base) = &self.base {
            let base = session.branch(base)?;
            query.push_str(&format!("&base_branch_id={}", wire::percent_encoded(wire::text(&base, "id"))));
        }
        let progress = progress::start(format!("comparing database {}", self.database));
        let id = wire::percent_encoded(wire::text(&branch, "id"));
        let answer = session.client.get(&session.path(&format!("/branches/{id}/compare_schema?{query}")))?;
        drop(progress);
        match (global.output, wire::text(&answer, "diff")) {
            (Format::Json, _) => output::json(&answer),
            (Format::Table, "") => output::words(&format!("the schemas of {} are the same", self.database)),
            (Format::Table, diff) => output::diff(diff),
        }
        Ok(())
    }
}
