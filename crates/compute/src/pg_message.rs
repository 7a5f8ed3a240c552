//! Messages between a replication client and its server: which bytes a request is, and what an answer says.
//!
//! Follows chapter "Message Formats" of PostgreSQL's manual, for the messages that a walsender sends and takes.
//! Invariant: no bytes of the server make this panic or wait for more than `MESSAGE_BYTES_MAX`; what is no message is an
//! error.
//!
//! Not here: which message may come when (`pg_client`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest message that is taken; the server sends WAL in parts of 128 KiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;

/// Bytes that are no message; the text says which message they pretend to be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// A row of text columns.
pub type Row = Vec<Option<String>>;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// No password is wanted.
    Welcome,
    /// Another request about who we are.
    Authentication(u32),
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
    /// Something said beside the point: a notice, a setting, the columns to come, a key to cancel with.
    Aside,
    /// A message of this type, which is none of the above.
    Other(u8),
}

/// Takes the next whole message off `buffer`; `None` if it has not arrived in full.
///
/// # Errors
/// What is there is no message; the connection is of no more use.
pub fn next(buffer: &mut BytesMut) -> Result<Option<Answer>, Malformed> {
    let Some((&kind, mut head)) = buffer.split_first() else { return Ok(None) };
    let Ok(len) = head.try_get_u32() else { return Ok(None) };
    // The length counts itself.
    let body = usize::try_from(len).ok().and_then(|len| len.checked_sub(4));
    let body = body.filter(|body| *body <= MESSAGE_BYTES_MAX).ok_or(Malformed("length"))?;
    if head.len() < body {
        return Ok(None);
    }
    buffer.advance(5);
    let body = buffer.split_to(body).freeze();
    answer(kind, body).map(Some)
}

fn answer(kind: u8, mut body: Bytes) -> Result<Answer, Malformed> {
    Ok(match kind {
        b'R' => match body.try_get_u32().map_err(|_| Malformed("Authentication"))? {
            0 => Answer::Welcome,
            wanted => Answer::Authentication(wanted),
        },
        b'Z' => Answer::Ready,
        b'D' => Answer::Row(row(body).ok_or(Malformed("DataRow"))?),
        b'C' => Answer::Complete,
        b'W' => Answer::CopyBoth,
        b'd' => Answer::CopyData(body),
        b'c' => Answer::CopyDone,
        b'E' => error(body).ok_or(Malformed("ErrorResponse"))?,
        b'N' | b'S' | b'T' | b'K' => Answer::Aside,
        other => Answer::Other(other),
    })
}

fn row(mut body: Bytes) -> Option<Row> {
    let columns = body.try_get_u16().ok()?;
    let row = (0..columns).map(|_| column(&mut body)).collect::<Option<Row>>()?;
    body.is_empty().then_some(row)
}

/// A length, below zero for null, and that many bytes.
fn column(body: &mut Bytes) -> Option<Option<String>> {
    let Ok(len) = usize::try_from(body.try_get_i32().ok()?) else { return Some(None) };
    let value = String::from_utf8_lossy(body.get(..len)?).into_owned();
    body.advance(len);
    Some(Some(value))
}

/// Fields of one byte and a text that ends in a zero, then a zero.
fn error(mut body: Bytes) -> Option<Answer> {
    let (mut code, mut message) = (String::new(), String::new());
    loop {
        let field = body.try_get_u8().ok()?;
        if field == 0 {
            return Some(Answer::Error { code, message });
        }
        let len = body.iter().position(|byte| *byte == 0)?;
        let text = body.split_to(len);
        body.advance(1);
        match field {
            b'C' => code = String::from_utf8_lossy(&text).into_owned(),
            b'M' => message = String::from_utf8_lossy(&text).into_owned(),
            _ => {}
        }
    }
}

/// The first message of a connection: settings by name.
pub fn startup(settings: &[(&str, &str)]) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for (name, value) in settings {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    [&length(body.len()).to_be_bytes()[..], &body].concat()
}

/// A command.
pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), &[0]].concat())
}

/// Part of a copy.
pub fn copy_data(body: &[u8]) -> Vec<u8> {
    message(b'd', body)
}

/// The end of our side of a copy.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// Goodbye.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.put_u8(kind);
    bytes.put_u32(length(body.len()));
    bytes.put_slice(body);
    bytes
}

/// What we send is short.
fn length(body: usize) -> u32 {
    u32::try_from(body + 4).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A message as a server sends it.
    pub fn said(kind: u8, body: &[u8]) -> Vec<u8> {
        message(kind, body)
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
            (said(b'R', &[0, 0, 0, 3]), Answer::Authentication(3)),
            (said(b'D', &row), Answer::Row(vec![Some("x".to_owned()), None])),
            (said_error("57P03", "it starts"), failed),
            (said(b'd', b"wal"), Answer::CopyData(Bytes::from_static(b"wal"))),
            (said(b'Z', b"I"), Answer::Ready),
            (said(b'N', b"Mnote\0\0"), Answer::Aside),
            (said(b'?', b"x"), Answer::Other(b'?')),
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
                    Answer::Welcome | Answer::Authentication(_) | Answer::Row(_) | Answer::Error { .. } => {
                        assert!(cut.is_err(), "{answer:?} of {len} bytes is {cut:?}");
                    }
                    _ => assert_eq!(cut.unwrap().len(), 1),
                }
            }
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_at_once() {
        for len in [0u32, 3, 17 << 20, u32::MAX] {
            let bytes = [&b"d"[..], &len.to_be_bytes()].concat();
            assert_eq!(all(&bytes), Err(Malformed("length")), "length {len}");
        }
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
