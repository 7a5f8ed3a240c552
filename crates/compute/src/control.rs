//! The control socket of an endpoint: how `scion serve` asks a running `scion compute` about itself.
//!
//! One JSON object a line, one answer a command: `{"cmd":"status"}`, `{"cmd":"wait_ready"}`, `{"cmd":"flush_lsn"}`,
//! `{"cmd":"stop"}`. `wait_ready` answers once the endpoint runs or has failed, `stop` once it has stopped.
//!
//! Not here: who answers (`agent`).

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::sql::quarantine::Quarantine;

/// What can be asked of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// How it is now.
    Status,
    /// How it is, once it no longer is starting.
    WaitReady,
    /// Up to where Postgres has flushed its WAL: every commit a client saw return is below.
    FlushLsn,
    /// Stop cleanly; answered when stopped.
    Stop,
}

/// An endpoint's answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Status`, `WaitReady` and `Stop`.
    Status(Status),
    /// To `FlushLsn`, as Postgres prints it: `0/16B3748`.
    FlushLsn(String),
    /// The command could not be done.
    Error(String),
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not yet accepting connections, or restarting after a crash.
    Starting,
    /// Accepting connections.
    Running,
    /// Asked to stop.
    Stopping,
    /// Stopped cleanly; everything it wrote is in the store. The process ends.
    Stopped,
    /// Given up; see the reason. The process ends.
    Failed,
}

/// How an endpoint is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// Why it failed, what it waits for the store with, or why it last restarted.
    pub reason: Option<String>,
    /// The newest read of a page that the store refused since the process began: relation, block and why. Postgres
    /// only told its client of an I/O error.
    #[serde(default)]
    pub last_read_error: Option<String>,
    /// All such reads since the process began.
    #[serde(default)]
    pub failed_reads: Box<FailedReads>,
    /// Process id of `postgres`, while there is one.
    pub postgres_pid: Option<u32>,
    /// Process id of this `scion compute`.
    pub compute_pid: u32,
    /// TCP port.
    pub port: u16,
    /// Timeline it writes on.
    pub timeline: Option<u32>,
    /// Where that timeline began.
    pub start_lsn: Option<String>,
    /// Up to where the store has acknowledged its WAL.
    pub shipped_lsn: Option<String>,
    /// Unplanned restarts since the process began.
    pub restarts: u32,
    /// Bytes its private overlay holds now.
    pub overlay_bytes: u64,
    /// What the branch inherited and the start put to rest; `None` if that was not asked for.
    #[serde(default)]
    pub quarantine: Option<Box<Quarantine>>,
    /// From where on the branch's log has the passwords of the spec; `None` if there are none, or not yet.
    #[serde(default)]
    pub passwords_since: Option<String>,
    /// How long the parts of the last start took.
    pub phases: Phases,
}

/// Page reads that the store refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FailedReads {
    /// How many there were.
    pub count: u64,
    /// Those that differ, oldest first; of many, the first ones and how many more.
    pub texts: Vec<String>,
}

/// Milliseconds of each part of a start.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Shipping what an earlier run left in `pg_wal`.
    pub tail: f64,
    /// Asking the store for the new timeline and its state.
    pub state: f64,
    /// Making the data directory.
    pub datadir: f64,
    /// Mounting it.
    pub mount: f64,
    /// From exec of `postgres` to the first accepted connection.
    pub postgres_start: f64,
    /// All of it.
    pub total: f64,
}

/// Asks the endpoint behind `socket` one thing.
///
/// # Errors
/// Those of the socket: `NotFound` or `ConnectionRefused` when no endpoint runs there, `WouldBlock` or `TimedOut`
/// after `timeout` without an answer; `InvalidData` for an answer that is none.
pub fn ask(socket: &Path, command: Command, timeout: Duration) -> io::Result<Answer> {
    let mut stream = connect(socket, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    // Who has no place for one more answers that without being asked, and hangs up.
    let sent = write_line(&mut stream, &command);
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line);
    if line.is_empty() {
        sent?;
        read?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Connects within `timeout`. A process that was stopped takes no connection, and once its queue of them is full, a
/// connection without a limit waits for ever.
fn connect(socket: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let stream = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // To Linux that is the limit of a connect too (`unix_stream_connect` of net/unix/af_unix.c).
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(timeout))?;
    net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(stream))
}

/// Writes `value` as one line.
pub(crate) fn write_line(stream: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_queue_is_full_of_connections_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        net::listen(&listener, 0).unwrap();
        let ask = || ask(&path, Command::Status, Duration::from_millis(20)).unwrap_err().kind();
        for _ in 0..3 {
            assert!(matches!(ask(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        }
        drop(listener);
        assert_eq!(ask(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_refusal_is_heard_though_nobody_listens_to_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for unread in [false, true] {
            let listener = listener.try_clone().unwrap();
            let refusing = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                if unread {
                    // The command is there, and is not read.
                    rustix::io::read(&stream, &mut [0_u8; 1]).unwrap();
                }
                write_line(&mut stream, &Answer::Error("full".to_owned())).unwrap();
            });
            let answer = ask(&socket, Command::Status, Duration::from_secs(10)).unwrap();
            assert_eq!(answer, Answer::Error("full".to_owned()));
            refusing.join().unwrap();
        }
    }

    #[test]
    fn commands_are_written_as_documented() {
        assert_eq!(serde_json::to_string(&Command::WaitReady).unwrap(), r#"{"cmd":"wait_ready"}"#);
        assert_eq!(serde_json::from_str::<Command>(r#"{"cmd":"flush_lsn"}"#).unwrap(), Command::FlushLsn);
        assert!(serde_json::from_str::<Command>(r#"{"cmd":"explode"}"#).is_err());
    }
}
