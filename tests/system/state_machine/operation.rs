//! What the machine does, and which request of the API that is.

use std::fmt;

use scion_tests::clock::in_seconds;
use serde_json::{Value, json};
use types::Lsn;

use crate::state_machine::model::{Key, Model};

/// The key of a branch, snapshot or schedule that never was.
pub const NOBODY: Key = usize::MAX;
/// When what is to run only when it was missed runs: on New Year's night.
pub const YEARLY: &str = "0 3 1 1 *";

/// Where a branch is to begin; `point` is the commit of its source that is the last in it.
#[derive(Clone)]
pub enum At {
    /// At everything that was committed.
    Head,
    /// At this position.
    Lsn { point: usize, lsn: Lsn },
    /// At this time.
    Time { point: usize, time: String },
    /// Where nothing is, yet or any more: refused.
    Nowhere(Lsn),
}

/// What one commit changes.
#[derive(Clone)]
pub struct Change {
    /// Rows that it writes, the first of which is new.
    pub puts: Vec<(i64, i64)>,
    /// Rows that it removes.
    pub removes: Vec<i64>,
    /// What else is logged, which must not show.
    pub noise: Noise,
}

/// What is logged beside a commit.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// Nothing.
    None,
    /// A transaction that is rolled back.
    Rollback,
    /// A part of the transaction that is rolled back.
    Savepoint,
    /// A vacuum.
    Vacuum,
    /// A table that comes and goes.
    Table,
}

/// What is killed.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    /// The postmaster.
    Postgres,
    /// A process that it started.
    Backend(usize),
    /// `scion compute`.
    Compute,
    /// Both.
    Endpoint,
    /// `scion serve`, which is started again.
    Serve,
    /// All processes of the server and of this endpoint.
    Everything,
}

/// One step. Each of those up to `RunSchedule` is one request.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        name: String,
        parent: Option<Key>,
        at: At,
        endpoint: bool,
        protected: bool,
        expires: bool,
        schema_only: bool,
    },
    Restore {
        branch: Key,
        source: Key,
        at: At,
        keep_as: Option<String>,
    },
    Rename {
        branch: Key,
        name: String,
    },
    Protect {
        branch: Key,
        on: bool,
    },
    SetDefault {
        branch: Key,
    },
    Expire {
        branch: Key,
        on: bool,
    },
    Delete {
        branch: Key,
        recursive: bool,
        hard: bool,
    },
    Recover {
        branch: Key,
        name: Option<String>,
    },
    CreateEndpoint {
        branch: Key,
    },
    DeleteEndpoint {
        branch: Key,
    },
    Start {
        branch: Key,
    },
    Suspend {
        branch: Key,
    },
    Snapshot {
        branch: Key,
        at: At,
        name: String,
    },
    RenameSnapshot {
        snapshot: Key,
        name: String,
    },
    DeleteSnapshot {
        snapshot: Key,
    },
    RestoreSnapshot {
        snapshot: Key,
        name: Option<String>,
        target: Option<Key>,
        endpoint: bool,
        finalize: bool,
    },
    Finalize {
        branch: Key,
        name: Option<String>,
    },
    CreateSchedule {
        name: String,
        parent: Option<Key>,
        endpoint: bool,
        row: Option<(i64, i64)>,
    },
    DeleteSchedule {
        schedule: Key,
    },
    SetBackups {
        branch: Key,
        on: bool,
    },
    RunSchedule {
        schedule: Key,
    },
    /// A commit.
    Write {
        branch: Key,
        change: Change,
    },
    /// pgbench, until its connection ends.
    Load {
        branch: Key,
    },
    /// `kill -9`; with `writing`, between commits one after the other.
    Kill {
        branch: Key,
        victim: Victim,
        writing: bool,
    },
    /// `kill -9` of the server so long after the request was sent.
    Interrupt {
        op: Box<Op>,
        after_ms: u64,
    },
    /// Two requests, the second of which is sent so long after the first.
    Together {
        ops: [Box<Op>; 2],
        gap_ms: u64,
    },
    /// A branch's time comes; with `away`, while the server does not run.
    ExpireNow {
        branch: Key,
        away: bool,
    },
    /// A snapshot's time comes.
    ExpireSnapshot {
        snapshot: Key,
    },
    /// The server does not run when the schedule is due.
    MissRun {
        schedule: Key,
    },
    /// The server does not run when backups are due.
    MissBackups,
}

/// One request.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub body: Value,
}

