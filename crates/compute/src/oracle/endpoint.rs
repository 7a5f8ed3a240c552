//! Whole endpoints: mounted, running a real Postgres, over the files of a stopped cluster.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use types::{Lsn, TimelineId};
use wal::segment::segment_name;

use super::cluster::{Cluster, DIGEST, Running, SEGMENT_BYTES, pg, pg_bin, postgres_user, psql, temp_dir};
use super::service::{Switches, serve};
use crate::control::{Answer, Command, State, Status, ask};
use crate::limits;
use crate::postgres::lock;
use crate::shipping::synced;
use crate::{EndpointSpec, Error};

/// Carries the spec to `endpoint_process`.
const SPEC_VARIABLE: &str = "SCION_TEST_SPEC";
/// The limit in processes of their own; far above what their other tests write.
const UNSHIPPED_WAL_MB: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(60);

struct Endpoint {
    cluster: Cluster,
    switches: Arc<Switches>,
    spec: EndpointSpec,
    thread: Option<JoinHandle<Result<ExitCode, Error>>>,
}

impl Endpoint {
    /// An endpoint on a thread of this process.
    fn start(cluster: Cluster, port: u16) -> Self {
        let mut endpoint = Self::new(cluster, port);
        let run = endpoint.spec.clone();
        endpoint.thread = Some(std::thread::spawn(move || crate::run(run)));
        endpoint.wait_for_socket();
        endpoint
    }

    fn new(cluster: Cluster, port: u16) -> Self {
        let switches = Arc::new(Switches::default());
        let spec = EndpointSpec {
            project: "test".to_owned(),
            branch: "br-test".to_owned(),
            endpoint: "ep-test".to_owned(),
            dir: cluster.root.join("ep"),
            serve_socket: cluster.root.join("serve.sock"),
            pg_bin: pg_bin(),
            port,
            run_as: Some(postgres_user()),
            reaches: Vec::new(),
            owner_extensions: Vec::new(),
            superuser: "postgres".to_owned(),
            admission: crate::Admission::Everybody,
            passwords: crate::Passwords::default(),
            tls: None,
            read_only: false,
            logical: false,
            settings: [("fsync".to_owned(), "off".to_owned())].into(),
        };
        serve(&spec.serve_socket, cluster.clone(), Arc::clone(&switches));
        Self { cluster, switches, spec, thread: None }
    }

