//! `scion admin`: what only whoever runs the server needs, and rarely.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{confirm, wire};

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
                show(global.output, &session.client.post(&format!("{path}/retry"), &json!({}))?);
            }
            Log::End { branch, yes } => {
                let (name, path) = place(&session, branch)?;
                let log = session.client.get(&path)?;
                let at = wire::text(&log, "head_lsn");
                confirm::destructive(&format!("end the log of branch {name} at {at}, {}", lost(&log)), *yes)?;
                let log = session.client.post(&format!("{path}/end"), &json!({ "at_lsn": at }))?;
                show(global.output, &log);
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
fn lost(log: &Value) -> String {
    let Some(unread) = log.get("unread").filter(|unread| unread.is_object()) else {
        return "which loses nothing".to_owned();
    };
    let number = |field| wire::number(unread, field).unwrap_or_default();
    let transactions = match (number("transactions"), wire::some_text(unread, "last_transaction_at")) {
        (count, Some(last)) => format!("{count} transactions, the last of {last}"),
        (count, None) => format!("{count} transactions"),
    };
    format!(
        "which loses what is held up to {}: {} records, {transactions}",
        wire::text(unread, "held_lsn"),
        number("records")
    )
}

fn show(format: Format, log: &Value) {
    if format == Format::Json {
        output::json(log);
        return;
    }
    let head = wire::text(log, "head_lsn");
    let Some(unread) = log.get("unread").filter(|unread| unread.is_object()) else {
        output::words(&format!("all of the log can be read, up to {head}"));
        return;
    };
    output::words(&format!("the log can be read up to {head}: {}", wire::text(unread, "reason")));
    if unread.get("lasting") == Some(&Value::Bool(false)) {
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

    #[test]
    fn what_ending_a_log_loses_is_spelled_out() {
        let log = json!({"head_lsn": "0/1000028", "unread": {
            "reason": "unknown record", "lasting": true, "held_lsn": "0/2000000", "records": 700, "transactions": 12,
            "last_transaction_at": "2026-03-01T14:03:07Z",
        }});
        let said = lost(&log);
        assert_eq!(
            said,
            "which loses what is held up to 0/2000000: 700 records, 12 transactions, the last of 2026-03-01T14:03:07Z"
        );
        assert_eq!(lost(&json!({"head_lsn": "0/1"})), "which loses nothing");
    }
}