impl At {
    /// The last commit, of which `last` is the newest there is.
    pub fn point(&self, last: usize) -> usize {
        match self {
            Self::Lsn { point, .. } | Self::Time { point, .. } => *point,
            Self::Head | Self::Nowhere(_) => last,
        }
    }

    fn fields(&self, prefix: &str) -> Vec<(String, String)> {
        match self {
            Self::Head => Vec::new(),
            Self::Lsn { lsn, .. } | Self::Nowhere(lsn) => vec![(format!("{prefix}lsn"), lsn.to_string())],
            Self::Time { time, .. } => vec![(format!("{prefix}timestamp"), time.clone())],
        }
    }

    fn put(&self, prefix: &str, body: &mut Value) {
        for (name, value) in self.fields(prefix) {
            body[name] = json!(value);
        }
    }
}

impl Op {
    /// Whether it names a place in the log of a branch.
    pub fn has_place(&self) -> bool {
        match self {
            Self::Create { at, .. } | Self::Restore { at, .. } | Self::Snapshot { at, .. } => {
                matches!(at, At::Lsn { .. } | At::Time { .. })
            }
            _ => false,
        }
    }

    /// Whether a branch that is there has other data afterwards.
    pub fn gives_other_data(&self) -> bool {
        matches!(
            self,
            Self::Restore { .. } | Self::Finalize { .. } | Self::RestoreSnapshot { finalize: true, .. }
        )
    }

    /// What is to be sent, below `/projects/ID`; `None` for what is no request.
    pub fn request(&self, model: &Model) -> Option<Request> {
        self.of_branch(model).or_else(|| self.of_endpoint(model)).or_else(|| self.of_others(model))
    }

    fn of_branch(&self, model: &Model) -> Option<Request> {
        let of = |branch: &Key, rest: &str| format!("/branches/{}{rest}", model.branch_id(*branch));
        let patch = |branch: &Key, change: Value| Request {
            method: "PATCH",
            path: of(branch, ""),
            body: json!({ "branch": change }),
        };
        Some(match self {
            Self::Create { name, parent, at, endpoint, protected, expires, schema_only } => {
                let mut branch = json!({"name": name});
                at.put("parent_", &mut branch);
                if let Some(parent) = parent {
                    branch["parent_id"] = json!(model.branch_id(*parent));
                }
                if *protected {
                    branch["protected"] = json!(true);
                }
                if *expires {
                    branch["expires_at"] = json!(in_seconds(7200));
                }
                if *schema_only {
                    branch["init_source"] = json!("schema-only");
                }
                post("/branches".to_owned(), json!({"branch": branch, "endpoints": endpoints(*endpoint)}))
            }
            Self::Restore { branch, source, at, keep_as } => {
                let mut body = json!({"source_branch_id": model.branch_id(*source)});
                at.put("source_", &mut body);
                if let Some(name) = keep_as {
                    body["preserve_under_name"] = json!(name);
                }
                post(of(branch, "/restore"), body)
            }
            Self::Rename { branch, name } => patch(branch, json!({"name": name})),
            Self::Protect { branch, on } => patch(branch, json!({"protected": on})),
            Self::Expire { branch, on } => patch(branch, json!({"expires_at": on.then(|| in_seconds(7200))})),
            Self::ExpireNow { branch, .. } => patch(branch, json!({"expires_at": in_seconds(2)})),
            Self::SetDefault { branch } => post(of(branch, "/set_as_default"), json!({})),
            Self::Delete { branch, recursive, hard } => Request {
                method: "DELETE",
                path: of(branch, &format!("?recursive={recursive}&hard_delete={hard}")),
                body: Value::Null,
            },
            Self::Recover { branch, name } => {
                post(of(branch, "/recover"), name.as_ref().map_or(json!({}), |name| json!({"name": name})))
            }
            Self::SetBackups { branch, on } => {
                let line = json!({"frequency": "yearly", "hour": 3});
                let body = json!({"schedule": if *on { vec![line] } else { Vec::new() }});
                Request { method: "PUT", path: of(branch, "/backup_schedule"), body }
            }
            Self::Finalize { branch, name } => {
                let body = name.as_ref().map_or(json!({}), |name| json!({"name": name}));
                post(of(branch, "/finalize_restore"), body)
            }
            _ => return None,
        })
    }

