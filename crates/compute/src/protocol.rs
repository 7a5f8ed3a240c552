//! What `scion compute` asks of the page service in `scion serve`, and how it is put on a unix stream socket.
//!
//! ```text
//! frame:  u32 header bytes | u32 payload bytes | header (postcard) | payload (raw)      little-endian
//! ```
//!
//! One request, one reply, in turn; a client wanting parallel reads opens more connections. Pages and WAL travel as
//! payload, so that they are never copied through the serializer. The first request on a connection is `Hello`; it
//! names the branch all others speak of. A peer that breaks the format is cut off, never trusted with an allocation:
//! lengths are limits on what is read, not sizes reserved up front.
//!
//! Not here: reconnecting (`client`), what the answers mean for a data directory (`datadir`).

mod serve;
mod wire;

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use types::{Lsn, RelFork, SlruKind, StateAt, TimelineId};

use crate::limits::MESSAGE_PART_BYTES;

pub use serve::{BranchService, PageService, serve_connection};

/// Version of this protocol; both sides come from one binary, a mismatch is a running endpoint of an older one.
///
/// 1: a state has the pages of every SLRU. Who speaks it runs already, and gets everything but another start.
pub const PROTOCOL_VERSION: u32 = 2;
/// Most pages in one read.
pub const READ_PAGES_MAX: u32 = 1024;

/// First request of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// `PROTOCOL_VERSION` of the client.
    pub version: u32,
    /// Project of the branch.
    pub project: String,
    /// Branch that is read and written.
    pub branch: String,
    /// Endpoint that asks.
    pub endpoint: String,
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Opens the connection.
    Hello(Hello),
    /// End of the last whole durable record of the branch.
    Head,
    /// A new timeline that begins at the head; fences all older ones.
    BeginTimeline,
    /// WAL of the running timeline; the bytes are the payload.
    AppendWal {
        /// Timeline that the bytes belong to.
        #[serde(with = "wire::timeline")]
        timeline: TimelineId,
        /// Position of the first byte.
        #[serde(with = "wire::lsn")]
        at: Lsn,
    },
    /// WAL found after an unclean stop; the bytes are the payload. What is not a valid record ends the log.
    AppendTail {
        /// Timeline that the bytes belong to.
        #[serde(with = "wire::timeline")]
        timeline: TimelineId,
        /// Position of the first byte.
        #[serde(with = "wire::lsn")]
        at: Lsn,
    },
    /// Consecutive pages of one fork at an LSN.
    ReadPages {
        /// The moment read at.
        #[serde(with = "wire::lsn")]
        lsn: Lsn,
        /// The fork.
        #[serde(with = "wire::rel_fork")]
        rel: RelFork,
        /// First block.
        first: u32,
        /// Blocks, at most `READ_PAGES_MAX`.
        count: u32,
    },
    /// Everything at an LSN that is not a relation's page.
    StateAt {
        /// The moment read at.
        #[serde(with = "wire::lsn")]
        lsn: Lsn,
    },
    /// Bytes of the WAL segment that holds an LSN, from the segment's start to that LSN.
    SegmentPrefix {
        /// The end of the prefix.
        #[serde(with = "wire::lsn")]
        lsn: Lsn,
    },
    /// Consecutive pages of an SLRU at an LSN; zeros where there is none.
    ReadSlru {
        /// The moment read at.
        #[serde(with = "wire::lsn")]
        lsn: Lsn,
        /// Which.
        #[serde(with = "wire::slru_kind")]
        kind: SlruKind,
        /// First page.
        first: u32,
        /// Pages, at most `READ_PAGES_MAX`.
        count: u32,
    },
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Welcome,
    /// To `Head` and `AppendWal`: WAL is durable up to here.
    Durable(#[serde(with = "wire::lsn")] Lsn),
    /// To `AppendTail`.
    Tail(TailProgress),
    /// To `BeginTimeline`.
    Timeline(Box<NewTimeline>),
    /// To `StateAt`.
    State(#[serde(with = "wire::boxed_state")] Box<StateAt>),
    /// To `ReadPages`, `ReadSlru` and `SegmentPrefix`: the answer is the payload.
    Bytes,
    /// The request failed; the connection stays usable.
    Failed(Failure),
}

/// How far a tail could be taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TailProgress {
    /// End of the last whole durable record.
    #[serde(with = "wire::lsn")]
    pub head: Lsn,
    /// True when the bytes held something that is no record: the log ends at `head`.
    pub ended: bool,
}

/// What a cold start begins with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NewTimeline {
    /// Timeline to write on.
    #[serde(with = "wire::timeline")]
    pub timeline: TimelineId,
    /// Where it begins: the head of the branch.
    #[serde(with = "wire::lsn")]
    pub start: Lsn,
    /// Bytes of one WAL segment.
    pub segment_bytes: u64,
    /// System identifier of the cluster.
    pub system_id: u64,
    /// `CATALOG_VERSION_NO` of the cluster; part of tablespace directory names.
    pub catalog_version: u32,
    /// `pg_control` as it was imported (8192 bytes): what never changes is taken from it.
    pub control_template: Vec<u8>,
    /// Older timelines of the branch, oldest first, and where each ended.
    #[serde(with = "wire::history")]
    pub history: Vec<(TimelineId, Lsn)>,
    /// Everything at `start` that is not a relation's page.
    #[serde(with = "wire::State")]
    pub state: StateAt,
}

