//! What one endpoint does, or does not, holds up no other.
//!
//! The processes are none of scion's: one that was stopped is a socket that nobody accepts on, one that starts for ever is
//! a script.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use store::ClusterImport;

use super::*;
use crate::error::Kind;
use crate::fleet::endpoints::{remove_endpoint_files, start_endpoint};
use crate::fleet::queue::Queue;
use crate::limits::{PermitLimits, RECONCILED_AT_ONCE, RECONCILED_OF_PROJECT, STARTS};
use crate::machine::permits::Permits;
use crate::machine::postgres::Owner;
use crate::metadata::tests::{branch_row, endpoint_row, project_row};
use crate::metadata::{branch, project};

/// Longer than anything here takes that does not hang.
const SOON: Duration = Duration::from_secs(60);

/// A server with a project that has a branch and an endpoint for each of `ids`, all of which are to run.
fn fleet(dir: &tempfile::TempDir, ids: &[&str]) -> Fleet {
    let fleet = crate::fleet::tests::fleet(dir);
    let write = fleet.metadata.write(|change| {
        project::put(change, &project_row("p", project::READY))?;
        for (port, id) in (40_000..).zip(ids) {
            let branch = format!("br-{id}");
            branch::insert(change, &branch_row(&branch, id))?;
            endpoint::insert(change, &endpoint_row(id, &branch, port))?;
        }
        Ok(())
    });
    write.unwrap();
    fleet
}

/// The socket of an endpoint, as its process has it.
fn socket(fleet: &Fleet, id: &str) -> UnixListener {
    let dir = fleet.dir.endpoint(id);
    fs::create_dir_all(&dir).unwrap();
    UnixListener::bind(compute::control_socket(&dir)).unwrap()
}

/// Waits for the next who asks.
fn asked(socket: &UnixListener) -> UnixStream {
    let (stream, _) = socket.accept().unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    stream
}

/// Whether who asked still waits for the answer.
fn waits(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// An endpoint that says that it is ending, for as often as it is asked; says each time that it was.
fn ending(socket: UnixListener) -> mpsc::Receiver<()> {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let mut stream = asked(&socket);
            let _ = say.send(());
            let status = r#"{"status":{"state":"stopping","reason":null,"postgres_pid":null,"compute_pid":1,"port":1,
                "timeline":null,"start_lsn":null,"shipped_lsn":null,"restarts":0,"overlay_bytes":0,
                "phases":{"tail":0,"state":0,"datadir":0,"mount":0,"postgres_start":0,"total":0}}}"#;
            let _ = stream.write_all(format!("{}\n", status.replace('\n', " ")).as_bytes());
        }
    });
    said
}

#[test]
fn a_process_that_does_not_answer_delays_no_look_at_another() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Arc::new(fleet(&dir, &["ep-silent", "ep-other"]));
    let silent = socket(&fleet, "ep-silent");
    let other = ending(socket(&fleet, "ep-other"));
    let first = Arc::clone(&fleet);
    let passing = std::thread::spawn(move || pass(&first));
    let mut stream = asked(&silent);
    other.recv_timeout(SOON).unwrap();
    assert!(waits(&mut stream), "the other one was looked at only when the silent one had been given up");
    passing.join().unwrap();
    assert!(!waits(&mut stream));

    // From then on no pass waits for it.
    pass(&fleet);
    other.recv_timeout(SOON).unwrap();
    let mut stream = asked(&silent);
    assert!(waits(&mut stream), "the pass waited for the silent one");
    // Nor are there more and more looks at it.
    pass(&fleet);
    other.recv_timeout(SOON).unwrap();
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_err());
    assert!(waits(&mut stream));
}

/// A program that is started for an endpoint, says so in `dir`, and never gets ready.
fn never_ready(dir: &Path) -> std::path::PathBuf {
    let program = dir.join("never-ready");
    let started = dir.join("started");
    fs::create_dir(&started).unwrap();
    let never = dir.join("never");
    assert!(std::process::Command::new("mkfifo").arg(&never).status().unwrap().success());
    // No other program: what is killed is what was started.
    let script = format!("#!/bin/sh\n: >{}/$$\nread -r _ <{}\n", started.display(), never.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Ends what was started for endpoints, whatever becomes of the test.
struct Started<'a>(&'a Fleet, &'a [&'a str]);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.0.life.closing.store(true, Ordering::Release);
        self.1.iter().for_each(|id| drop(remove_endpoint_files(self.0, id)));
    }
}

