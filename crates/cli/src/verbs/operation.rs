//! `scion operation`: what was done in a project, when, for how long, and how it ended.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire;

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
    let operations = newest(session, branch.as_ref(), limit)?;
    if format == Format::Json {
        output::json(&json!(operations));
        return Ok(());
    }
    let branches = session.branches()?;
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = operations.iter().map(|operation| row(operation, &branches, now)).collect();
    output::table(&["STARTED", "ACTION", "BRANCH", "STATUS", "TOOK", "NOTE"], &rows);
    Ok(())
}

fn newest(session: &Session, branch: Option<&Value>, limit: usize) -> Result<Vec<Value>, Failure> {
    // Those of one branch may be anywhere among all.
    let mut operations = if branch.is_none() && limit <= PAGE_MAX {
        let path = session.path(&format!("/operations?limit={}", limit.max(1)));
        wire::list(&session.client.get(&path)?, "operations").to_vec()
    } else {
        session.client.list(&session.path("/operations"), "operations")?
    };
    if let Some(branch) = branch {
        operations.retain(|operation| wire::text(operation, "branch_id") == wire::text(branch, "id"));
    }
    operations.truncate(limit);
    Ok(operations)
}

fn row(operation: &Value, branches: &[Value], now: Timestamp) -> Vec<String> {
    let id = wire::some_text(operation, "branch_id").unwrap_or("-");
    let known = branches.iter().find(|branch| wire::text(branch, "id") == id);
    let action = wire::some_text(operation, "scion_action").unwrap_or(wire::text(operation, "action"));
    vec![
        output::age(wire::text(operation, "created_at"), now),
        action.to_owned(),
        known.map_or(id, |branch| wire::text(branch, "name")).to_owned(),
        wire::text(operation, "status").to_owned(),
        format!("{} ms", wire::number(operation, "total_duration_ms").unwrap_or_default()),
        wire::some_text(operation, "error").unwrap_or("-").replace('\n', " "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::server_answering;

    #[test]
    fn more_are_listed_than_one_page_holds() {
        let page = vec![json!({"action": "start_compute"}); 400];
        let page = json!({"operations": page, "pagination": {"cursor": "c"}}).to_string().leak();
        let last = r#"{"operations":[{"action":"create_timeline"},{"action":"create_timeline"}]}"#;
        let (client, thread) = server_answering(vec![(200, page), (200, last)]);
        let session = Session { client, project: json!({"id": "p"}) };
        assert_eq!(newest(&session, None, 1001).unwrap().len(), 402);
        assert_eq!(
            thread.join().unwrap()[1],
            "GET /api/v2/projects/p/operations?limit=400&cursor=c HTTP/1.1"
        );
        let (client, thread) = server_answering(vec![(200, last)]);
        let session = Session { client, project: json!({"id": "p"}) };
        assert_eq!(newest(&session, None, 1).unwrap().len(), 1);
        assert_eq!(thread.join().unwrap(), ["GET /api/v2/projects/p/operations?limit=1 HTTP/1.1"]);
    }

    #[test]
    fn what_was_done_is_named_by_our_own_word_and_where_by_name() {
        let operation = json!({
            "created_at": "2026-03-01T14:00:00Z", "action": "create_timeline", "scion_action": "restore_branch",
            "branch_id": "br-1", "status": "failed", "total_duration_ms": 12, "error": "no\nroom"
        });
        let now = "2026-03-01T14:05:00Z".parse().unwrap();
        let cells = row(&operation, &[json!({"id": "br-1", "name": "dev"})], now);
        assert_eq!(cells[1..], ["restore_branch", "dev", "failed", "12 ms", "no room"]);
        assert_eq!(row(&json!({"branch_id": "br-2"}), &[], now)[2], "br-2", "one that is gone");
    }
}
