//! A connection to the endpoint's own Postgres over its private unix socket, for replication or for SQL.
//!
//! Blocking, trust authentication. For replication there is no database (so that nobody's `DROP DATABASE` is in our way,
//! and no setting of a role or database holds): simple commands of the replication grammar and the two-way copy that
//! `START_REPLICATION` opens. What SQL is protected from is in `session`.
//! Messages are in `pg_message`; here is which may come when, and what is inside `CopyData`, as in chapter "Streaming
//! Replication Protocol" of the manual.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::sql::pg_message::{self, Answer, Malformed, Row};

/// Least room for one read; the server sends WAL in parts of 128 KiB.
const READ_BYTES: usize = 256 << 10;
/// Longest wait for an answer to a command. A server whose page reads wait for the store answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// The connection ended or broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The server said no.
    #[error("{message} (SQLSTATE {code})")]
    Server {
        /// SQLSTATE.
        code: String,
        /// The primary message.
        message: String,
    },
    /// What the server sent is no message.
    #[error("protocol: {0}")]
    Malformed(#[from] Malformed),
    /// A message that has no place here, such as one that asks for a password.
    #[error("unexpected message {0}")]
    Unexpected(String),
    /// What is there is not to be touched.
    #[error("{0}")]
    Untouched(String),
}

/// What the server sends during a two-way copy.
#[derive(Debug, PartialEq, Eq)]
pub enum CopyMessage {
    /// WAL from this position on; the bytes were appended to the caller's buffer.
    Wal {
        /// Position of the first byte.
        start: u64,
    },
    /// The server is alive; with true it waits for a status.
    KeepAlive(bool),
    /// The server ends the copy: its timeline has ended.
    Done,
    /// The command is over: the server shuts down, and all its WAL was sent and confirmed.
    Complete,
}

/// An open connection. Says goodbye when dropped.
pub struct PgClient {
    stream: UnixStream,
    buffer: BytesMut,
    next: Option<Answer>,
    process: u32,
    superuser: bool,
}

impl PgClient {
    /// Connects for physical replication as `user`.
    ///
    /// # Errors
    /// `Server` with code 57P03 while the server starts.
    pub fn connect(socket: &Path, user: &str) -> Result<Self, PgError> {
        let parameters = [("replication", "true"), ("wal_sender_timeout", "0")];
        Self::with(socket, user, &parameters)
    }

    /// Connects for ordinary SQL with these `options`; an answer is waited for no longer than `within`.
    ///
    /// # Errors
    /// `Server` if there is no such database or user.
    pub fn connect_sql(
        socket: &Path,
        (user, database): (&str, &str),
        options: &str,
        within: Duration,
    ) -> Result<Self, PgError> {
        let client = Self::with(socket, user, &[("database", database), ("options", options)])?;
        client.stream.set_read_timeout(Some(within))?;
        Ok(client)
    }

    fn with(socket: &Path, user: &str, more: &[(&str, &str)]) -> Result<Self, PgError> {
        let mut client = Self::over(UnixStream::connect(socket)?);
        client.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let own = [("user", user), ("application_name", "scion")];
        let all: Vec<(&str, &str)> = own.iter().chain(more).copied().collect();
        client.send(&pg_message::startup(&all)?)?;
        loop {
            match client.message()? {
                Answer::Ready => return Ok(client),
                Answer::Welcome => {}
                Answer::Process(id) => client.process = id,
                other => return Err(refusal(other)),
            }
        }
    }

    fn over(stream: UnixStream) -> Self {
        Self { stream, buffer: BytesMut::new(), next: None, process: 0, superuser: false }
    }

    /// Whether the server takes the session for a superuser's.
    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// The id of the server's process at the other end.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Runs one command; returns its rows.
    ///
    /// # Errors
    /// `Server` if the command failed; the connection stays usable.
    pub fn command(&mut self, text: &str) -> Result<Vec<Row>, PgError> {
        self.send(&pg_message::query(text)?)?;
        let mut rows = Vec::new();
        loop {
            match self.message()? {
                Answer::Row(row) => rows.push(row),
                Answer::Ready => return Ok(rows),
                Answer::Complete => {}
                other => return Err(self.failed(other)),
            }
        }
    }

