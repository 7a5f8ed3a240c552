//! A replication connection to the endpoint's own Postgres over its private unix socket.
//!
//! Blocking, trust authentication, no database (so that nobody's `DROP DATABASE` is in our way). Only what shipping
//! WAL needs: simple commands of the replication grammar and the two-way copy that `START_REPLICATION` opens.
//! Messages are framed and parsed by `pgwire`; here is what is inside a row and inside `CopyData`, as in chapter
//! "Streaming Replication Protocol" of the manual.
//!
//! The peer is trusted to send well-formed messages: it is a child of this process.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pgwire::error::PgWireError;
use pgwire::messages::copy::{CopyData, CopyDone};
use pgwire::messages::data::DataRow;
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::{Authentication, Startup};
use pgwire::messages::terminate::Terminate;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};

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
    Codec(#[from] PgWireError),
    /// A message that has no place here, such as one that asks for a password.
    #[error("unexpected message {0}")]
    Unexpected(String),
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

/// A row of text columns.
pub type Row = Vec<Option<String>>;

/// An open connection. Says goodbye when dropped.
pub struct PgClient {
    stream: UnixStream,
    buffer: BytesMut,
    next: Option<PgWireBackendMessage>,
    context: DecodeContext,
}

impl PgClient {
    /// Connects for physical replication as `user`.
    ///
    /// # Errors
    /// `Server` with code 57P03 while the server starts.
    pub fn connect(socket: &Path, user: &str) -> Result<Self, PgError> {
        let mut client = Self::over(UnixStream::connect(socket)?);
        client.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut startup = Startup::new();
        let parameters = [
            ("user", user),
            ("replication", "true"),
            ("application_name", "scion"),
            ("wal_sender_timeout", "0"),
        ];
        startup.parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        client.send(&PgWireFrontendMessage::Startup(startup))?;
        loop {
            match client.message()? {
                PgWireBackendMessage::ReadyForQuery(_) => return Ok(client),
                PgWireBackendMessage::ErrorResponse(error) => return Err(server_error(error)),
                PgWireBackendMessage::Authentication(Authentication::Ok)
                | PgWireBackendMessage::BackendKeyData(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    fn over(stream: UnixStream) -> Self {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        Self { stream, buffer: BytesMut::new(), next: None, context }
    }

    /// Runs one command; returns its rows.
    ///
    /// # Errors
    /// `Server` if the command failed; the connection stays usable.
    pub fn command(&mut self, text: &str) -> Result<Vec<Row>, PgError> {
        self.send(&PgWireFrontendMessage::Query(Query::new(text.to_owned())))?;
        let mut rows = Vec::new();
        loop {
            match self.message()? {
                PgWireBackendMessage::DataRow(row) => rows.push(columns(row)?),
                PgWireBackendMessage::ReadyForQuery(_) => return Ok(rows),
                PgWireBackendMessage::ErrorResponse(error) => return Err(self.failed(error)),
                PgWireBackendMessage::RowDescription(_) | PgWireBackendMessage::CommandComplete(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Runs a command that opens a two-way copy.
    ///
    /// # Errors
    /// `Server` if it did not; the connection stays usable.
    pub fn start_copy(&mut self, text: &str) -> Result<(), PgError> {
        self.send(&PgWireFrontendMessage::Query(Query::new(text.to_owned())))?;
        match self.message()? {
            PgWireBackendMessage::CopyBothResponse(_) => Ok(self.stream.set_read_timeout(None)?),
            PgWireBackendMessage::ErrorResponse(error) => Err(self.failed(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for the next message of the copy; WAL is appended to `out`.
    ///
    /// # Errors
    /// `Server` if the server ended the copy with an error, `Io` if the connection ended.
    pub fn copy_message(&mut self, out: &mut Vec<u8>) -> Result<CopyMessage, PgError> {
        match self.message()? {
            PgWireBackendMessage::CopyData(copy) => replication_message(copy.data, out)
                .ok_or_else(|| PgError::Unexpected("inside of CopyData".to_owned())),
            PgWireBackendMessage::CopyDone(_) => Ok(CopyMessage::Done),
            PgWireBackendMessage::CommandComplete(_) => Ok(CopyMessage::Complete),
            PgWireBackendMessage::ErrorResponse(error) => Err(server_error(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// True if a whole message was already received.
    ///
    /// # Errors
    /// `Codec` if what was received is no message.
    pub fn has_message(&mut self) -> Result<bool, PgError> {
        while self.next.is_none() {
            match PgWireBackendMessage::decode(&mut self.buffer, &self.context)? {
                // May come at any time and concern nobody.
                Some(PgWireBackendMessage::NoticeResponse(_) | PgWireBackendMessage::ParameterStatus(_)) => {}
                Some(message) => self.next = Some(message),
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
        self.send(&PgWireFrontendMessage::CopyData(CopyData::new(status.freeze())))
    }

    /// Answers the server's end of the copy.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn end_copy(&mut self) -> Result<(), PgError> {
        self.send(&PgWireFrontendMessage::CopyDone(CopyDone::new()))
    }

    fn send(&mut self, message: &PgWireFrontendMessage) -> Result<(), PgError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next message; waits for it.
    fn message(&mut self) -> Result<PgWireBackendMessage, PgError> {
        loop {
            if let Some(message) = self.next.take() {
                return Ok(message);
            }
            if !self.has_message()? {
                self.receive()?;
            }
        }
    }

    /// Reads to the end of a failed command, so that the next one can be sent. A server that hangs up says why first.
    fn failed(&mut self, error: ErrorResponse) -> PgError {
        while self.message().is_ok_and(|message| !matches!(message, PgWireBackendMessage::ReadyForQuery(_))) {
        }
        server_error(error)
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
            let _ = self.send(&PgWireFrontendMessage::Terminate(Terminate::new())); // see above
        }
    }
}

/// What `CopyData` carries during replication; WAL is appended to `out`. None if it is cut short or unknown.
fn replication_message(mut data: Bytes, out: &mut Vec<u8>) -> Option<CopyMessage> {
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

fn columns(row: DataRow) -> Result<Row, PgError> {
    let short = || PgError::Unexpected("DataRow cut short".to_owned());
    let mut data = row.data;
    let mut columns = Vec::new();
    for _ in 0..row.field_count {
        let Ok(len) = usize::try_from(data.try_get_i32().map_err(|_| short())?) else {
            columns.push(None);
            continue;
        };
        let value = data.get(..len).ok_or_else(short)?;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        data.advance(len);
    }
    Ok(columns)
}

fn server_error(error: ErrorResponse) -> PgError {
    let mut code = String::new();
    let mut message = String::new();
    for (field, text) in error.fields {
        match field {
            b'C' => code = text,
            b'M' => message = text,
            _ => {}
        }
    }
    PgError::Server { code, message }
}

fn unexpected(message: &PgWireBackendMessage) -> PgError {
    PgError::Unexpected(format!("{message:?}").chars().take(80).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use pgwire::messages::response::{CommandComplete, NoticeResponse, ReadyForQuery, TransactionStatus};

    use super::*;

    const WAL_BYTES: usize = 128 << 10;

    fn encoded(messages: Vec<PgWireBackendMessage>) -> BytesMut {
        let mut bytes = BytesMut::new();
        for message in messages {
            message.encode(&mut bytes).unwrap();
        }
        bytes
    }

    fn error(code: &str, message: &str) -> ErrorResponse {
        let fields = [(b'S', "FATAL"), (b'C', code), (b'M', message)];
        ErrorResponse::new(fields.map(|(field, text)| (field, text.to_owned())).to_vec())
    }

    fn copied(kind: u8, start: u64, rest: &[u8]) -> PgWireBackendMessage {
        let body = [&[kind][..], &start.to_be_bytes(), &[0; 8], rest].concat();
        PgWireBackendMessage::CopyData(CopyData::new(body.into()))
    }

    fn wal(start: u64, byte: u8) -> PgWireBackendMessage {
        copied(b'w', start, &[&[0; 8][..], &vec![byte; WAL_BYTES]].concat())
    }

    /// A client whose server has already said this, and hung up.
    fn client_of(said: Vec<PgWireBackendMessage>) -> (PgClient, std::thread::JoinHandle<UnixStream>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            for part in encoded(said).chunks(50_000) {
                theirs.write_all(part).unwrap();
            }
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            theirs
        });
        (PgClient::over(ours), server)
    }

    #[test]
    fn a_row_with_a_null_is_read_and_a_short_one_refused() {
        let body = [0, 0, 0, 1, b'x', 0xFF, 0xFF, 0xFF, 0xFF];
        let row = DataRow::new(BytesMut::from(&body[..]), 2);
        assert_eq!(columns(row).unwrap(), vec![Some("x".to_owned()), None]);
        for len in 0..body.len() {
            columns(DataRow::new(BytesMut::from(&body[..len]), 2)).unwrap_err();
        }
    }

    #[test]
    fn errors_carry_code_and_message() {
        let error = server_error(error("57P03", "the database system is starting up"));
        assert_eq!(error.to_string(), "the database system is starting up (SQLSTATE 57P03)");
    }

    #[test]
    fn a_copy_arrives_whole_in_whatever_parts_it_is_sent_until_the_server_completes_it() {
        let notice = PgWireBackendMessage::NoticeResponse(NoticeResponse::default());
        let complete = PgWireBackendMessage::CommandComplete(CommandComplete::new("COPY 0".to_owned()));
        let said = vec![wal(100, 1), notice, wal(200, 2), copied(b'k', 300, &[1]), complete];
        let (mut client, server) = client_of(said);
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
    fn only_what_a_caller_waits_for_counts_as_a_message() {
        let notice = || PgWireBackendMessage::NoticeResponse(NoticeResponse::default());
        let (mut client, server) = client_of(vec![notice(), notice()]);
        client.receive().unwrap();
        server.join().unwrap();
        assert!(!client.has_message().unwrap());
    }

    #[test]
    fn a_refused_command_leaves_the_connection_usable() {
        let ready = || PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(TransactionStatus::Idle));
        let refused = PgWireBackendMessage::ErrorResponse(error("42704", "no such slot"));
        let (mut client, server) = client_of(vec![refused, ready(), ready()]);
        let error = client.start_copy("START_REPLICATION 0/0").unwrap_err();
        assert_eq!(error.to_string(), "no such slot (SQLSTATE 42704)");
        assert!(client.command("IDENTIFY_SYSTEM").unwrap().is_empty());
        server.join().unwrap();
    }
}
