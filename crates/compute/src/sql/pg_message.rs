//! Messages between a replication client and its server: which bytes a request is, and what an answer says.
//!
//! `postgres-protocol` reads and writes them. It does not know the answer that opens a copy in both directions, which is
//! told by its type, and it would wait for any length, which is bounded here.
//! Invariant: no bytes of the server make this panic or wait for more than `MESSAGE_BYTES_MAX`; what is no message is an
//! error.
//!
//! Not here: which message may come when (`pg_client`).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Header, Message};
use postgres_protocol::message::frontend;

/// Longest message that is taken; the server sends WAL in parts of 128 KiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Type of `CopyBothResponse`.
const COPY_BOTH: u8 = b'W';

/// Bytes that are no message; the text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub String);

impl From<io::Error> for Malformed {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A row of text columns.
pub type Row = Vec<Option<String>>;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// No password is wanted.
    Welcome,
    /// The id of the process that serves the connection.
    Process(u32),
    /// A command can be sent.
    Ready,
    /// A row.
    Row(Row),
    /// A command is done.
    Complete,
    /// A copy in both directions begins.
    CopyBoth,
    /// Part of a copy.
    CopyData(Bytes),
    /// The server ends its copy.
    CopyDone,
    /// A command failed.
    Error {
        /// SQLSTATE.
        code: String,
        /// The primary message.
        message: String,
    },
    /// Whether the session is a superuser's now.
    Superuser(bool),
    /// Something said beside the point: a notice, a setting, the columns to come, a key to cancel with.
    Aside,
    /// A message of this type, which is none of the above, such as one that asks for a password.
    Other(u8),
}

/// Takes the next whole message off `buffer`; `None` if it has not arrived in full.
///
/// # Errors
/// What is there is no message; the connection is of no more use.
pub fn next(buffer: &mut BytesMut) -> Result<Option<Answer>, Malformed> {
    let Some(header) = Header::parse(buffer)? else { return Ok(None) };
    let kind = header.tag();
    // The length counts itself, but not the type.
    let bytes = usize::try_from(header.len()).map_or(usize::MAX, |len| len + 1);
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Malformed(format!("a length of {} bytes", header.len())));
    }
    if buffer.len() < bytes {
        return Ok(None);
    }
    if kind == COPY_BOTH {
        buffer.advance(bytes);
        return Ok(Some(Answer::CopyBoth));
    }
    Message::parse(buffer)?.map(|message| answer(kind, message)).transpose()
}

fn answer(kind: u8, message: Message) -> Result<Answer, Malformed> {
    Ok(match message {
        Message::AuthenticationOk => Answer::Welcome,
        Message::ReadyForQuery(_) => Answer::Ready,
        Message::DataRow(body) => Answer::Row(row(&body)?),
        Message::CommandComplete(_) => Answer::Complete,
        Message::CopyData(body) => Answer::CopyData(body.into_bytes()),
        Message::CopyDone => Answer::CopyDone,
        Message::ErrorResponse(body) => error(body.fields())?,
        Message::ParameterStatus(body) if body.name()? == "is_superuser" => {
            Answer::Superuser(body.value()? == "on")
        }
        Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::RowDescription(_) => {
            Answer::Aside
        }
        Message::BackendKeyData(body) => Answer::Process(body.process_id().cast_unsigned()),
        _ => Answer::Other(kind),
    })
}

fn row(body: &DataRowBody) -> Result<Row, Malformed> {
    let text = |at: std::ops::Range<usize>| {
        body.buffer().get(at).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(body.ranges().map(|column| Ok(column.and_then(text))).collect()?)
}

fn error(mut fields: ErrorFields<'_>) -> Result<Answer, Malformed> {
    let (mut code, mut message) = (String::new(), String::new());
    while let Some(field) = fields.next()? {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    Ok(Answer::Error { code, message })
}

/// The first message of a connection: settings by name.
///
/// # Errors
/// A setting holds a zero byte.
pub fn startup(settings: &[(&str, &str)]) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    frontend::startup_message(settings.iter().copied(), &mut bytes)?;
    Ok(bytes)
}

/// A command.
///
/// # Errors
/// It holds a zero byte.
pub fn query(text: &str) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    frontend::query(text, &mut bytes)?;
    Ok(bytes)
}

