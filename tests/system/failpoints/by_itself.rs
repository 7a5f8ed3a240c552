//! What the server does without being asked, and what it does at its start about an operation that a crash ended.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use scion_tests::process;
use serde_json::json;

use crate::failpoints::operations::{BRANCHES, OTHERS, of_child, schedule, snapshot};
use crate::failpoints::world::World;
use crate::failpoints::{STEPS_MAX, ask, prepared, undisturbed};

/// How long a server may take to do what is due, and how long after that it may still be killed.
const DONE_WITHIN: Duration = Duration::from_secs(30);
const KILLED_AFTER: Duration = Duration::from_millis(700);

/// Something that a thread of the server does when it is due.
struct ByItself {
    name: &'static str,
    thread: &'static str,
    prepare: fn(&World),
    /// Makes it due while no server runs.
    due: fn(&World),
    /// Whether it was done: SQL on the metadata.
    done: &'static str,
}

const NO_TARGET: &str =
    "SELECT NOT EXISTS (SELECT 1 FROM branch WHERE name = 'target' AND deleted_us IS NULL)";

const ALL: &[ByItself] = &[
    ByItself {
        name: "delete a branch that has expired",
        thread: "deletion",
        prepare: |w| drop(w.target(true)),
        due: |w| change(w, "UPDATE branch SET expires_us = 1 WHERE name = 'target'"),
        done: NO_TARGET,
    },
    ByItself {
        name: "purge a branch that nobody recovered",
        thread: "deletion",
        prepare: |w| {
            let target = w.target(false);
            w.scion.api().delete(&w.scion.path(&format!("/branches/{target}"))).unwrap();
        },
        due: |w| change(w, "UPDATE branch SET deleted_us = 1 WHERE name = 'target'"),
        done: "SELECT NOT EXISTS (SELECT 1 FROM branch WHERE name = 'target')",
    },
    ByItself {
        name: "delete a snapshot that has expired",
        thread: "deletion",
        prepare: |w| drop(snapshot(w, &w.child.branch)),
        due: |w| change(w, "UPDATE snapshot SET expires_us = 1"),
        done: "SELECT NOT EXISTS (SELECT 1 FROM snapshot)",
    },
    ByItself {
        name: "make a backup",
        thread: "backups",
        prepare: |w| {
            let body = json!({"schedule": [{"frequency": "yearly", "hour": 3, "day": 1, "month": 1}]});
            w.scion.api().put(&of_child(w, "/backup_schedule"), body).unwrap();
        },
        due: |w| change(w, "UPDATE backup_schedule SET planned_us = 0"),
        done: "SELECT EXISTS (SELECT 1 FROM snapshot)",
    },
    ByItself {
        name: "run a schedule and dispose of what it made before",
        thread: "schedules",
        prepare: |w| {
            let id = schedule(w, json!({"sql": "insert into mark values ('made')", "endpoints": []}));
            w.post(&w.scion.path(&format!("/branch_schedules/{id}/run")), json!({}));
        },
        due: |w| change(w, "UPDATE branch_schedule SET planned_us = 0"),
        done: "SELECT EXISTS (SELECT 1 FROM branch WHERE name LIKE 'nightly until %' AND deleted_us IS NOT NULL)",
    },
    ByItself {
        name: "start an endpoint that was killed",
        thread: "reconcile",
        prepare: |w| drop(w.target(true)),
        due: |w| {
            let id = w.texts("SELECT id FROM endpoint ORDER BY rowid DESC LIMIT 1").pop_first().unwrap();
            change(w, &format!("UPDATE endpoint SET started_us = 1 WHERE id = '{id}'"));
            let dir = w.scion.data_dir().join("endpoints").join(id);
            for pid in scion_tests::server::processes_in(&dir) {
                process::signal(pid, libc::SIGKILL);
            }
        },
        done: "SELECT started_us > 1 FROM endpoint ORDER BY rowid DESC LIMIT 1",
    },
];

fn change(world: &World, sql: &str) {
    world.metadata().execute_batch(sql).unwrap();
}

