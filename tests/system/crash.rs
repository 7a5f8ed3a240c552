//! Whatever is killed, and whenever: every acknowledged commit is there afterwards.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use scion_tests::process::{self, wait_for};
use scion_tests::{Endpoint, Scion, sql};

/// Kills, in turn, of postgres, of `scion compute`, of `scion serve`, and of all three.
const ROUNDS: usize = 20;

/// Rule 3 of the README of `compute`.
#[test]
fn every_acknowledged_commit_survives_kill_9_of_anything() {
    // The table of mounts escapes the blank.
    let mut scion = Scion::start_below("scion a b-");
    let root = scion.root().clone();
    process::run(root.pgbench(&["-i", "-q", "-s", "1"]).stderr(Stdio::null()));
    root.execute("create table acked(id bigint primary key)");
    let next = AtomicI64::new(0);
    for round in 0..ROUNDS {
        let acknowledged = write_until_killed(&mut scion, &root, &next, round);
        let mut client = root.reconnect();
        let rows = sql::number(&mut client, "select count(*) from acked");
        let highest = next.load(Ordering::SeqCst);
        assert!(
            rows >= acknowledged && rows <= highest,
            "round {round}: {rows} rows, {acknowledged} acknowledged, {highest} tried"
        );
        let missing = sql::number(&mut client, "select coalesce(max(id), 0) - count(*) from acked");
        next.store(sql::number(&mut client, "select coalesce(max(id), 0) from acked"), Ordering::SeqCst);
        assert_eq!(missing, 0, "round {round}: a row in the middle is gone");
        if round % 5 == 4 {
            root.amcheck();
        }
    }
    root.amcheck();
}

/// Commits rows one by one beside pgbench, kills something, and gives how many commits had returned.
fn write_until_killed(scion: &mut Scion, root: &Endpoint, next: &AtomicI64, round: usize) -> i64 {
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicI64::new(next.load(Ordering::SeqCst));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = root.reconnect();
            while !stop.load(Ordering::SeqCst) {
                let id = next.fetch_add(1, Ordering::SeqCst) + 1;
                match client.batch_execute(&format!("insert into acked values ({id})")) {
                    Ok(()) => acknowledged.store(id, Ordering::SeqCst),
                    Err(_) => break,
                }
            }
        });
        let mut load = root.pgbench(&["-n", "-c", "2", "-T", "60"]);
        let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300 + u64::try_from(round * 137 % 900).unwrap()));
        kill(scion, root, round % 4);
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::SeqCst);
        // It has been there while something was killed.
        load.kill().unwrap();
        load.wait().unwrap();
    });
    acknowledged.load(Ordering::SeqCst)
}

fn kill(scion: &mut Scion, root: &Endpoint, what: usize) {
    let (postgres, compute) = pids(scion, root);
    match what {
        0 => process::signal(postgres, libc::SIGKILL),
        1 => process::signal(compute, libc::SIGKILL),
        2 => {
            scion.kill_serve();
            scion.relaunch();
        }
        _ => {
            scion.kill_serve();
            process::signal(compute, libc::SIGKILL);
            process::signal(postgres, libc::SIGKILL);
            scion.relaunch();
        }
    }
}

fn pids(scion: &Scion, root: &Endpoint) -> (i32, i32) {
    wait_for("the endpoint to report its processes", Duration::from_secs(30), || {
        let info = scion.endpoint_info(root);
        let pid =
            |name: &str| info[name].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        Some((pid("postgres_pid")?, pid("compute_pid")?))
    })
}