/// Part of a copy.
///
/// # Errors
/// It is longer than a message can be.
pub fn copy_data(body: &[u8]) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    frontend::CopyData::new(body)?.write(&mut bytes);
    Ok(bytes)
}

/// The end of our side of a copy.
pub fn copy_done() -> BytesMut {
    let mut bytes = BytesMut::new();
    frontend::copy_done(&mut bytes);
    bytes
}

/// Goodbye.
pub fn terminate() -> BytesMut {
    let mut bytes = BytesMut::new();
    frontend::terminate(&mut bytes);
    bytes
}

#[cfg(test)]
pub mod tests {
    use bytes::BufMut;

    use super::*;

    /// A message as a server sends it.
    pub fn said(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &len, body].concat()
    }

    /// An error as a server sends it.
    pub fn said_error(code: &str, text: &str) -> Vec<u8> {
        said(b'E', format!("SFATAL\0C{code}\0M{text}\0\0").as_bytes())
    }

    fn all(bytes: &[u8]) -> Result<Vec<Answer>, Malformed> {
        let mut buffer = BytesMut::from(bytes);
        std::iter::from_fn(|| next(&mut buffer).transpose()).collect()
    }

    fn samples() -> Vec<(Vec<u8>, Answer)> {
        let row = [0, 2, 0, 0, 0, 1, b'x', 0xFF, 0xFF, 0xFF, 0xFF];
        let failed = Answer::Error { code: "57P03".to_owned(), message: "it starts".to_owned() };
        vec![
            (said(b'R', &[0; 4]), Answer::Welcome),
            (said(b'R', &[0, 0, 0, 3]), Answer::Other(b'R')),
            (said(b'W', &[0, 0, 0]), Answer::CopyBoth),
            (said(b'D', &row), Answer::Row(vec![Some("x".to_owned()), None])),
            (said_error("57P03", "it starts"), failed),
            (said(b'd', b"wal"), Answer::CopyData(Bytes::from_static(b"wal"))),
            (said(b'Z', b"I"), Answer::Ready),
            (said(b'N', b"Mnote\0\0"), Answer::Aside),
        ]
    }

    #[test]
    fn messages_are_understood_in_whatever_parts_they_come() {
        let (bytes, answers): (Vec<_>, Vec<_>) = samples().into_iter().unzip();
        assert_eq!(all(&bytes.concat()).unwrap(), answers);
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in bytes.concat() {
            buffer.put_u8(byte);
            found.extend(next(&mut buffer).unwrap());
        }
        assert_eq!(found, answers);
    }

    #[test]
    fn a_body_cut_short_is_refused() {
        for (bytes, answer) in samples() {
            let body = &bytes[5..];
            for len in 0..body.len() {
                let cut = all(&said(bytes[0], &body[..len]));
                match &answer {
                    Answer::CopyData(_) | Answer::CopyBoth | Answer::Aside => {
                        assert_eq!(cut.unwrap().len(), 1);
                    }
                    _ => assert!(cut.is_err(), "{answer:?} of {len} bytes is {cut:?}"),
                }
            }
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_at_once() {
        for len in [0u32, 3, 17 << 20, u32::MAX] {
            let bytes = [&b"d"[..], &len.to_be_bytes()].concat();
            let refused = all(&bytes).unwrap_err();
            assert!(refused.to_string().contains("length"), "length {len}: {refused}");
        }
    }

    #[test]
    fn a_message_of_no_known_type_is_refused() {
        assert!(all(&said(b'?', b"x")).is_err());
    }

    #[test]
    fn no_flipped_byte_makes_it_panic() {
        let bytes: Vec<u8> = samples().into_iter().flat_map(|(bytes, _)| bytes).collect();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                refused += u32::from(all(&damaged).is_err());
            }
        }
        assert!(refused > 1000, "{refused} refused");
    }
}
