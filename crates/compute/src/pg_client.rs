//! A replication connection to the endpoint's own Postgres over its private unix socket.
//!
//! Blocking, trust authentication, no database (so that nobody's `DROP DATABASE` is in our way). Only what shipping
//! WAL needs: simple commands of the replication grammar and the two-way copy that `START_REPLICATION` opens.
//! Messages as in chapters "Frontend/Backend Protocol" and "Streaming Replication Protocol" of the manual.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PROTOCOL_3_0: u32 = 196_608;
/// Largest message taken; the server sends WAL in parts of 128 KiB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
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
    /// The server broke the protocol, or asked for a password.
    #[error("unexpected message {0:?}")]
    Protocol(char),
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
    /// The server ends the copy.
    Done,
}

/// A row of text columns.
pub type Row = Vec<Option<String>>;

/// An open connection.
pub struct PgClient {
    stream: UnixStream,
    buffer: Vec<u8>,
    taken: usize,
}

impl PgClient {
    /// Connects for physical replication as `user`.
    ///
    /// # Errors
    /// `Server` with code 57P03 while the server starts.
    pub fn connect(socket: &Path, user: &str) -> Result<Self, PgError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut client = Self { stream, buffer: Vec::new(), taken: 0 };
        let mut startup = PROTOCOL_3_0.to_be_bytes().to_vec();
        let parameters = [
            ("user", user),
            ("replication", "true"),
            ("application_name", "scion"),
            ("wal_sender_timeout", "0"),
        ];
        for (name, value) in parameters {
            startup.extend_from_slice(name.as_bytes());
            startup.push(0);
            startup.extend_from_slice(value.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        let len = (startup.len() as u32 + 4).to_be_bytes();
        client.stream.write_all(&[&len[..], &startup].concat())?;
        loop {
            match client.message()? {
                (b'Z', _) => return Ok(client),
                (b'E', body) => return Err(server_error(body)),
                (b'R', body) if body != [0, 0, 0, 0] => return Err(PgError::Protocol('R')),
                _ => {}
            }
        }
    }

    /// Runs one command; returns its rows.
    ///
    /// # Errors
    /// `Server` if the command failed; the connection stays usable.
    pub fn command(&mut self, text: &str) -> Result<Vec<Row>, PgError> {
        self.send(b'Q', &[text.as_bytes(), &[0]])?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message()? {
                (b'D', body) => rows.push(row(body).ok_or(PgError::Protocol('D'))?),
                (b'E', body) => failed = Some(server_error(body)),
                (b'Z', _) => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Runs a command that opens a two-way copy.
    ///
    /// # Errors
    /// `Server` if it did not.
    pub fn start_copy(&mut self, text: &str) -> Result<(), PgError> {
        self.send(b'Q', &[text.as_bytes(), &[0]])?;
        loop {
            match self.message()? {
                (b'W', _) => return Ok(self.stream.set_read_timeout(None)?),
                (b'E', body) => return Err(server_error(body)),
                (b'N' | b'S', _) => {}
                (kind, _) => return Err(PgError::Protocol(kind as char)),
            }
        }
    }

    /// Waits for the next message of the copy; WAL is appended to `out`.
    ///
    /// # Errors
    /// `Server` if the server ended the copy with an error, `Io` if the connection ended.
    pub fn copy_message(&mut self, out: &mut Vec<u8>) -> Result<CopyMessage, PgError> {
        loop {
            let (kind, body) = self.message()?;
            match (kind, body.split_first()) {
                (b'd', Some((b'w', rest))) => {
                    let start = rest.first_chunk().map(|raw| u64::from_be_bytes(*raw));
                    let (Some(start), Some(wal)) = (start, rest.get(24..)) else {
                        return Err(PgError::Protocol('w'));
                    };
                    out.extend_from_slice(wal);
                    return Ok(CopyMessage::Wal { start });
                }
                (b'd', Some((b'k', rest))) => return Ok(CopyMessage::KeepAlive(rest.get(16) == Some(&1))),
                (b'c', _) => return Ok(CopyMessage::Done),
                (b'E', _) => return Err(server_error(body)),
                (b'N' | b'S', _) => {}
                (kind, _) => return Err(PgError::Protocol(kind as char)),
            }
        }
    }

    /// True if a whole message was already received.
    pub fn has_message(&self) -> bool {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        message_len(rest).is_some_and(|len| rest.len() > len)
    }

    /// Tells the server that all WAL before `upto` is durable elsewhere.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn confirm(&mut self, upto: u64) -> Result<(), PgError> {
        let upto = upto.to_be_bytes();
        self.send(b'd', &[b"r", &upto, &upto, &upto, &[0; 8], &[0]])
    }

    /// Answers the server's end of the copy.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn end_copy(&mut self) -> Result<(), PgError> {
        self.send(b'c', &[])
    }

    fn send(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), PgError> {
        let body = parts.concat();
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(&body);
        Ok(self.stream.write_all(&message)?)
    }

    /// The next whole message: its type and body.
    fn message(&mut self) -> Result<(u8, &[u8]), PgError> {
        loop {
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            if let Some(len) = message_len(rest) {
                if !(4..=MESSAGE_BYTES_MAX).contains(&len) {
                    return Err(PgError::Protocol('?'));
                }
                if rest.len() > len {
                    break;
                }
            }
            self.receive()?;
        }
        let start = self.taken;
        let rest = self.buffer.get(start..).unwrap_or_default();
        let len = message_len(rest).unwrap_or(4);
        self.taken = start + len + 1;
        let kind = rest.first().copied().unwrap_or_default();
        Ok((kind, rest.get(5..=len).unwrap_or_default()))
    }

    fn receive(&mut self) -> Result<(), PgError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + READ_BYTES, 0);
        let read = self.stream.read(self.buffer.get_mut(have..).unwrap_or_default());
        self.buffer.truncate(have + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The length a message claims, its own four bytes counted, its type not.
fn message_len(bytes: &[u8]) -> Option<usize> {
    bytes.get(1..)?.first_chunk().map(|len| u32::from_be_bytes(*len) as usize)
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        if len < 0 {
            columns.push(None);
            rest = after;
            continue;
        }
        let (value, after) = after.split_at_checked(len as usize)?;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(columns)
}

fn server_error(body: &[u8]) -> PgError {
    let mut code = String::new();
    let mut message = String::new();
    for field in body.split(|&byte| byte == 0) {
        match field.split_first() {
            Some((b'C', text)) => code = String::from_utf8_lossy(text).into_owned(),
            Some((b'M', text)) => message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    PgError::Server { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_null_is_read_and_a_short_one_refused() {
        let body = [0, 2, 0, 0, 0, 1, b'x', 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(row(&body), Some(vec![Some("x".to_owned()), None]));
        assert_eq!(row(&body[..6]), None);
    }

    #[test]
    fn errors_carry_code_and_message() {
        let error = server_error(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(error.to_string(), "the database system is starting up (SQLSTATE 57P03)");
    }
}