    /// The endpoint as a process of its own: this test binary, running nothing but `endpoint_process`.
    fn spawn(&self) -> Child {
        let _ = std::fs::remove_file(self.spec.control_socket());
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "oracle::endpoint::endpoint_process", "--ignored", "--test-threads=1"]);
        command.env(SPEC_VARIABLE, serde_json::to_string(&self.spec).unwrap());
        command.env("SCION_UNSHIPPED_WAL_MB", UNSHIPPED_WAL_MB.to_string());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        self.wait_for_socket();
        child
    }

    fn wait_for_socket(&self) {
        // It is there a moment before anybody listens.
        until("the control socket", || UnixStream::connect(self.spec.control_socket()).is_ok());
    }

    fn status(&self, command: Command) -> Status {
        match ask(&self.spec.control_socket(), command, PATIENCE).unwrap() {
            Answer::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn sql(&self, sql: &str) -> String {
        psql(&self.spec.socket_dir(), self.spec.port, sql)
    }

    fn flush_lsn(&self) -> Lsn {
        match ask(&self.spec.control_socket(), Command::FlushLsn, PATIENCE).unwrap() {
            Answer::FlushLsn(lsn) => lsn.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// WAL of the endpoint's timeline as Postgres has it on disk, from its start up to `end`.
    fn local_wal(&self, end: Lsn) -> Vec<u8> {
        let start = self.cluster.state().lsn;
        let timeline = *self.switches.timelines.lock().last().unwrap();
        let mut out = Vec::new();
        for segment in start.segment(SEGMENT_BYTES)..=end.segment(SEGMENT_BYTES) {
            let path = self.spec.wal_dir().join(segment_name(timeline, segment, SEGMENT_BYTES));
            out.extend(std::fs::read(path).unwrap());
        }
        let skip = start.offset_in_segment(SEGMENT_BYTES) as usize;
        let len = end.bytes_since(start).unwrap() as usize;
        out[skip..skip + len].to_vec()
    }

    /// Whether the process function has returned; its result.
    fn join(&mut self) -> ExitCode {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Endpoint {
    /// Leaves nothing running when a test fails in the middle.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.switches.away.store(false, Ordering::SeqCst);
            let _ = ask(&self.spec.control_socket(), Command::Stop, PATIENCE);
            let _ = thread.join();
        }
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Rule 6 of the crate's README.
#[test]
fn an_endpoint_runs_on_the_store_and_ships_all_its_wal() {
    let (_dir, cluster) = Cluster::stopped(5721);
    let mut endpoint = Endpoint::start(cluster.clone(), 5722);
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);

    assert_eq!(endpoint.sql("select count(*) from pgbench_accounts"), "100000");
    assert_eq!(endpoint.sql("select count(*) from moved"), "5000");
    assert_eq!(endpoint.sql("select count(*) from forgotten"), "0");
    endpoint.sql("commit prepared 'later'");
    assert_eq!(endpoint.sql("select g from pending"), "7");
    let port = endpoint.spec.port.to_string();
    let sockets = endpoint.spec.socket_dir();
    let to = ["-h", sockets.to_str().unwrap(), "-p", &port, "-U", "postgres", "postgres"];
    pg("pgbench", &[&["-n", "-c", "4", "-t", "500"][..], &to].concat());
    endpoint
        .sql("create table big as select g, repeat('x', 500) from generate_series(1, 40000) g; checkpoint");
    let digest = endpoint.sql(DIGEST);

    let flushed = endpoint.flush_lsn();
    assert!(
        flushed.bytes_since(cluster.state().lsn).unwrap() > SEGMENT_BYTES,
        "more than one segment was written"
    );
    until("WAL is shipped", || {
        endpoint.status(Command::Status).shipped_lsn.unwrap().parse::<Lsn>().unwrap() >= flushed
    });
    let local = endpoint.local_wal(flushed);
    assert!(endpoint.switches.wal.lock()[..local.len()] == local, "shipped WAL differs");
    assert!(!digest.is_empty());

    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
    for gone in [endpoint.spec.wal_dir(), endpoint.spec.mount_dir(), endpoint.spec.socket_dir()] {
        assert!(!gone.exists(), "{} is left", gone.display());
    }
    check_shutdown_checkpoint(&endpoint);
    check_log(&endpoint);
    drop(endpoint);
    let server = Running::start(&cluster.data, 5721);
    assert_ne!(server.sql(DIGEST), digest, "the endpoint must not write into the store's files");
}

/// The last record the service holds is a shutdown checkpoint.
fn check_shutdown_checkpoint(endpoint: &Endpoint) {
    let start = endpoint.cluster.state().lsn;
    let timeline = *endpoint.switches.timelines.lock().last().unwrap();
    let mut all = endpoint.cluster.segment_prefix(start);
    all.extend_from_slice(&endpoint.switches.wal.lock());
    let first = start.segment(SEGMENT_BYTES);
    let dir = temp_dir();
    for (segment, bytes) in (first..).zip(all.chunks(SEGMENT_BYTES as usize)) {
        let mut bytes = bytes.to_vec();
        bytes.resize(SEGMENT_BYTES as usize, 0);
        let path = dir.path().join(segment_name(timeline, segment, SEGMENT_BYTES));
        std::fs::write(&path, bytes).unwrap();
        // An endpoint on a thread of this process has let its files be read by nobody else.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let end = start.advanced(endpoint.switches.wal.lock().len() as u64);
    let (timeline, from, end) = (timeline.get().to_string(), start.to_string(), end.to_string());
    let directory = dir.path().to_str().unwrap();
    let text = pg("pg_waldump", &["-p", directory, "-t", &timeline, "-s", &from, "-e", &end]);
    let last = text.lines().last().unwrap();
    assert!(last.contains("CHECKPOINT_SHUTDOWN"), "{last}");
}

/// Postgres had nothing to complain about: neither our probes nor our commands fail.
fn check_log(endpoint: &Endpoint) {
    let log = std::fs::read_to_string(endpoint.spec.postgres_log()).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
    for complaint in [" WARNING: ", " ERROR: ", " FATAL: ", " PANIC: "] {
        assert!(!log.contains(complaint), "{log}");
    }
}

/// Rule 9 of the crate's README.
/// Rule 4 of the crate's README.
#[test]
fn writes_wait_when_too_much_wal_waits_for_the_store_and_go_on_when_it_is_back() {
    let (_dir, cluster) = Cluster::stopped(5831);
    let endpoint = Endpoint::new(cluster, 5832);
    let mut compute = endpoint.spawn();
    assert_eq!(endpoint.status(Command::WaitReady).state, State::Running);
    endpoint.sql("create table big(v text)");
    let shipped = || endpoint.switches.wal.lock().len() as u64;
    until("the first WAL", || shipped() > 0);
    endpoint.switches.away.store(true, Ordering::SeqCst);
    let writer = std::thread::spawn({
        let (sockets, port) = (endpoint.spec.socket_dir(), endpoint.spec.port);
        move || {
            for _ in 0..100 {
                // What waits is looked at once a second: at full speed all would be written by then.
                psql(
                    &sockets,
                    port,
                    "insert into big select repeat('x', 2000) from generate_series(1, 1000); select pg_sleep(0.05)",
                );
            }
        }
    });
    let reason = || endpoint.status(Command::Status).reason.unwrap_or_default();
    until("a warning", || reason().contains("writes wait until") || reason().contains("writes wait:"));
    until("writes to be held", || reason().contains("writes wait:"));
    let mut last = None;
    until("no more to be written", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = Some(endpoint.flush_lsn());
        std::mem::replace(&mut last, now) == now
    });
    let start = endpoint.cluster.state().lsn;
    let waits = last.unwrap().bytes_since(start).unwrap() - shipped();
    assert!((UNSHIPPED_WAL_MB << 20..200 << 20).contains(&waits), "{waits} bytes wait");
    assert!(!writer.is_finished());
    assert_eq!(endpoint.sql("select count(*) from moved"), "5000", "who only reads goes on");
    assert_eq!(endpoint.status(Command::Status).restarts, 0);
    let kept_from = || -> Lsn {
        endpoint
            .sql("select restart_lsn from pg_replication_slots where slot_name = 'scion'")
            .parse()
            .unwrap()
    };
    let kept = kept_from();
    assert!(
        kept <= start.advanced(shipped()),
        "WAL is kept from {kept} only, and {} bytes are shipped",
        shipped()
    );

    endpoint.switches.away.store(false, Ordering::SeqCst);
    writer.join().unwrap();
    until("the slot to follow the store", || kept_from() > kept);
    assert_eq!(endpoint.sql("select count(*) from big"), "100000");
    until("nothing to be said any more", || !reason().contains("writes"));
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(compute.wait().unwrap().code(), Some(0));
    check_shutdown_checkpoint(&endpoint);
    check_log(&endpoint);
}

/// The members of 300 million row locks: more than fits in any one message.
#[test]
fn an_endpoint_starts_however_large_its_slrus_are_and_reads_of_them_what_it_needs() {
    let (_dir, cluster) = Cluster::stopped(5821);
    let members = cluster.data.join("pg_multixact/members");
    for segment in 1..4600 {
        let file = std::fs::File::create(members.join(format!("{segment:04X}"))).unwrap();
        file.set_len(32 * 8192).unwrap();
    }
    let mut endpoint = Endpoint::start(cluster, 5822);
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    assert!(status.overlay_bytes < 64 << 20, "{} bytes were copied", status.overlay_bytes);
    assert_eq!(endpoint.sql("select count(*) from pgbench_accounts"), "100000");
    let (mount, data) = (endpoint.spec.mount_dir(), &endpoint.cluster.data);
    for name in ["pg_xact/0000", "pg_multixact/offsets/0000", "pg_multixact/members/11F7"] {
        let ours = std::fs::read(mount.join(name)).unwrap();
        // What was written since is the last page of the transactions.
        let theirs = std::fs::read(data.join(name)).unwrap();
        let same = ours.len().min(theirs.len()) - usize::from(name.starts_with("pg_xact")) * 8192;
        assert!(ours[..same] == theirs[..same], "{name} differs");
    }
    assert_eq!(std::fs::read_dir(mount.join("pg_multixact/members")).unwrap().count(), 4600);
    endpoint.sql("commit prepared 'later'");
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
}

/// Rule 8 of the crate's README.
#[test]
fn nobody_can_connect_before_what_a_commit_relies_on_is_durable() {
    let (_dir, cluster) = Cluster::stopped(5791);
    synced::hold::set(true);
    let mut endpoint = Endpoint::start(cluster, 5792);
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        assert_eq!(endpoint.status(Command::Status).state, State::Starting);
        assert!(TcpStream::connect(("127.0.0.1", endpoint.spec.port)).is_err(), "it takes connections");
        std::thread::sleep(Duration::from_millis(20));
    }
    synced::hold::set(false);
    assert_eq!(endpoint.status(Command::WaitReady).state, State::Running);
    assert_eq!(endpoint.sql("select count(*) from moved"), "5000");
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
}

#[test]
fn a_page_the_store_refuses_is_an_io_error_and_the_status_says_why() {
    let (_dir, cluster) = Cluster::stopped(5781);
    let mut endpoint = Endpoint::start(cluster, 5782);
    let status = endpoint.status(Command::WaitReady);
    assert_eq!((status.state, status.last_read_error), (State::Running, None));
    let file = endpoint.sql("select pg_relation_filenode('moved')");
    endpoint.switches.refused.store(file.parse().unwrap(), Ordering::SeqCst);

    let code = endpoint.sql(
        "do $$ begin perform count(*) from moved;
         exception when others then perform set_config('test.code', sqlstate, false); end $$;
         select current_setting('test.code')",
    );
    assert_eq!(code, "58030");
    let open = || UnixStream::connect(endpoint.spec.control_socket()).unwrap();
    let idle: Vec<_> = (0..limits::CONTROL_CONNECTIONS).map(|_| open()).collect();
    let refused = ask(&endpoint.spec.control_socket(), Command::Status, PATIENCE);
    assert!(matches!(refused, Ok(Answer::Error(_))), "{refused:?}");
    drop(idle);
    until("a connection to be free", || {
        matches!(ask(&endpoint.spec.control_socket(), Command::Status, PATIENCE), Ok(Answer::Status(_)))
    });
    let said = endpoint.status(Command::Status).last_read_error.unwrap();
    assert!(said.contains(&format!("/{file} block 0")) && said.contains("layer 7 is corrupt"), "{said}");
    assert!(endpoint.status(Command::Status).failed_reads.texts.contains(&said));

    endpoint.switches.refused.store(0, Ordering::SeqCst);
    assert_eq!(endpoint.sql("select count(*) from moved"), "5000");
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
}

#[test]
fn a_dropped_slot_is_made_again_and_wal_goes_on() {
    let (_dir, cluster) = Cluster::stopped(5771);
    let mut endpoint = Endpoint::start(cluster, 5772);
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    let slots = "select count(*) from pg_replication_slots where slot_name = 'scion' and active";
    until("the stream begins", || endpoint.sql(slots) == "1");
    endpoint.sql(
        "do $$ begin
            loop
                perform pg_terminate_backend(active_pid) from pg_replication_slots;
                begin
                    perform pg_drop_replication_slot('scion');
                    return;
                exception when object_in_use then null;
                end;
            end loop;
        end $$",
    );
    until("the stream is back", || endpoint.sql(slots) == "1");
    endpoint.sql("create table after_the_drop()");
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
    check_shutdown_checkpoint(&endpoint);
}

/// Rule 1 of the crate's README.
/// Rule 2 of the crate's README.
#[test]
fn wal_that_never_reached_the_store_is_shipped_after_a_crash() {
    let (_dir, cluster) = Cluster::stopped(5731);
    let mut endpoint = Endpoint::start(cluster, 5732);
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    until("the first WAL", || !endpoint.switches.wal.lock().is_empty());
    endpoint.switches.away.store(true, Ordering::SeqCst);
    endpoint.sql("create table late as select g from generate_series(1, 1000) g");
    let flushed = endpoint.flush_lsn();
    let local = endpoint.local_wal(flushed);

    let postmaster = status.postgres_pid.unwrap();
    // SAFETY: the postmaster is a child of this process that nobody has collected.
    unsafe { libc::kill(postmaster as i32, libc::SIGKILL) };
    until("the crash is seen", || endpoint.status(Command::Status).state == State::Starting);
    assert_eq!(endpoint.status(Command::Status).postgres_pid, None);
    endpoint.switches.away.store(false, Ordering::SeqCst);

    // The service of this test cannot apply WAL, so the second start must fail, and say why.
    assert_eq!(endpoint.join(), ExitCode::FAILURE);
    let last: Status =
        serde_json::from_slice(&std::fs::read(endpoint.spec.dir.join("status.json")).unwrap()).unwrap();
    assert!(last.reason.unwrap().contains("cannot apply WAL"));
    assert_eq!(last.restarts, 1);
    let wal = endpoint.switches.wal.lock();
    assert!(wal.len() >= local.len() && wal[..local.len()] == local, "WAL of the tail differs");
    assert!(!endpoint.spec.wal_dir().exists(), "a shipped tail is removed");
}

/// Not a test of its own: the process that other tests start and kill.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn endpoint_process() {
    let Ok(spec) = std::env::var(SPEC_VARIABLE) else { return };
    let code = crate::run(serde_json::from_str(&spec).unwrap()).unwrap();
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: callers pass processes that they have started and not collected.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Rule 1 of the crate's README.
/// Rule 2 of the crate's README.
/// Rule 3 of the crate's README.
#[test]
fn postgres_dies_with_its_compute_process_and_the_next_start_ships_what_it_left() {
    let (_dir, cluster) = Cluster::stopped(5741);
    let endpoint = Endpoint::new(cluster, 5742);
    let mut compute = endpoint.spawn();
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    assert_eq!(status.compute_pid, compute.id());
    until("the first WAL", || !endpoint.switches.wal.lock().is_empty());
    endpoint.switches.away.store(true, Ordering::SeqCst);
    endpoint.sql("create table late as select g from generate_series(1, 1000) g");
    let flushed = endpoint.flush_lsn();
    let local = endpoint.local_wal(flushed);
    signal(compute.id(), libc::SIGKILL);
    compute.wait().unwrap();
    until("postgres has died", || !is_running(status.postgres_pid.unwrap()));

    endpoint.switches.away.store(false, Ordering::SeqCst);
    let mut compute = endpoint.spawn();
    assert_eq!(compute.wait().unwrap().code(), Some(1), "the service of this test cannot apply WAL");
    let wal = endpoint.switches.wal.lock();
    assert!(wal.len() >= local.len() && wal[..local.len()] == local, "WAL of the tail differs");
    assert!(*endpoint.switches.tail_bytes.lock() > 0);
    let left: Vec<_> =
        std::fs::read_dir(endpoint.spec.mount_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left in the mount directory: {left:?}");
    assert!(!endpoint.spec.wal_dir().exists(), "a shipped tail is removed");
}

/// Rule 2 of the crate's README.
#[test]
fn wal_that_the_branch_went_on_without_is_set_aside() {
    let (_dir, cluster) = Cluster::stopped(5841);
    let endpoint = Endpoint::new(cluster, 5842);
    let mut compute = endpoint.spawn();
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    endpoint.switches.away.store(true, Ordering::SeqCst);
    endpoint.sql("create table late as select g from generate_series(1, 1000) g");
    let start = endpoint.cluster.state().lsn;
    let flushed = endpoint.flush_lsn();
    let (local, timeline) =
        (endpoint.local_wal(flushed), *endpoint.switches.timelines.lock().last().unwrap());
    signal(compute.id(), libc::SIGKILL);
    compute.wait().unwrap();
    until("postgres has died", || !is_running(status.postgres_pid.unwrap()));

    // Another endpoint began a timeline on the same head; of this one's WAL the branch has nothing.
    endpoint.switches.wal.lock().clear();
    endpoint.switches.timelines.lock().push(TimelineId::new(timeline.get() + 1));
    endpoint.switches.away.store(false, Ordering::SeqCst);
    let mut compute = endpoint.spawn();
    let status = endpoint.status(Command::WaitReady);
    assert_eq!(status.state, State::Running, "{:?}", status.reason);
    assert_eq!(*endpoint.switches.tail_bytes.lock(), 0);
    let aside = endpoint.spec.dir.join("pg_wal.superseded");
    let name = segment_name(timeline, start.segment(SEGMENT_BYTES), SEGMENT_BYTES);
    let kept = std::fs::read(aside.join(name)).unwrap();
    let from = start.offset_in_segment(SEGMENT_BYTES) as usize;
    assert!(kept[from..].starts_with(&local), "WAL that was set aside differs");
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(compute.wait().unwrap().code(), Some(0));
    assert!(aside.exists() && !endpoint.spec.wal_dir().exists());
}

/// Rule 3 of the crate's README.
#[test]
fn a_start_waits_for_the_last_process_of_the_server_before() {
    let (_dir, cluster) = Cluster::stopped(5851);
    let mut endpoint = Endpoint::new(cluster, 5852);
    std::fs::create_dir_all(&endpoint.spec.dir).unwrap();
    let earlier = lock::lock_when_free(&lock::lock_path(&endpoint.spec.dir)).unwrap();
    let run = endpoint.spec.clone();
    endpoint.thread = Some(std::thread::spawn(move || crate::run(run)));
    endpoint.wait_for_socket();
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert_eq!(endpoint.status(Command::Status).state, State::Starting);
        assert!(endpoint.switches.timelines.lock().is_empty(), "it fences whoever may still write");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(earlier);
    assert_eq!(endpoint.status(Command::WaitReady).state, State::Running);
    assert_eq!(endpoint.status(Command::Stop).state, State::Stopped);
    assert_eq!(endpoint.join(), ExitCode::SUCCESS);
}

#[test]
fn sigterm_is_a_clean_stop_and_a_second_process_is_refused() {
    let (_dir, cluster) = Cluster::stopped(5751);
    let endpoint = Endpoint::new(cluster, 5752);
    let mut compute = endpoint.spawn();
    assert_eq!(endpoint.status(Command::WaitReady).state, State::Running);
    let second = crate::run(endpoint.spec.clone()).unwrap_err();
    assert!(second.to_string().contains("already has a process"), "{second}");
    endpoint.sql("create table t()");
    signal(compute.id(), libc::SIGTERM);
    assert_eq!(compute.wait().unwrap().code(), Some(0));
    assert!(!endpoint.spec.wal_dir().exists());
    check_shutdown_checkpoint(&endpoint);
}

/// Rule 6 of the crate's README.
#[test]
fn a_server_that_does_not_start_is_reported_with_its_log() {
    let (_dir, cluster) = Cluster::stopped(5761);
    let mut endpoint = Endpoint::new(cluster, 5762);
    endpoint.spec.settings.insert("shared_buffers".to_owned(), "no size".to_owned());
    let run = endpoint.spec.clone();
    endpoint.thread = Some(std::thread::spawn(move || crate::run(run)));
    endpoint.wait_for_socket();
    assert_eq!(endpoint.join(), ExitCode::FAILURE);
    let last: Status =
        serde_json::from_slice(&std::fs::read(endpoint.spec.dir.join("status.json")).unwrap()).unwrap();
    let reason = last.reason.unwrap();
    assert!(last.state == State::Failed && reason.contains("shared_buffers"), "{reason}");
}
