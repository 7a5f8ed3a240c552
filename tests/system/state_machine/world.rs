//! The server that operations are done on, and the look at what its branches hold.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;
use scion_tests::process::{self, wait_for};
use scion_tests::{Api, Endpoint, Scion};
use serde_json::Value;
use types::Lsn;

use crate::state_machine::history::{Point, Rows};
use crate::state_machine::listing::Listing;
use crate::state_machine::model::{Key, Model, Refusals, is_answer};
use crate::state_machine::operation::{Change, Noise, Op, Victim, put_rows};

/// How long the server may take to be what the model says.
const AGREES_WITHIN: Duration = Duration::from_secs(60);
/// How many branches pgbench writes to at a time.
const LOADS: usize = 2;
/// Rows that a writer has for itself.
const WRITER_ROWS: i64 = 100_000;
const CREATE: &str =
    "create table entry(seq bigint primary key, token bigint not null, payload text not null)";
const SEEN: &str = "select pg_current_wal_flush_lsn()::text,
    to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
const DIGEST: &str = "select count(*), coalesce(sum(seq), 0)::text, coalesce(sum(token), 0)::text,
    coalesce(bool_and(payload = repeat(md5(token::text), (1 + token % 120)::int)), true),
    pg_current_wal_flush_lsn()::text from entry";
const BALANCES: &str = "select (select coalesce(sum(abalance), 0)::bigint from pgbench_accounts),
    (select coalesce(sum(bbalance), 0)::bigint from pgbench_branches),
    (select coalesce(sum(tbalance), 0)::bigint from pgbench_tellers),
    (select coalesce(sum(delta), 0)::bigint from pgbench_history)";

/// A server and what the test started on it.
pub struct World {
    pub scion: Scion,
    loads: Vec<Child>,
}

impl World {
    /// A server whose root has the tables, and the model of it.
    pub fn start() -> (Self, Model) {
        let scion = Scion::start();
        let root = scion.root();
        process::run(root.pgbench(&["-i", "-q", "-s", "1"]).stderr(Stdio::null()));
        root.execute(CREATE);
        let world = Self { scion, loads: Vec::new() };
        let mut model = world.settle(&mut [Model::new("main")]);
        let key = model.default_branch();
        let seen = look(&mut world.endpoint(&model, key).connect()).unwrap().0;
        model.data_of(key).seen(seen);
        (world, model)
    }

    /// Does `op`, and makes the model what it should be after that. Says whether it was done.
    pub fn perform(&mut self, op: &Op, model: &mut Model) -> bool {
        self.loads.retain_mut(|load| matches!(load.try_wait(), Ok(None)));
        let mut done = true;
        match op {
            Op::Write { branch, change } => self.write(model, *branch, change),
            Op::Load { branch } => self.load(&self.endpoint(model, *branch)),
            Op::Kill { branch, victim, writing } => self.kill_while(model, *branch, *victim, *writing),
            Op::Interrupt { op, after_ms } => done = self.interrupt(op, *after_ms, model),
            Op::Together { ops, gap_ms } => done = self.together([&ops[0], &ops[1]], *gap_ms, model),
            Op::MissRun { schedule } => {
                let id = model.schedule_id(*schedule);
                self.miss(&format!("UPDATE branch_schedule SET planned_us = 0 WHERE id = '{id}'"));
                model.apply(op);
            }
            Op::MissBackups => {
                self.miss("UPDATE backup_schedule SET planned_us = 0");
                model.apply(op);
            }
            Op::ExpireNow { away, .. } => {
                done = self.request(op, model);
                if done && *away {
                    self.scion.kill_serve();
                    std::thread::sleep(Duration::from_millis(2200));
                    self.scion.relaunch();
                }
            }
            _ => done = self.request(op, model),
        }
        *model = self.settle(&mut [model.clone()]);
        done
    }

