//! How long a branch takes, and what its parent notices.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use scion_tests::Scion;
use serde_json::json;

use crate::report::{Report, ms, percentile};

/// Branches per measurement.
const CREATED: usize = 200;
const STARTED: usize = 30;
const UNDER_LOAD: usize = 50;

/// `POST /branches` at the head of a project under pgbench.
pub fn creation(scion: &Scion, size: &str, report: &mut Report) {
    let mut load = start_load(scion, 60);
    std::thread::sleep(Duration::from_secs(2));
    let mut times = Vec::new();
    let mut ids = Vec::new();
    for n in 0..CREATED {
        let start = Instant::now();
        let made = scion.try_branch(&format!("create-{size}-{n}"), json!({}), false).unwrap();
        times.push(start.elapsed());
        ids.push(made["branch"]["id"].as_str().unwrap().to_owned());
    }
    end(&mut load);
    for id in ids {
        scion.api().delete(&scion.path(&format!("/branches/{id}"))).unwrap();
    }
    let figure = format!("{} / {}", ms(percentile(&mut times, 50)), ms(percentile(&mut times, 99)));
    report.add(&format!("`POST /branches` at head, busy {size} project, p50 / p99"), figure, "10 ms / 50 ms");
}

/// From the request to the first row of `select 1`, endpoint included.
pub fn first_row(scion: &Scion, report: &mut Report) {
    let mut times = Vec::new();
    for n in 0..STARTED {
        let start = Instant::now();
        let branch = scion.branch(&format!("cold-{n}"), json!({}));
        branch.number("select 1::bigint");
        times.push(start.elapsed());
        scion.api().delete(&scion.path(&format!("/branches/{}", branch.branch))).unwrap();
    }
    let figure = format!("{} / {}", ms(percentile(&mut times, 50)), ms(percentile(&mut times, 95)));
    report.add("create to first row, cold, p50 / p95", figure, "250 ms");
}

/// The parent's transactions a second, in buckets, while branches are created and started.
pub fn load_on_the_parent(scion: &Scion, report: &mut Report) {
    let calm = buckets(scion, || std::thread::sleep(Duration::from_secs(15)));
    let mut ids = Vec::new();
    let busy = buckets(scion, || {
        for n in 0..UNDER_LOAD {
            ids.push(scion.branch(&format!("load-{n}"), json!({})).branch);
        }
    });
    for id in ids {
        scion.api().delete(&scion.path(&format!("/branches/{id}"))).unwrap();
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let worst = busy.iter().copied().fold(f64::INFINITY, f64::min);
    let calm_worst = calm.iter().copied().fold(f64::INFINITY, f64::min);
    let figure = format!(
        "mean {:.2}x, worst second {:.2}x (without branches: worst {:.2}x)",
        mean(&busy) / mean(&calm),
        worst / mean(&calm),
        calm_worst / mean(&calm)
    );
    report.add("parent's TPS while 50 branches start, against without", figure, "worst second 0.8x");
}

/// Transactions in each whole second that `work` takes, on the root endpoint with one client.
fn buckets(scion: &Scion, work: impl FnOnce()) -> Vec<f64> {
    let mut pgbench = scion
        .root()
        .pgbench(&["-n", "-c", "1", "-T", "120", "-P", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = pgbench.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(errors).unwrap());
    std::thread::sleep(Duration::from_secs(2));
    work();
    end(&mut pgbench);
    let text = reader.join().unwrap();
    let tps =
        |line: &str| line.strip_prefix("progress: ")?.split(", ").nth(1)?.strip_suffix(" tps")?.parse().ok();
    text.lines().filter_map(tps).skip(2).collect()
}

fn start_load(scion: &Scion, seconds: u32) -> Child {
    scion
        .root()
        .pgbench(&["-n", "-c", "2", "-T", &seconds.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn end(child: &mut Child) {
    scion_tests::process::signal(i32::try_from(child.id()).unwrap(), libc::SIGINT);
    child.wait().unwrap();
}
