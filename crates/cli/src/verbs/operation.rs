//! `scion operation`: what was done in a project, when, for how long, and how it ended.

use api::branch::Branch;
use api::operation::Operation as Done;
use clap::Subcommand;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};

/// The most that one page holds.
const PAGE_MAX: usize = 1000;

/// List what was done.
#[derive(Subcommand)]
pub enum Operation {
    /// What was done, newest first.
    List {
        /// Branch that it was done to [default: all].
        #[arg(long, value_name = "BRANCH")]
        branch: Option<String>,
        /// How many at most.
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: usize,
    },
}

impl Operation {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let Self::List { branch, limit } = self;
        list(&session, global.output, branch.as_deref(), *limit)
    }
}

fn list(session: &Session, format: Format, branch: Option<&str>, limit: usize) -> Result<(), Failure> {
    let branch = branch.map(|name| session.branch(name)).transpose()?;
    let operations = newest(session, branch.as_deref(), limit)?;
    if format == Format::Json {
        output::json(&wire::array(&operations));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = operations.iter().map(|operation| row(operation, &branches, now)).collect();
    output::table(&["STARTED", "ACTION", "BRANCH", "STATUS", "TOOK", "NOTE"], &rows);
    Ok(())
}

fn newest(session: &Session, branch: Option<&Branch>, limit: usize) -> Result<Vec<Said<Done>>, Failure> {
    // Those of one branch may be anywhere among all.
    let mut operations = if branch.is_none() && limit <= PAGE_MAX {
        session.client.many::<Done>(&session.path(&format!("/operations?limit={}", limit.max(1))))?
    } else {
        session.client.list(&session.path("/operations"))?
    };
    if let Some(branch) = branch {
        operations.retain(|operation| operation.branch_id.as_ref() == Some(&branch.id));
    }
    operations.truncate(limit);
    Ok(operations)
}

fn row(operation: &Done, branches: &[Said<Branch>], now: Timestamp) -> Vec<String> {
    let id = operation.branch_id.as_deref().unwrap_or("-");
    let known = branches.iter().find(|branch| branch.id == id);
    vec![
        output::age(&operation.created_at, now),
        operation.scion_action.as_ref().unwrap_or(&operation.action).clone(),
        known.map_or(id, |branch| &branch.name).to_owned(),
        wire::word(operation.status),
        format!("{} ms", operation.total_duration_ms),
        operation.error.as_deref().unwrap_or("-").replace('\n', " "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::client::tests::server_answering;
    use crate::wire::samples::{self, said};
    use serde_json::json;

    fn session(client: Client) -> Session {
        Session { client, project: said(samples::project(json!({"id": "p"}))) }
    }

    #[test]
    fn more_are_listed_than_one_page_holds() {
        let done = samples::operation(json!({"action": "start_compute"}));
        let page = json!({"operations": vec![&done; 400], "pagination": {"cursor": "c"}}).to_string().leak();
        let last: &str = json!({"operations": [done, done]}).to_string().leak();
        let (client, thread) = server_answering(vec![(200, page), (200, last)]);
        assert_eq!(newest(&session(client), None, 1001).unwrap().len(), 402);
        assert_eq!(
            thread.join().unwrap()[1],
            "GET /api/v2/projects/p/operations?limit=400&cursor=c HTTP/1.1"
        );
        let (client, thread) = server_answering(vec![(200, last)]);
        assert_eq!(newest(&session(client), None, 1).unwrap().len(), 1);
        assert_eq!(thread.join().unwrap(), ["GET /api/v2/projects/p/operations?limit=1 HTTP/1.1"]);
    }

    #[test]
    fn what_was_done_is_named_by_our_own_word_and_where_by_name() {
        let operation = said::<Done>(samples::operation(json!({
            "created_at": "2026-03-01T14:00:00Z", "action": "create_timeline", "scion_action": "restore_branch",
            "branch_id": "br-1", "status": "failed", "total_duration_ms": 12, "error": "no\nroom"
        })));
        let now = "2026-03-01T14:05:00Z".parse().unwrap();
        let branch = said::<Branch>(samples::branch(json!({"id": "br-1", "name": "dev"})));
        assert_eq!(
            row(&operation, &[branch], now)[1..],
            ["restore_branch", "dev", "failed", "12 ms", "no room"]
        );
        let gone = said::<Done>(samples::operation(json!({"branch_id": "br-2"})));
        assert_eq!(row(&gone, &[], now)[2], "br-2", "one that is gone");
    }
}
