//! `cargo xtask bench control`: how fast a branch gets other data, and how the control plane bears many branches.
//!
//! Not here: what one branch costs on a busy parent, which is `branches`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use scion_tests::{Endpoint, Scion};
use serde_json::{Value, json};

use crate::disk;
use crate::report::{Report, ms, percentile};

/// Resets, and restores, of one branch.
const REPLACED: usize = 30;
/// Branches that are made with an endpoint each.
const WITH_ENDPOINT: usize = 100;
/// Branches that are made without one.
const WITHOUT_ENDPOINT: usize = 1000;
/// Requests under way at a time.
const CONCURRENCY: usize = 8;
/// Times the whole list is asked for.
const LISTED: usize = 50;

/// All figures of the control plane; `scion` has a loaded root.
pub fn control(scion: &mut Scion, report: &mut Report) {
    replaced_in_place(scion, report);
    many_with_endpoints(scion, report);
    many_without(scion, report);
}

/// From the request to the first answer that has the new data, at the connection string that stays.
fn replaced_in_place(scion: &Scion, report: &mut Report) {
    scion.root().execute("create table marks(n bigint); insert into marks values (0)");
    let dev = scion.branch("replaced", json!({}));
    let parent = scion.root_branch().to_owned();
    let mut resets = rounds(scion, &dev, || json!({"source_branch_id": parent}));
    add(report, "reset to the parent until the new data answers, p50 / p95", &mut resets);
    let mut restores = rounds(scion, &dev, || {
        let lsn = scion.root().psql("neondb", "select pg_current_wal_lsn()");
        scion.root().execute("insert into marks values (-1)");
        json!({"source_branch_id": parent, "source_lsn": lsn})
    });
    add(report, "restore to an LSN of the parent until the new data answers, p50 / p95", &mut restores);
    delete(scion, &dev.branch);
}

fn add(report: &mut Report, what: &str, times: &mut [Duration]) {
    let figure = format!("{} / {}", ms(percentile(times, 50)), ms(percentile(times, 95)));
    report.add(what, figure, "400 ms");
}

/// Gives `dev` the data that `request` names, again and again, each time with a mark that only this round has.
fn rounds(scion: &Scion, dev: &Endpoint, request: impl Fn() -> Value) -> Vec<Duration> {
    let round = |_| {
        let mark = scion.root().number("insert into marks select max(n) + 1 from marks returning n");
        dev.execute("delete from marks");
        let body = request();
        let start = Instant::now();
        scion.api().post(&scion.path(&format!("/branches/{}/restore", dev.branch)), body).unwrap();
        assert_eq!(dev.number("select max(n) from marks"), mark);
        let taken = start.elapsed();
        assert_eq!(
            dev.number("select n from marks order by ctid desc limit 1"),
            mark,
            "data of a later moment"
        );
        taken
    };
    (0..REPLACED).map(round).collect()
}

/// From the first request until every one of them has answered a query.
fn many_with_endpoints(scion: &Scion, report: &mut Report) {
    let made = Mutex::new(Vec::new());
    let start = Instant::now();
    at_once(WITH_ENDPOINT, |n| {
        let branch = scion.branch(&format!("answers-{n}"), json!({}));
        assert_eq!(branch.number("select 1::bigint"), 1);
        made.lock().unwrap().push(branch.branch);
    });
    let what =
        format!("{WITH_ENDPOINT} branches with endpoints, {CONCURRENCY} at a time, until all have answered");
    report.add(&what, format!("{:.1} s", start.elapsed().as_secs_f64()), "60 s");
    for branch in made.into_inner().unwrap() {
        delete(scion, &branch);
    }
}

/// Branches at rest: made, listed, and what the server holds of them in memory.
fn many_without(scion: &mut Scion, report: &mut Report) {
    let before = memory_at_rest(scion);
    let start = Instant::now();
    at_once(WITHOUT_ENDPOINT, |n| {
        scion.try_branch(&format!("rests-{n}"), json!({}), false).unwrap();
    });
    let what = format!("{WITHOUT_ENDPOINT} branches without endpoints, {CONCURRENCY} at a time");
    report.add(&what, format!("{:.1} s", start.elapsed().as_secs_f64()), "10 s");

    let mut times = Vec::new();
    for _ in 0..LISTED {
        let start = Instant::now();
        let list = scion.api().get(&scion.path("/branches?limit=10000")).unwrap();
        times.push(start.elapsed());
        assert!(list["branches"].as_array().unwrap().len() > WITHOUT_ENDPOINT);
    }
    let figure = format!("{} / {}", ms(percentile(&mut times, 50)), ms(percentile(&mut times, 95)));
    report.add(&format!("list of {WITHOUT_ENDPOINT} branches, p50 / p95"), figure, "50 ms");

    let grown = memory_at_rest(scion).saturating_sub(before) as f64 / WITHOUT_ENDPOINT as f64;
    let what = "memory of `scion serve` for a branch at rest that was looked at since its start";
    report.add(what, format!("{grown:.1} KB"), "10 KB");
}

/// Kilobytes that a new server holds when it has shown every branch.
fn memory_at_rest(scion: &mut Scion) -> u64 {
    scion.stop_serve();
    scion.relaunch();
    let list = scion.api().get(&scion.path("/branches?limit=10000")).unwrap();
    for branch in list["branches"].as_array().unwrap() {
        scion.branch_info(branch["id"].as_str().unwrap());
    }
    disk::anonymous_memory_kb(scion)
}

/// Does `work` for 0 to `count`, several at a time.
fn at_once(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let n = next.fetch_add(1, Ordering::Relaxed)
                    && n < count
                {
                    work(n);
                }
            });
        }
    });
}

fn delete(scion: &Scion, branch: &str) {
    scion.api().delete(&scion.path(&format!("/branches/{branch}"))).unwrap();
}