pub fn try_all(world: &mut World) {
    for it in ALL {
        let began = Instant::now();
        let kills = try_thread(world, it);
        println!("{:>6.1} s  {kills:>2} kills  {}", began.elapsed().as_secs_f64(), it.name);
    }
    try_programs(world);
    for (name, at) in [
        ("create a project", "an endpoint accepts connections"),
        ("delete a branch for good", "what ran of an endpoint was killed"),
        ("create a branch of a schema", "a schema was copied"),
    ] {
        let began = Instant::now();
        let kills = try_recovery(world, name, at);
        println!("{:>6.1} s  {kills:>2} kills  recover from: {name}", began.elapsed().as_secs_f64());
    }
}

/// A program that the server waits for goes on when the server is killed.
fn try_programs(world: &mut World) {
    world.clean();
    let before = world.now();
    for ms in [20, 60, 120, 250, 400] {
        let api = world.scion.api().clone();
        let making =
            std::thread::spawn(move || api.post("/projects", json!({"project": {"name": "cut short"}})));
        std::thread::sleep(Duration::from_millis(ms));
        world.scion.kill_serve();
        assert!(making.join().unwrap().is_err(), "the server was killed too late");
        world.scion.relaunch();
        world.settled(&[&before], &format!("create a project, killed after {ms} ms"));
    }
}

/// Brings everything to where it is due, and starts a server that is to be killed at that step; whether it was.
fn killed_at(world: &mut World, it: &ByItself, step: usize) -> bool {
    world.clean();
    (it.prepare)(world);
    world.now();
    world.scion.kill_serve();
    (it.due)(world);
    world.scion.relaunch_with(("SCION_KILL_AT", format!("{}={step}", it.thread)));
    let (began, mut done_at) = (Instant::now(), None);
    let metadata = world.metadata();
    while !world.scion.has_ended() {
        if done_at.is_none() && is_done(&metadata, it.done) {
            done_at = Some(Instant::now());
        }
        if done_at.is_some_and(|at: Instant| at.elapsed() > KILLED_AFTER) {
            return false;
        }
        assert!(began.elapsed() < DONE_WITHIN, "{}: neither done nor killed at step {step}", it.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn is_done(metadata: &Connection, sql: &str) -> bool {
    metadata.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn try_thread(world: &mut World, it: &ByItself) -> usize {
    assert!(!killed_at(world, it, 0));
    let after = world.now();
    for step in 1..=STEPS_MAX {
        if !killed_at(world, it, step) {
            world.settled(&[&after], it.name);
            return step - 1;
        }
        world.scion.relaunch();
        // It is still due, or was done.
        world.settled(&[&after], &format!("{}, {}", it.name, world.last_kill()));
    }
    panic!("{} has more than {STEPS_MAX} steps", it.name);
}

/// Kills the server at a step of an operation, and the next one at every step of what that does about it.
fn try_recovery(world: &mut World, name: &str, at: &str) -> usize {
    let operation = BRANCHES.iter().chain(OTHERS).find(|it| it.name == name).unwrap();
    let undisturbed = undisturbed(world, operation);
    let step =
        world.steps().into_iter().rfind(|line| line.starts_with("passed request") && line.ends_with(at));
    let step = step.unwrap_or_else(|| panic!("{name} never comes to where {at}"));
    let step = step.split_once(": ").unwrap().0.rsplit(' ').next().unwrap().parse().unwrap();
    for recovered in 1..=STEPS_MAX {
        let request = prepared(world, operation);
        assert!(ask(world, &request, Some(step)).is_none());
        world.scion.wait_for_its_end(DONE_WITHIN);
        let serves = world.scion.relaunch_with(("SCION_KILL_AT", format!("recover={recovered}")));
        if !serves {
            world.scion.relaunch();
        }
        let when = format!("{name}, killed where {at}, and again at step {recovered} of the next start");
        world.settled(&[&undisturbed.before, &undisturbed.after], &when);
        if serves {
            return recovered - 1;
        }
    }
    panic!("a start has more than {STEPS_MAX} steps");
}