    /// pgbench until its connection ends, in place of the oldest one if there are two.
    fn load(&mut self, endpoint: &Endpoint) {
        if self.loads.len() >= LOADS {
            end(&mut self.loads.remove(0));
        }
        let mut load = endpoint.pgbench(&["-n", "-c", "1", "-R", "20", "-T", "3600"]);
        self.loads.push(load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// Sends a request and says whether it was done.
    fn request(&mut self, op: &Op, model: &mut Model) -> bool {
        let request = op.request(model).expect("it is a request");
        let (status, answer) =
            self.scion.api().ask(request.method, &self.scion.path(&request.path), &request.body);
        let refusals = model.apply(op);
        expect(op, status, &answer, &refusals);
        refusals.is_empty()
    }

    /// Sends two requests at a time. Says whether both were done.
    fn together(&mut self, ops: [&Op; 2], gap_ms: u64, model: &mut Model) -> bool {
        let sent = ops.map(|op| {
            let request = op.request(model).expect("it is a request");
            let (api, path) = (self.scion.api().clone(), self.scion.path(&request.path));
            let sent = std::thread::spawn(move || api.ask(request.method, &path, &request.body));
            std::thread::sleep(Duration::from_millis(gap_ms));
            sent
        });
        let answers = sent.map(|thread| thread.join().unwrap());
        let statuses = [answers[0].0, answers[1].0];
        let mut outcomes = model.either_order(ops, statuses);
        let said = answers.map(|(status, answer)| format!("{status} {}", answer["message"]));
        assert!(!outcomes.is_empty(), "{ops:?}: {said:?}, which they say in neither order");
        *model = self.settle(&mut outcomes);
        statuses.iter().all(|status| *status < 300)
    }

    /// Kills the server in the middle of a request. It is done or it is not; if it was acknowledged, it is. Says whether it
    /// was killed before the answer.
    fn interrupt(&mut self, op: &Op, after_ms: u64, model: &mut Model) -> bool {
        let request = op.request(model).expect("it is a request");
        let path = self.scion.path(&request.path);
        let ask = |api: &Api| api.try_ask(request.method, &path, &request.body);
        let answer = self.scion.killed_during(after_ms, ask);
        let mut outcomes = model.outcomes(op);
        let killed = answer.is_none();
        if let Some((status, answer)) = answer {
            let refusals = model.apply(op);
            // An endpoint whose server is gone does not start.
            if status < 500 {
                expect(op, status, &answer, &refusals);
                outcomes = vec![model.clone()];
            }
        }
        *model = self.settle(&mut outcomes);
        killed
    }

    /// Nothing that the server wrote to its log says that it did something wrong.
    pub fn check_log(&self) {
        let log = std::fs::read_to_string(self.scion.data_dir().join("serve.log")).unwrap();
        let bad = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
        let bad: Vec<&str> = bad.collect();
        assert!(bad.is_empty(), "the log of the server says:\n{}", bad.join("\n"));
    }

    fn miss(&mut self, sql: &str) {
        self.scion.kill_serve();
        let file = rusqlite::Connection::open(self.scion.data_dir().join("scion.sqlite")).unwrap();
        file.execute_batch(sql).unwrap();
        drop(file);
        self.scion.relaunch();
    }

    /// Waits until the server is what one of the models says, and gives that one.
    fn settle(&self, outcomes: &mut [Model]) -> Model {
        let began = Instant::now();
        loop {
            let listing = Listing::take(&self.scion);
            let mut differences = Vec::new();
            for model in outcomes.iter_mut() {
                listing.teach(model);
                differences = listing.differences(model);
                if differences.is_empty() {
                    let mut model = model.clone();
                    self.learn_addresses(&mut model);
                    return model;
                }
            }
            let text = differences.join("\n");
            assert!(began.elapsed() < AGREES_WITHIN, "the server does not become what the model is:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn learn_addresses(&self, model: &mut Model) {
        for branch in model.branches.values_mut() {
            let Some(endpoint) = branch.endpoint.as_mut().filter(|it| it.uri.is_empty()) else { continue };
            endpoint.uri = self.scion.uri_of(&branch.id);
        }
    }

    /// The endpoint of a branch, which has one.
    pub fn endpoint(&self, model: &Model, key: Key) -> Endpoint {
        let branch = &model.branches[&key];
        let endpoint = branch.endpoint.as_ref().expect("it has an endpoint");
        let dir = self.scion.data_dir().join("endpoints").join(&endpoint.id);
        Endpoint { id: endpoint.id.clone(), branch: branch.id.clone(), uri: endpoint.uri.clone(), dir }
    }

    /// One commit. If its connection ends, the branch says whether it was made.
    fn write(&mut self, model: &mut Model, key: Key, change: &Change) {
        let endpoint = self.endpoint(model, key);
        let mut rows = Rows::clone(model.data_of(key).rows());
        let edited = Rows::make_mut(&mut rows);
        edited.extend(change.puts.iter().copied());
        edited.retain(|seq, _| !change.removes.contains(seq));
        let (mut after, new) = (None, change.puts[0].0);
        let made = wait_for("a commit", AGREES_WITHIN, || {
            let mut client = endpoint.try_connect().ok()?;
            let query = "select pg_current_wal_insert_lsn()::text, exists(select from entry where seq = $1)";
            let row = client.query_one(query, &[&new]).ok()?;
            if !row.get::<_, bool>(1) {
                after = Some(row.get::<_, String>(0).parse::<Lsn>().unwrap());
                client.batch_execute(&statement(change)).ok()?;
            }
            look(&mut client).ok()
        });
        let (by, time) = made;
        model.data_of(key).push(Point { after, by: Some(by), time: Some(time), rows });
        let noise = match change.noise {
            Noise::Rollback => format!("begin; {}; rollback", put_rows(&[(-1, 1), (-2, 2)])),
            Noise::Vacuum => "vacuum entry".to_owned(),
            Noise::Table => {
                "create table noise(x int); insert into noise values (1); drop table noise".to_owned()
            }
            Noise::None | Noise::Savepoint => return,
        };
        // Whether it gets through does not matter.
        if let Ok(mut client) = endpoint.try_connect() {
            let _ = client.batch_execute(&noise);
        }
    }

    fn kill_while(&mut self, model: &mut Model, key: Key, victim: Victim, writing: bool) {
        if !writing {
            self.kill(model, key, victim);
            return;
        }
        let first = model.take_seqs(WRITER_ROWS);
        let endpoint = self.endpoint(model, key);
        let stop = AtomicBool::new(false);
        let (after, acknowledged) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_until_stopped(&endpoint, first, &stop));
            std::thread::sleep(Duration::from_millis(150));
            self.kill(model, key, victim);
            std::thread::sleep(Duration::from_millis(50));
            stop.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        let (count, last, (by, time)) = retried(&endpoint, |client| {
            let query = "select count(*), coalesce(max(seq), 0) from entry where seq between $1 and $2";
            let row = client.query_one(query, &[&first, &(first + WRITER_ROWS - 1)])?;
            Ok((row.get::<_, i64>(0), row.get::<_, i64>(1), look(client)?))
        });
        assert!(count == 0 || last == first + count - 1, "{count} rows from {first}, and the last is {last}");
        assert!(
            count == acknowledged || count == acknowledged + 1,
            "{count} rows of branch {} are there, {acknowledged} were acknowledged before {victim:?} was killed",
            endpoint.branch
        );
        let mut rows = Rows::clone(model.data_of(key).rows());
        Rows::make_mut(&mut rows).extend((first..first + count).map(|seq| (seq, token_of(seq))));
        model.data_of(key).push(Point { after, by: Some(by), time: Some(time), rows });
    }

    fn kill(&mut self, model: &Model, key: Key, victim: Victim) {
        let (postgres, compute) = self.pids(model, key);
        match victim {
            Victim::Postgres => process::signal(postgres, libc::SIGKILL),
            Victim::Backend(number) => {
                let started = children(postgres);
                if let Some(pid) = started.get(number % started.len().max(1)) {
                    process::signal(*pid, libc::SIGKILL);
                }
            }
            Victim::Compute => process::signal(compute, libc::SIGKILL),
            Victim::Endpoint => {
                process::signal(compute, libc::SIGKILL);
                process::signal(postgres, libc::SIGKILL);
            }
            Victim::Serve => self.restart(),
            Victim::Everything => {
                self.scion.kill_serve();
                process::signal(compute, libc::SIGKILL);
                process::signal(postgres, libc::SIGKILL);
                self.scion.relaunch();
            }
        }
    }

    fn restart(&mut self) {
        self.scion.kill_serve();
        self.scion.relaunch();
    }

    /// Process ids of Postgres and of its compute.
    fn pids(&self, model: &Model, key: Key) -> (i32, i32) {
        let endpoint = self.endpoint(model, key);
        wait_for("the endpoint to report its processes", AGREES_WITHIN, || {
            let info = self.scion.endpoint_info(&endpoint);
            let pid = |name: &str| {
                info[name].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1)
            };
            Some((pid("postgres_pid")?, pid("compute_pid")?))
        })
    }

    /// What a branch that runs holds is what was written to it, and its connection string is what it was.
    pub fn check_data(&self, model: &mut Model, key: Key, balances: bool) {
        let endpoint = self.endpoint(model, key);
        let name = &model.branches[&key].name.clone();
        let data = model.data_of(key);
        let rows = Rows::clone(data.rows());
        let (digest, payloads, head) = retried(&endpoint, |client| {
            let row = client.query_one(DIGEST, &[])?;
            let digest: (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            Ok((digest, row.get::<_, bool>(3), row.get::<_, String>(4)))
        });
        data.seen(head.parse().unwrap());
        let sum = |of: fn((&i64, &i64)) -> i128| rows.iter().map(of).sum::<i128>().to_string();
        let count = i64::try_from(rows.len()).unwrap();
        let expected = (count, sum(|row| i128::from(*row.0)), sum(|row| i128::from(*row.1)));
        if digest != expected {
            panic!("branch {name} does not hold what was written to it: {}", difference(&endpoint, &rows));
        }
        assert!(payloads, "branch {name}: a payload is not that of its token");
        if balances {
            let sums: [i64; 4] = retried(&endpoint, |client| {
                let row = client.query_one(BALANCES, &[])?;
                Ok([row.get(0), row.get(1), row.get(2), row.get(3)])
            });
            assert!(sums.iter().all(|sum| *sum == sums[0]), "branch {name}: balances are {sums:?}");
        }
        let shown = self.scion.uri_of(&endpoint.branch);
        assert_eq!(shown, endpoint.uri, "branch {name}: its connection string changed");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.loads.iter_mut().for_each(end);
    }
}

fn end(load: &mut Child) {
    let _ = load.kill();
    let _ = load.wait();
}

fn expect(op: &Op, status: u16, answer: &Value, refusals: &Refusals) {
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        is_answer(status, refusals),
        "{op:?}: {status} {message}, and the model's refusals are {refusals:?}"
    );
    assert!(refusals.is_empty() || !message.is_empty(), "{op:?}: {status} without a word");
}

/// Does `query` until the endpoint answers.
fn retried<T>(endpoint: &Endpoint, mut query: impl FnMut(&mut Client) -> Result<T, postgres::Error>) -> T {
    let began = Instant::now();
    loop {
        let error = match endpoint.try_connect().and_then(|mut client| query(&mut client)) {
            Ok(value) => return value,
            Err(error) => error,
        };
        assert!(began.elapsed() < AGREES_WITHIN, "endpoint {} does not answer: {error:?}", endpoint.id);
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// How far the log is flushed, and a time.
fn look(client: &mut Client) -> Result<(Lsn, String), postgres::Error> {
    let row = client.query_one(SEEN, &[])?;
    Ok((row.get::<_, String>(0).parse().unwrap(), row.get(1)))
}

fn statement(change: &Change) -> String {
    let mut text = format!("begin; {}", put_rows(&change.puts));
    if matches!(change.noise, Noise::Savepoint) {
        text.push_str(&format!("; savepoint a; {}; rollback to a", put_rows(&[(-3, 3)])));
    }
    if !change.removes.is_empty() {
        let list: Vec<String> = change.removes.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; delete from entry where seq in ({})", list.join(",")));
    }
    text + "; commit"
}

fn token_of(seq: i64) -> i64 {
    seq.wrapping_mul(7919) % 1_000_003
}

/// Commits rows one by one; where the log was before, and how many commits returned.
fn write_until_stopped(endpoint: &Endpoint, first: i64, stop: &AtomicBool) -> (Option<Lsn>, i64) {
    // It may be starting from what was killed before.
    let client = std::iter::repeat_with(|| endpoint.try_connect())
        .find(|it| it.is_ok() || stop.load(Ordering::SeqCst));
    let Some(Ok(mut client)) = client else { return (None, 0) };
    let Ok(row) = client.query_one("select pg_current_wal_insert_lsn()::text", &[]) else { return (None, 0) };
    let after = row.get::<_, String>(0).parse().ok();
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) && count < WRITER_ROWS {
        let seq = first + count;
        if client.batch_execute(&put_rows(&[(seq, token_of(seq))])).is_err() {
            break;
        }
        count += 1;
    }
    (after, count)
}

/// Processes that `parent` started.
fn children(parent: i32) -> Vec<i32> {
    let listed =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn difference(endpoint: &Endpoint, rows: &Rows) -> String {
    let mut client = endpoint.reconnect();
    let found = client.query("select seq, token from entry", &[]).unwrap();
    let found: std::collections::BTreeMap<i64, i64> =
        found.iter().map(|row| (row.get(0), row.get(1))).collect();
    let few = |list: Vec<i64>| format!("{} ({:?} ..)", list.len(), list.iter().take(10).collect::<Vec<_>>());
    let missing = rows.keys().filter(|seq| !found.contains_key(seq)).copied().collect();
    let extra = found.keys().filter(|seq| !rows.contains_key(seq)).copied().collect();
    let other =
        rows.iter().filter(|(seq, token)| found.get(seq).is_some_and(|it| it != *token)).map(|row| *row.0);
    format!(
        "rows missing {}, too many {}, with another token {}",
        few(missing),
        few(extra),
        few(other.collect())
    )
}
