//! `scion admin`: what only whoever runs the server needs, and rarely.

use api::log::{BranchLog, BranchLogEndRequest};
use clap::Subcommand;
use serde_json::json;

use crate::confirm;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::Said;

/// What is rarely needed.
#[derive(Subcommand)]
pub enum Admin {
    /// See how far the log of a branch can be read, and get it out of where it is stuck.
    #[command(subcommand)]
    Log(Log),
}

/// What to do with the log of a branch.
#[derive(Subcommand)]
pub enum Log {
    /// Show how far it can be read, what is held beyond, and why that cannot be read.
    Show {
        /// Branch, by name or id.
        branch: String,
    },
    /// Try again to read what could not be read: after a file was mended, say. A newer scion does so by itself.
    Retry {
        /// Branch, by name or id.
        branch: String,
    },
    /// End it where it can be read up to, and give up what is held beyond. The files stay.
    End {
        /// Branch, by name or id.
        branch: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

impl Admin {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let Self::Log(log) = self;
        match log {
            Log::Show { branch } => {
                let (_, path) = place(&session, branch)?;
                show(global.output, &session.client.get(&path)?);
            }
            Log::Retry { branch } => {
                let (_, path) = place(&session, branch)?;
                show(global.output, &session.client.post(&format!("{path}/retry"), json!({}))?);
            }
            Log::End { branch, yes } => {
                let (name, path) = place(&session, branch)?;
                let log: Said<BranchLog> = session.client.get(&path)?;
                let at_lsn = log.head_lsn.clone();
                let what = format!("end the log of branch {name} at {at_lsn}, {}", lost(&log));
                confirm::destructive(&what, *yes)?;
                let body = BranchLogEndRequest { at_lsn };
                show(global.output, &session.client.post(&format!("{path}/end"), body)?);
            }
        }
        Ok(())
    }
}

fn place(session: &Session, branch: &str) -> Result<(String, String), Failure> {
    let (path, name) = session.path_in_branch(branch, "log")?;
    Ok((name, path))
}

/// What ending the log loses, in words.
fn lost(log: &BranchLog) -> String {
    let Some(unread) = &log.unread else {
        return "which loses nothing".to_owned();
    };
    let transactions = match &unread.last_transaction_at {
        Some(last) => format!("{} transactions, the last of {last}", unread.transactions),
        None => format!("{} transactions", unread.transactions),
    };
    format!("which loses what is held up to {}: {} records, {transactions}", unread.held_lsn, unread.records)
}

fn show(format: Format, log: &Said<BranchLog>) {
    if format == Format::Json {
        output::json(log.json());
        return;
    }
    let head = &log.head_lsn;
    let Some(unread) = &log.unread else {
        output::words(&format!("all of the log can be read, up to {head}"));
        return;
    };
    output::words(&format!("the log can be read up to {head}: {}", unread.reason));
    if !unread.lasting {
        output::words("that is tried again with every request, and nothing is lost");
        return;
    }
    output::words("a newer scion, if it knows the record, reads on by itself when it is started");
    output::words("after a damaged file was mended: `scion admin log retry BRANCH`");
    output::words(&format!("to end the log there, {}: `scion admin log end BRANCH`", lost(log)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::samples;

    #[test]
    fn what_ending_a_log_loses_is_spelled_out() {
        let log = |log| samples::said::<BranchLog>(log);
        let unread = json!({"branch_id": "br-1", "head_lsn": "0/1000028", "unread": {
            "reason": "unknown record", "lasting": true, "held_lsn": "0/2000000", "records": 700, "transactions": 12,
            "last_transaction_at": "2026-03-01T14:03:07Z",
        }});
        let said = lost(&log(unread));
        assert_eq!(
            said,
            "which loses what is held up to 0/2000000: 700 records, 12 transactions, the last of 2026-03-01T14:03:07Z"
        );
        assert_eq!(lost(&log(json!({"branch_id": "br-1", "head_lsn": "0/1"}))), "which loses nothing");
    }
}