    fn of_endpoint(&self, model: &Model) -> Option<Request> {
        let of = |branch: &Key, rest: &str| format!("/endpoints/{}{rest}", model.endpoint_id(*branch));
        Some(match self {
            Self::CreateEndpoint { branch } => {
                let endpoint = json!({"branch_id": model.branch_id(*branch), "type": "read_write"});
                post("/endpoints".to_owned(), json!({ "endpoint": endpoint }))
            }
            Self::DeleteEndpoint { branch } => {
                Request { method: "DELETE", path: of(branch, ""), body: Value::Null }
            }
            Self::Start { branch } => post(of(branch, "/start"), json!({})),
            Self::Suspend { branch } => post(of(branch, "/suspend"), json!({})),
            _ => return None,
        })
    }

    fn of_others(&self, model: &Model) -> Option<Request> {
        let snapshot = |key: &Key, rest: &str| format!("/snapshots/{}{rest}", model.snapshot_id(*key));
        let schedule = |key: &Key, rest: &str| format!("/branch_schedules/{}{rest}", model.schedule_id(*key));
        let patch = |key: &Key, change: Value| Request {
            method: "PATCH",
            path: snapshot(key, ""),
            body: json!({ "snapshot": change }),
        };
        Some(match self {
            Self::Snapshot { branch, at, name } => {
                let mut path = format!("/branches/{}/snapshot?name={name}", model.branch_id(*branch));
                for (name, value) in at.fields("") {
                    path.push_str(&format!("&{name}={value}"));
                }
                post(path, json!({}))
            }
            Self::RenameSnapshot { snapshot, name } => patch(snapshot, json!({"name": name})),
            Self::ExpireSnapshot { snapshot } => patch(snapshot, json!({"expires_at": in_seconds(1)})),
            Self::DeleteSnapshot { snapshot: key } => {
                Request { method: "DELETE", path: snapshot(key, ""), body: Value::Null }
            }
            Self::RestoreSnapshot { snapshot: key, name, target, endpoint, finalize } => {
                let mut body = json!({"finalize_restore": finalize});
                if !*finalize {
                    body["endpoints"] = endpoints(*endpoint);
                }
                if let Some(name) = name {
                    body["name"] = json!(name);
                }
                if let Some(target) = target {
                    body["target_branch_id"] = json!(model.branch_id(*target));
                }
                post(snapshot(key, "/restore"), body)
            }
            Self::CreateSchedule { name, parent, endpoint, row } => {
                let mut template = json!({"endpoints": endpoints(*endpoint)});
                if let Some(parent) = parent {
                    template["parent_id"] = json!(model.branch_id(*parent));
                }
                if let Some(row) = row {
                    template["sql"] = json!(put_rows(&[*row]));
                }
                let body = json!({"name": name, "cron": YEARLY, "template": template});
                post("/branch_schedules".to_owned(), json!({ "branch_schedule": body }))
            }
            Self::RunSchedule { schedule: key } => post(schedule(key, "/run"), json!({})),
            Self::DeleteSchedule { schedule: key } => {
                Request { method: "DELETE", path: schedule(key, ""), body: Value::Null }
            }
            _ => return None,
        })
    }
}

fn post(path: String, body: Value) -> Request {
    Request { method: "POST", path, body }
}

fn endpoints(one: bool) -> Value {
    if one { json!([{"type": "read_write"}]) } else { json!([]) }
}

/// SQL that writes rows; their payload says what their token must be.
pub fn put_rows(rows: &[(i64, i64)]) -> String {
    let list = |values: Vec<String>| values.join(",");
    let seqs = list(rows.iter().map(|row| row.0.to_string()).collect());
    let tokens = list(rows.iter().map(|row| row.1.to_string()).collect());
    format!(
        "insert into entry (seq, token, payload) \
         select s, t, repeat(md5(t::text), (1 + t % 120)::int) \
         from unnest(array[{seqs}]::bigint[], array[{tokens}]::bigint[]) as u(s, t) \
         on conflict (seq) do update set token = excluded.token, payload = excluded.payload"
    )
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => write!(f, "head"),
            Self::Lsn { point, lsn } => write!(f, "{lsn} (commit {point})"),
            Self::Time { point, time } => write!(f, "{time} (commit {point})"),
            Self::Nowhere(lsn) => write!(f, "{lsn} (nowhere)"),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.puts.first().map_or(0, |row| row.0);
        write!(
            f,
            "{} rows, new from {first}, {} removed, {:?}",
            self.puts.len(),
            self.removes.len(),
            self.noise
        )
    }
}