/// What a caller can do about a failed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// A newer timeline of the branch was begun; this endpoint must stop.
    Fenced,
    /// No such project, branch, relation or block.
    NotFound,
    /// Try again later.
    Unavailable,
    /// The store holds a record it cannot apply.
    Unsupported,
    /// Stored bytes are damaged.
    Corrupt,
    /// The request makes no sense here.
    Invalid,
}

impl FailureKind {
    /// Whether a running endpoint must end when the store answers its log so: another endpoint writes the branch, or
    /// there is no such branch any more. Everything else is a condition of the store, which may pass.
    pub fn ends_a_writer(self) -> bool {
        match self {
            Self::Fenced | Self::NotFound => true,
            Self::Unavailable | Self::Unsupported | Self::Corrupt | Self::Invalid => false,
        }
    }

    /// Whether asking again later may help whoever asked for anything but to have log taken.
    pub fn passes(self) -> bool {
        match self {
            Self::Unavailable => true,
            Self::Fenced | Self::NotFound | Self::Unsupported | Self::Corrupt | Self::Invalid => false,
        }
    }
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What can be done about it.
    pub kind: FailureKind,
    /// For people; names the object.
    pub text: String,
}

impl Failure {
    /// A failure of `kind` described by `text`.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Writes one frame: `header` serialized, `payload` as it is.
///
/// # Errors
/// Those of the stream; a part above 1 GiB is `InvalidInput`.
pub fn write_frame(stream: &mut impl Write, header: &impl Serialize, payload: &[u8]) -> io::Result<()> {
    let mut head = postcard::to_extend(header, vec![0; 8]).map_err(io::Error::other)?;
    let part_len = |bytes: usize| -> io::Result<[u8; 4]> {
        let len = u32::try_from(bytes).ok().filter(|&len| len <= MESSAGE_PART_BYTES);
        len.map(u32::to_le_bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame above 1 GiB"))
    };
    let header_len = part_len(head.len().saturating_sub(8))?;
    let payload_len = part_len(payload.len())?;
    for (slot, byte) in head.iter_mut().zip(header_len.into_iter().chain(payload_len)) {
        *slot = byte;
    }
    stream.write_all(&head)?;
    stream.write_all(payload)?;
    stream.flush()
}

/// Reads one frame; the payload replaces what `payload` holds. `None` when the peer closed between frames.
///
/// # Errors
/// Those of the stream; `InvalidData` for what is not a frame of `T`.
pub fn read_frame<T: DeserializeOwned>(
    stream: &mut impl Read,
    payload: &mut Vec<u8>,
) -> io::Result<Option<T>> {
    let Some((header_bytes, payload_bytes)) = read_lengths(stream)? else {
        return Ok(None);
    };
    let mut header = Vec::new();
    read_part(stream, header_bytes, &mut header)?;
    payload.clear();
    read_part(stream, payload_bytes, payload)?;
    decode(&header).map(Some)
}

/// Reads a reply whose payload must be exactly `out.len()` bytes and belongs straight into `out`.
///
/// Replies without that payload (a failure) leave `out` as it is.
///
/// # Errors
/// Those of the stream; `InvalidData` for another payload length.
pub fn read_reply_into(stream: &mut impl Read, out: &mut [u8]) -> io::Result<Reply> {
    let (header_bytes, payload_bytes) =
        read_lengths(stream)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let mut header = Vec::new();
    read_part(stream, header_bytes, &mut header)?;
    let reply: Reply = decode(&header)?;
    match reply {
        Reply::Bytes if payload_bytes as usize == out.len() => stream.read_exact(out)?,
        _ if payload_bytes == 0 => {}
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "reply of a wrong length")),
    }
    Ok(reply)
}

fn read_lengths(stream: &mut impl Read) -> io::Result<Option<(u32, u32)>> {
    let mut lengths = [0; 8];
    let mut have = 0;
    while let Some(rest) = lengths.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [a, b, c, d, e, f, g, h] = lengths;
    let parts = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if parts.0.max(parts.1) > MESSAGE_PART_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame above 1 GiB"));
    }
    Ok(Some(parts))
}

fn read_part(stream: &mut impl Read, bytes: u32, out: &mut Vec<u8>) -> io::Result<()> {
    out.reserve((bytes as usize).min(1 << 20));
    let read = stream.take(u64::from(bytes)).read_to_end(out)?;
    if read == bytes as usize { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn decode<T: DeserializeOwned>(header: &[u8]) -> io::Result<T> {
    postcard::from_bytes(header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
pub(crate) mod tests;
