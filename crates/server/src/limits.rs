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

/// Bounds of what one kind of places is for.
#[derive(Clone, Copy, Debug)]
pub struct PermitLimits {
    /// What they are for: "a start of an endpoint".
    pub what: &'static str,
    /// All there are.
    pub at_once: usize,
    /// Of these, for one project.
    pub of_project: usize,
    /// How long one is waited for; then a request is answered with [`Kind::Unavailable`](crate::error::Kind).
    pub wait_within: Duration,
}

/// Postgres servers that nobody is shown: for the schema or the catalog of a moment, the SQL of a template, a copy of a
/// schema, a trial of settings, a new cluster. Each takes the memory of a Postgres, and most of them a `scion compute`.
pub const HIDDEN_SERVERS: PermitLimits = PermitLimits {
    what: "a hidden Postgres server",
    at_once: 8,
    of_project: 4,
    wait_within: Duration::from_secs(30),
};
/// Endpoints that are being started, hidden ones too.
pub const STARTS: PermitLimits = PermitLimits {
    what: "the start of an endpoint",
    at_once: 24,
    of_project: 16,
    wait_within: Duration::from_secs(30),
};
/// Endpoints that the reconciler starts, stops or removes at once; more wait in the order they were made. Fewer than
/// `STARTS`, so that a start that somebody asks for finds a place while the reconciler starts all there are.
pub const RECONCILED_AT_ONCE: usize = 12;
/// Of these, for one project, so that one whose starts hang holds up no other.
pub const RECONCILED_OF_PROJECT: usize = 8;
const _: () = assert!(RECONCILED_AT_ONCE < STARTS.at_once && RECONCILED_OF_PROJECT < STARTS.of_project);

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
/// A store that nobody asked for so long is closed, once its branches are.
pub const STORE_IDLE: Duration = Duration::from_secs(600);
/// How often such stores are looked for.
pub const STORE_LOOK: Duration = Duration::from_secs(10);
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
/// Endpoints that the reconciler looks at at once, and that `GET /status` asks.
pub const LOOKS_AT_ONCE: usize = 16;

/// How long a request waits for another one that starts or stops the same endpoint; then it is told to try again (`Kind::Busy`).
pub const ENDPOINT_TURN_WITHIN: Duration = Duration::from_secs(45);
/// How long an endpoint may take to accept connections; after an unclean stop it ships WAL first. Then the start has failed
/// (`Kind::Unavailable`), and the process is left to the next look.
pub const READY_WITHIN: Duration = Duration::from_secs(300);
/// How long a start or a stop is waited for until it is asked whether the store has no space for it.
pub const SPACE_LOOK: Duration = Duration::from_secs(3);
/// How long a look at an endpoint may take; one that does not answer by then is silent.
pub const LOOK_WITHIN: Duration = Duration::from_secs(3);
/// How long an endpoint that is ending, or was asked to, may take to go.
pub const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// How long a process that has ended, or was killed, is waited for to be reaped; then that is done later.
pub const REAPED_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two starts of an endpoint that fail, in seconds; from one second on it doubles.
pub const START_AGAIN_MAX_S: u64 = 32;
/// How long an endpoint may take to say for `GET /status` how far it has flushed; then its lag is not shown.
pub const LAG_WITHIN: Duration = Duration::from_secs(1);
/// How long a port is waited for before the endpoint, and with it everybody's connection strings, gets another.
pub const PORT_WITHIN: Duration = Duration::from_secs(1);

/// How long a request waits for another that changes the same branch; then it is told to try again (`Kind::Busy`).
pub const BRANCH_WITHIN: Duration = Duration::from_secs(5);
/// The same, for one that changes what is in the branch or whether it runs, of which there may be many at a time.
pub const BRANCH_TURN_WITHIN: Duration = Duration::from_secs(45);
/// Branches of which the server remembers that their catalog is as it was read last.
pub const CATALOGS_REMEMBERED: usize = 1000;

/// How long a request waits for another one that looks at or changes the same catalog; then it is told to try again (`Kind::Busy`).
pub const CATALOG_TURN_WITHIN: Duration = Duration::from_secs(45);
/// How often a rename of a database is tried while its clients come back; then it is refused in Postgres's words.
pub const RENAMES: u32 = 20;