#[test]
fn not_all_start_at_once_and_what_is_asked_for_does_not_wait_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let ids: Vec<String> = (0..RECONCILED_OF_PROJECT + 3).map(|number| format!("ep-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut fleet = fleet(&dir, &ids);
    fleet.launch.compute_exe = never_ready(dir.path());
    let major = *fleet.postgres.installed.by_major.keys().next().unwrap();
    let data_dir = dir.path().join("cluster");
    let owner = Owner { role: "o", verifier: "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", database: "d" };
    fleet.postgres.make_cluster(major, &data_dir, &owner).unwrap();
    let import = ClusterImport { data_dir, root: "br-a-a-a".parse().unwrap() };
    let store =
        store::Project::create_with(&fleet.dir.project("p"), &import, fleet.storage.options.clone()).unwrap();
    fleet.storage.put("p", store);
    let fleet = Arc::new(fleet);
    let all = Started(&fleet, &ids);

    let started = || fs::read_dir(dir.path().join("started")).unwrap().count();
    let until = |count: usize| {
        let began = Instant::now();
        while started() < count && began.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(5));
        }
        started()
    };
    pass(&fleet);
    assert_eq!(until(RECONCILED_OF_PROJECT), RECONCILED_OF_PROJECT);
    pass(&fleet);
    assert_eq!(fleet.queue.waiting().len(), 3, "each waits once, however often it is looked at");
    assert_eq!(fleet.queue.working("p"), RECONCILED_OF_PROJECT);

    // The last in the queue is asked for by a request, while none of the others gets ready.
    let last = fleet.queue.waiting().pop().unwrap();
    let (own, row) = (Arc::clone(&fleet), last.clone());
    let request = std::thread::spawn(move || start_endpoint(&own, &row));
    assert_eq!(until(RECONCILED_OF_PROJECT + 1), RECONCILED_OF_PROJECT + 1);
    assert!(fleet.dir.endpoint(&last.id).join("spec.json").exists());
    assert_eq!(fleet.queue.waiting().len(), 3, "the queue has not moved");

    // One that ends, whatever it ends as, makes room for the next.
    drop(all);
    assert_eq!(request.join().unwrap().unwrap_err().kind, Kind::Unavailable);
    let began = Instant::now();
    while fleet.queue.working("p") > 0 && began.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fleet.queue.waiting().is_empty());
}

#[test]
fn a_project_whose_starts_hang_leaves_room_for_others() {
    let queue = Queue::default();
    let add = |id: &str, project: &str| {
        let row = EndpointRow { project_id: project.to_owned(), ..endpoint_row(id, "b", 1) };
        queue.add(Due { row, action: Action::Start, seen: Seen::Dead });
    };
    (0..=RECONCILED_OF_PROJECT).for_each(|number| add(&format!("p{number}"), "p"));
    (0..=RECONCILED_AT_ONCE).for_each(|number| add(&format!("q{number}"), "q"));
    let taken: Vec<String> = std::iter::from_fn(|| queue.next()).map(|due| due.row.id).collect();
    assert_eq!(taken.len(), RECONCILED_AT_ONCE);
    assert_eq!(
        taken[..RECONCILED_OF_PROJECT].iter().filter(|id| id.starts_with('p')).count(),
        RECONCILED_OF_PROJECT
    );
    assert!(taken[RECONCILED_OF_PROJECT..].iter().all(|id| id.starts_with('q')));
    queue.done("q");
    assert_eq!(queue.next().unwrap().row.project_id, "q", "the project before is still full");
    queue.done("p");
    assert_eq!(queue.next().unwrap().row.id, format!("p{RECONCILED_OF_PROJECT}"));
}

#[test]
fn a_start_waits_for_a_place_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(&dir, &["ep-1"]);
    let wait_within = Duration::from_millis(20);
    fleet.starts = Permits::new(PermitLimits { at_once: 1, of_project: 1, wait_within, ..STARTS });
    let row = fleet.metadata.read(|connection| endpoint::get(connection, "p", "ep-1")).unwrap();
    let held = fleet.starts.take("q", 1).unwrap();
    let error = start_endpoint(&fleet, &row).unwrap_err();
    assert!(error.is_crowded() && error.message.contains("the start of an endpoint"), "{error}");
    drop(held);
    // It has a place now, and no store.
    assert!(!start_endpoint(&fleet, &row).unwrap_err().is_crowded());
    assert!(fleet.starts.take("q", 1).is_ok(), "a start that failed keeps its place");
}