    /// Runs a command that opens a two-way copy.
    ///
    /// # Errors
    /// `Server` if it did not; the connection stays usable.
    pub fn start_copy(&mut self, text: &str) -> Result<(), PgError> {
        self.send(&pg_message::query(text)?)?;
        match self.message()? {
            Answer::CopyBoth => Ok(self.stream.set_read_timeout(None)?),
            other => Err(self.failed(other)),
        }
    }

    /// Waits for the next message of the copy; WAL is appended to `out`.
    ///
    /// # Errors
    /// `Server` if the server ended the copy with an error, `Io` if the connection ended.
    pub fn copy_message(&mut self, out: &mut Vec<u8>) -> Result<CopyMessage, PgError> {
        match self.message()? {
            Answer::CopyData(data) => Ok(replication_message(data, out).ok_or_else(cut_short)?),
            Answer::CopyDone => Ok(CopyMessage::Done),
            Answer::Complete => Ok(CopyMessage::Complete),
            other => Err(refusal(other)),
        }
    }

    /// True if a whole message was already received.
    ///
    /// # Errors
    /// `Malformed` if what was received is no message.
    pub fn has_message(&mut self) -> Result<bool, PgError> {
        while self.next.is_none() {
            match pg_message::next(&mut self.buffer)? {
                Some(Answer::Aside) => {}
                Some(Answer::Superuser(is)) => self.superuser = is,
                Some(answer) => self.next = Some(answer),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Tells the server that all WAL before `upto` is durable elsewhere.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn confirm(&mut self, upto: u64) -> Result<(), PgError> {
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        status.put_u64(upto); // written
        status.put_u64(upto); // flushed
        status.put_u64(upto); // applied
        status.put_u64(0); // our clock, which nobody reads
        status.put_u8(0); // no answer wanted
        self.send(&pg_message::copy_data(&status)?)
    }

    /// Answers the server's end of the copy.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn end_copy(&mut self) -> Result<(), PgError> {
        self.send(&pg_message::copy_done())
    }

    fn send(&mut self, message: &[u8]) -> Result<(), PgError> {
        Ok(self.stream.write_all(message)?)
    }

    /// The next message; waits for it.
    fn message(&mut self) -> Result<Answer, PgError> {
        loop {
            if let Some(message) = self.next.take() {
                return Ok(message);
            }
            if !self.has_message()? {
                self.receive()?;
            }
        }
    }

    /// What an answer that is not the one hoped for means. Reads to the end of a command that failed, so that the next
    /// one can be sent. A server that hangs up says why first.
    fn failed(&mut self, answer: Answer) -> PgError {
        if matches!(answer, Answer::Error { .. }) {
            while self.message().is_ok_and(|message| message != Answer::Ready) {}
        }
        refusal(answer)
    }

    fn receive(&mut self) -> Result<(), PgError> {
        self.buffer.reserve(READ_BYTES);
        let len = match rustix::io::read(&self.stream, self.buffer.spare_capacity_mut()) {
            Ok((filled, _)) => filled.len(),
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        // SAFETY: the kernel has just written the first `len` bytes of the spare capacity.
        unsafe { self.buffer.advance_mut(len) };
        Ok(())
    }
}

impl Drop for PgClient {
    /// Best effort: a server that is gone, or takes nothing now, sees the connection close.
    fn drop(&mut self) {
        if self.stream.set_nonblocking(true).is_ok() {
            let _ = self.send(&pg_message::terminate()); // see above
        }
    }
}

/// The first field of a row.
pub(crate) fn first(row: Row) -> Option<String> {
    row.into_iter().next().flatten()
}

fn cut_short() -> Malformed {
    Malformed("the content of CopyData is cut short or unknown".to_owned())
}

/// What `CopyData` carries during replication; WAL is appended to `out`. None if it is cut short or unknown.
pub(crate) fn replication_message(mut data: Bytes, out: &mut Vec<u8>) -> Option<CopyMessage> {
    match data.try_get_u8().ok()? {
        b'w' => {
            let start = data.try_get_u64().ok()?;
            out.extend_from_slice(data.get(16..)?); // behind the server's end of WAL and its clock
            Some(CopyMessage::Wal { start })
        }
        b'k' => Some(CopyMessage::KeepAlive(*data.get(16)? == 1)), // likewise
        _ => None,
    }
}

fn refusal(answer: Answer) -> PgError {
    match answer {
        Answer::Error { code, message } => PgError::Server { code, message },
        other => PgError::Unexpected(format!("{other:?}").chars().take(80).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sql::pg_message::tests::{said, said_error};

    const WAL_BYTES: usize = 128 << 10;

    fn copied(kind: u8, start: u64, rest: &[u8]) -> Vec<u8> {
        said(b'd', &[&[kind][..], &start.to_be_bytes(), &[0; 8], rest].concat())
    }

    fn wal(start: u64, byte: u8) -> Vec<u8> {
        copied(b'w', start, &[&[0; 8][..], &vec![byte; WAL_BYTES]].concat())
    }

    fn notice() -> Vec<u8> {
        said(b'N', b"Mnote\0\0")
    }

    /// A client whose server has already said this, and hung up.
    fn client_of(said: &[Vec<u8>]) -> (PgClient, std::thread::JoinHandle<UnixStream>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let said = said.concat();
        let server = std::thread::spawn(move || {
            for part in said.chunks(50_000) {
                theirs.write_all(part).unwrap();
            }
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            theirs
        });
        (PgClient::over(ours), server)
    }

    #[test]
    fn a_copy_arrives_whole_in_whatever_parts_it_is_sent_until_the_server_completes_it() {
        let complete = said(b'C', b"COPY 0\0");
        let (mut client, server) =
            client_of(&[wal(100, 1), notice(), wal(200, 2), copied(b'k', 300, &[1]), complete]);
        let mut out = Vec::new();
        assert_eq!(client.copy_message(&mut out).unwrap(), CopyMessage::Wal { start: 100 });
        assert_eq!(client.copy_message(&mut out).unwrap(), CopyMessage::Wal { start: 200 });
        assert_eq!(client.copy_message(&mut out).unwrap(), CopyMessage::KeepAlive(true));
        assert_eq!(client.copy_message(&mut out).unwrap(), CopyMessage::Complete);
        assert!(out == [vec![1; WAL_BYTES], vec![2; WAL_BYTES]].concat());
        assert!(matches!(client.copy_message(&mut out), Err(PgError::Io(_))), "the server hung up");
        server.join().unwrap();
    }

    #[test]
    fn copied_bytes_that_are_cut_short_are_refused() {
        for body in [&b""[..], b"w", &[b'w'; 24], &[b'k'; 17], b"?"] {
            assert_eq!(replication_message(Bytes::copy_from_slice(body), &mut Vec::new()), None);
        }
    }

    #[test]
    fn a_malformed_message_ends_the_copy_with_an_error() {
        let short = [said(b'd', b"w"), said(b'E', b"Mno end"), said(b'D', &[0, 1]), said(b'R', &[0])];
        for bytes in short {
            let (mut client, server) = client_of(std::slice::from_ref(&bytes));
            let error = client.copy_message(&mut Vec::new()).unwrap_err();
            assert!(matches!(error, PgError::Malformed(_)), "{bytes:?}: {error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn only_what_a_caller_waits_for_counts_as_a_message() {
        let (mut client, server) = client_of(&[notice(), notice()]);
        client.receive().unwrap();
        server.join().unwrap();
        assert!(!client.has_message().unwrap());
    }

    #[test]
    fn a_refused_command_leaves_the_connection_usable() {
        let ready = said(b'Z', b"I");
        let refused = said_error("42704", "no such slot");
        let (mut client, server) = client_of(&[refused, ready.clone(), ready]);
        let error = client.start_copy("START_REPLICATION 0/0").unwrap_err();
        assert_eq!(error.to_string(), "no such slot (SQLSTATE 42704)");
        assert!(client.command("IDENTIFY_SYSTEM").unwrap().is_empty());
        server.join().unwrap();
    }
}
