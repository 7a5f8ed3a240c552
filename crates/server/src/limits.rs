//! Every bound of the server, in one place: how much of something there may be at once, and how long anything may take.
//!
//! What must hold: whatever grows with what clients do has a bound here, and whoever reaches it gets an answer that says
//! so. Bounds of the store are in the store, those of an endpoint in `compute`.

use std::time::Duration;

/// How long requests and loops under way may take to end once the server does.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Fewer open files than this limit how many endpoints and projects can be used at once.
pub const OPEN_FILES_WANTED: u64 = 4096;

/// Bounds of one kind of requests.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// What they do: "that read".
    pub what: &'static str,
    /// At work at once: each has a thread.
    pub at_once: usize,
    /// Of these, for one project.
    pub of_project: usize,
    /// Waiting for a place; more are told to come again.
    pub waiting: usize,
    /// Of these, for one project.
    pub waiting_of_project: usize,
    /// How long one waits.
    pub wait_within: Duration,
    /// How long one may take until its client is told that it takes too long.
    pub answer_within: Duration,
}

/// Bounds of all kinds of requests.
#[derive(Clone, Copy, Debug)]
pub struct LanesLimits {
    /// Answered from rows and the store.
    pub read: LaneLimits,
    /// Changes.
    pub change: LaneLimits,
    /// Of a Postgres, which may have to be started.
    pub ask: LaneLimits,
    /// `GET /status`.
    pub status: LaneLimits,
    /// `POST /shutdown`.
    pub shutdown: LaneLimits,
}

/// Bounds of all kinds of requests.
pub const SERVER_LANES: LanesLimits = LanesLimits {
    read: LaneLimits {
        what: "that read",
        at_once: 64,
        of_project: 24,
        waiting: 256,
        waiting_of_project: 128,
        wait_within: Duration::from_secs(10),
        answer_within: Duration::from_secs(60),
    },
    change: LaneLimits {
        what: "that change something",
        at_once: 96,
        of_project: 64,
        waiting: 256,
        waiting_of_project: 128,
        wait_within: Duration::from_secs(60),
        answer_within: CHANGE_WITHIN,
    },
    ask: LaneLimits {
        what: "that ask a Postgres",
        at_once: 24,
        of_project: 8,
        waiting: 128,
        waiting_of_project: 48,
        wait_within: Duration::from_secs(30),
        answer_within: CHANGE_WITHIN,
    },
    status: LaneLimits {
        what: "for the status",
        at_once: 8,
        of_project: 8,
        waiting: 32,
        waiting_of_project: 32,
        wait_within: Duration::from_secs(10),
        answer_within: Duration::from_secs(60),
    },
    shutdown: LaneLimits {
        what: "to shut down",
        at_once: 2,
        of_project: 2,
        waiting: 8,
        waiting_of_project: 8,
        wait_within: Duration::from_secs(10),
        answer_within: CHANGE_WITHIN,
    },
};

/// Threads for all of them, and a few for the runtime itself.
pub const REQUEST_THREADS: usize = SERVER_LANES.read.at_once
    + SERVER_LANES.change.at_once
    + SERVER_LANES.ask.at_once
    + SERVER_LANES.status.at_once
    + SERVER_LANES.shutdown.at_once
    + 8;
/// The longest answer: an endpoint waits for its turn, is stopped and is started, each with a limit of its own.
pub const CHANGE_WITHIN: Duration = Duration::from_secs(900);
/// How long a thread of a request without work is kept. Long, so that there is one when the system has no more.
pub const IDLE_THREADS_KEPT: Duration = Duration::from_secs(3600);

/// Connections to the API at once. New ones take the place of those that ask for nothing.
pub const CONNECTIONS: usize = 768;
/// Of these, from one address.
pub const CONNECTIONS_OF_PEER: usize = 640;
/// The part of the descriptors that connections to the API may take: endpoints and stores need the others.
pub const CONNECTIONS_PART: usize = 3;
/// How long a connection may take until its first request is there.
pub const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(15);
/// How long a connection may take with the head of a request, the pause since the last one included.
pub const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// Requests at once on one connection of HTTP/2.
pub const HTTP2_STREAMS: u32 = 64;
/// How long the body of a request may take.
pub const BODY_WITHIN: Duration = Duration::from_secs(30);
/// The largest body of a request; none of ours needs a tenth of it.
pub const BODY_BYTES: usize = 1 << 20;

/// Longest time from a whole request to its answer: it waits for a place, and is at work.
pub const ANSWERED_WITHIN: Duration =
    Duration::from_secs(SERVER_LANES.change.wait_within.as_secs() + CHANGE_WITHIN.as_secs());
/// How long the answer to a request with an `Idempotency-Key` is kept, for a client that did not get it.
pub const ANSWERS_KEPT_FOR: Duration = Duration::from_secs(900);
/// Such answers at once; of more, the newest.
pub const ANSWERS_KEPT: usize = 1024;
/// Bytes of all of them, likewise.
pub const ANSWERS_KEPT_BYTES: usize = 16 << 20;
/// The largest that is kept. The request of a larger one, sent again, is done again.
pub const ANSWER_KEPT_BYTES: usize = 1 << 20;

/// How long a program that reads or writes a schema (`pg_dump`, `pg_dumpall`, `psql`) may run unless `--dump-timeout`
/// says otherwise.
pub const DUMP_WITHIN: Duration = Duration::from_secs(300);
/// How long `initdb` may run, and Postgres in single-user mode.
pub const PROGRAM_WITHIN: Duration = Duration::from_secs(300);
/// How long a dump waits for a lock that somebody holds.
pub const DUMP_LOCK_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that such a program may print: the schema of a database fits many times.
pub const PRINTED_BYTES: usize = 256 << 20;
/// How long a store is waited for that is being opened; an opening that takes longer goes on.
pub const STORE_OPENED_WITHIN: Duration = Duration::from_secs(20);
/// How long a store that could not be opened is left alone.
pub const STORE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a request waits for another that makes or removes a branch of the same project.
pub const TREE_WITHIN: Duration = Duration::from_secs(45);
/// Ports that are tried for one endpoint, beside those that rows have: each costs a system call under the lock of the
/// metadata.
pub const PORTS_TRIED: usize = 64;
/// How long operations are kept: 30 days, in microseconds.
pub const OPERATIONS_KEPT_US: i64 = 30 * 86_400 * 1_000_000;
/// Operations of one project that are kept; of more, the newest.
pub const OPERATIONS_OF_PROJECT: usize = 10_000;
/// How often old operations are looked for.
pub const OPERATIONS_PRUNED_EVERY: Duration = Duration::from_secs(600);
/// Branch schedules that run at once.
pub const SCHEDULES_AT_ONCE: usize = 8;
/// Of these, for one project.
pub const SCHEDULES_OF_PROJECT: usize = 2;
/// Endpoints that a shutdown stops, or the deletion of a project, at once.
pub const STOPS_AT_ONCE: usize = 64;
/// How long an endpoint may take to stop cleanly. It waits for the store to take its last WAL.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(300);
/// The same at a shutdown, of an endpoint whose store cannot be opened: it waits in vain.
pub const STOPPED_WITHOUT_STORE_WITHIN: Duration = Duration::from_secs(5);
/// Endpoints that `GET /status` asks at once.
pub const LOOKS_AT_ONCE: usize = 16;