/// How long the store may lag behind the parent's Postgres before a branch is refused (`Kind::Unavailable`).
pub const DURABLE_WITHIN: Duration = Duration::from_secs(20);
/// How often the wait for that looks whether the disk is full.
pub const DURABLE_LOOK: Duration = Duration::from_secs(2);
/// A store that lags and has less room than one WAL segment is taken to be full (507).
pub const FULL_BELOW_BYTES: u64 = 16 << 20;
/// How long a start may take that settings are tried with; a library may take its time. Longer is a refusal (422).
pub const TRIED_WITHIN: Duration = Duration::from_secs(30);
/// How long the flush position of an endpoint that is restarting is waited for; then a branch at its head is refused (`Kind::Unavailable`).
pub const FLUSH_WITHIN: Duration = Duration::from_secs(20);
/// How long the log of a start may take to reach the store; then the start has failed (`Kind::Unavailable`).
pub const SHIPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long a killed process may take to go; then it is left.
pub const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may take; one that is refused during a start of Postgres is refused at once.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a call may take. Postgres ends a statement before (`compute::session_options`).
pub const CALL_WITHIN: Duration = Duration::from_secs(75);
/// How long SQL of a user may take that scion runs for them.
pub const THEIRS_WITHIN: Duration = Duration::from_secs(600);
/// How long a statement that was given up may take to end.
pub const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// How often the reconciler looks at every endpoint, unless one that ends wakes it.
pub const RECONCILED_EVERY: Duration = Duration::from_secs(1);
/// How often is looked for backups that are due.
pub const BACKUPS_EVERY: Duration = Duration::from_secs(1);
/// How long a backup that could not be made is left alone.
pub const BACKUP_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The shortest time a backup may be kept for, in seconds. A shorter one is refused (400).
pub const RETENTION_MIN_S: i64 = 3600;
/// How often is looked for branch schedules that are due.
pub const SCHEDULES_EVERY: Duration = Duration::from_secs(1);
/// How often expired and purged branches are looked for.
pub const DELETIONS_EVERY: Duration = Duration::from_secs(1);
/// How long one that could not be deleted is left alone.
pub const DELETION_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How long a deleted branch or project can be brought back: seven days, in microseconds. Then it is purged.
pub const RECOVERABLE_US: i64 = 7 * 86_400 * 1_000_000;
/// The longest history that can be asked for, in seconds: 30 days. A longer one is refused (400).
pub const HISTORY_RETENTION_MAX_S: i64 = 2_592_000;
/// The history kept if none is asked for: one day, in seconds.
pub const HISTORY_RETENTION_S: i64 = 86_400;
/// The longest time that a branch may be given to live, in seconds: 30 days. A longer one is refused (422).
pub const TTL_MAX_S: i64 = 30 * 86_400;
/// The longest time without activity that an endpoint can be given, in seconds: a week. A longer one is refused (400).
pub const SUSPEND_TIMEOUT_MAX_S: i64 = 604_800;

/// The largest `annotation_value` of a branch, as JSON. A larger one is refused with 400.
pub const ANNOTATION_BYTES: usize = 64 << 10;
/// The most branches of one page of a list.
pub const BRANCHES_OF_PAGE: usize = 10_000;
/// Projects of one page of a list if no limit is given, and the most.
pub const PROJECTS_OF_PAGE: (usize, usize) = (10, 400);
/// The most operations of one page of a list.
pub const OPERATIONS_OF_PAGE: usize = 1000;
/// How often is looked whether the certificate of the API is another.
pub const CERTIFICATE_EVERY: Duration = Duration::from_secs(2);
/// How long another process may hold the lock of the metadata.
pub const METADATA_WITHIN: Duration = Duration::from_secs(5);
/// Branches that a message names; of more it says how many.
pub const NAMES_SHOWN: usize = 12;
/// How often a transaction is tried that needs new passwords, each time with those that it lacked before: roles may be
/// made meanwhile. Then its request is to come again.
pub const SECRET_ROUNDS: usize = 8;
/// How often who waits for a client looks whether it has gone.
pub const UNWANTED_LOOK: Duration = Duration::from_millis(200);
/// The most characters of a name. A longer one is refused (400).
pub const NAME_MAX: usize = 256;
/// How many of them are left for a number behind a name.
pub const NUMBER_ROOM: usize = 8;
/// How often the times of last use of API keys are written down.
pub const KEY_USES_EVERY: Duration = Duration::from_secs(60);
/// The longest name of an API key, in characters, as at Neon. A longer one is refused (400).
pub const KEY_NAME_CHARACTERS: usize = 64;
/// How long an `Idempotency-Key` is remembered: one day, in microseconds.
pub const KEYS_OF_REQUESTS_KEPT_US: i64 = 86_400 * 1_000_000;
/// How long the page service accepts nothing when the system has no descriptor or no thread left.
pub const PAGE_SERVICE_PAUSE: Duration = Duration::from_millis(100);
/// A process that ends sooner after it was first seen is left to the reconciler's own pace, so that one that dies
/// whenever it has started is not started over without a pause.
pub const LIVED_AT_LEAST: Duration = Duration::from_secs(1);
/// Relations that warnings of one branch name; of more it says how many.
pub const RELATIONS_NAMED: usize = 8;
/// What is kept of the text of an error that is not of ours, in bytes.
pub const REQUEST_TEXT_BYTES: usize = 4096;
