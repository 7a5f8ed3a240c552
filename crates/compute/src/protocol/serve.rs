//! The server's side of one connection: requests in, calls on a `BranchService`, replies out.
//!
//! `scion serve` implements the two traits over its store and gives each accepted connection a blocking thread.

use std::io::{self, Read, Write};
use std::sync::Arc;

use types::{BlockNumber, Lsn, RelFork, SlruKind, StateAt, TimelineId};

use super::{
    Failure, FailureKind, Hello, NewTimeline, PROTOCOL_VERSION, READ_PAGES_MAX, Reply, Request, TailProgress,
    read_frame, write_frame,
};

/// Finds the branch a connection speaks of.
pub trait PageService: Send + Sync {
    /// The branch named by `hello`, if this endpoint may use it.
    ///
    /// # Errors
    /// `NotFound` for an unknown project or branch.
    fn hello(&self, hello: &Hello) -> Result<Arc<dyn BranchService>, Failure>;
}

/// What an endpoint may do with its branch. Called from many threads at once.
pub trait BranchService: Send + Sync {
    /// End of the last whole durable record.
    ///
    /// # Errors
    /// Any failure of the store.
    fn head(&self) -> Result<Lsn, Failure>;

    /// Begins a new timeline at the head and fences all older ones.
    ///
    /// # Errors
    /// Any failure of the store.
    fn begin_timeline(&self) -> Result<NewTimeline, Failure>;

    /// Makes `bytes` of WAL durable; returns up to where the branch's WAL is durable now. Bytes already held are
    /// accepted again.
    ///
    /// # Errors
    /// `Fenced` for an older timeline, `Invalid` for a gap.
    fn append_wal(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<Lsn, Failure>;

    /// As `append_wal`, for WAL left by an unclean stop: what is not a record ends the log.
    ///
    /// # Errors
    /// As `append_wal`.
    fn append_tail(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<TailProgress, Failure>;

    /// Fills `out`, whole pages of `rel` from block `first` on, as of `lsn`, with checksums.
    ///
    /// # Errors
    /// `NotFound` beyond the fork's end, `Unsupported` or `Corrupt` if a page cannot be rebuilt.
    fn read_pages(&self, lsn: Lsn, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> Result<(), Failure>;

    /// Fills `out`, whole pages of an SLRU from page `first` on, as of `lsn`; zeros where there is none.
    ///
    /// # Errors
    /// `Unsupported` or `Corrupt` if a page cannot be rebuilt.
    fn read_slru(&self, lsn: Lsn, kind: SlruKind, first: u32, out: &mut [u8]) -> Result<(), Failure>;

    /// Everything at `lsn` that is not a relation's page.
    ///
    /// # Errors
    /// Any failure of the store.
    fn state_at(&self, lsn: Lsn) -> Result<StateAt, Failure>;

    /// The segment that holds `lsn`, from its start up to `lsn`, as a promotion there would copy it.
    ///
    /// # Errors
    /// Any failure of the store.
    fn segment_prefix(&self, lsn: Lsn) -> Result<Vec<u8>, Failure>;
}

/// Oldest version of the protocol that an endpoint may go on with.
const OLDEST_VERSION: u32 = 1;

/// Bytes that a connection's buffers may hold on to between requests: what a read of pages usually takes.
const BUFFER_KEPT_BYTES: usize = 256 << 10;

/// Answers requests on `stream` until the peer closes it.
///
/// # Errors
/// Those of the stream, and `InvalidData` for a peer that does not speak this protocol.
pub fn serve_connection<S: Read + Write>(mut stream: S, service: &dyn PageService) -> io::Result<()> {
    let mut payload = Vec::new();
    let mut answer = Vec::new();
    let mut branch: Option<(u32, Arc<dyn BranchService>)> = None;
    while let Some(request) = read_frame::<Request>(&mut stream, &mut payload)? {
        let reply = match (&request, &branch) {
            (Request::Hello(hello), _) => greet(service, hello).map(|found| {
                branch = Some((hello.version, found));
                Reply::Welcome
            }),
            (Request::BeginTimeline | Request::StateAt { .. }, Some((version, _)))
                if *version < PROTOCOL_VERSION =>
            {
                let text =
                    "this endpoint runs an older scion, which cannot start it again; stop it and start it";
                Err(Failure::new(FailureKind::Invalid, text))
            }
            (request, Some((_, branch))) => dispatch(branch.as_ref(), request, &payload, &mut answer),
            (_, None) => Err(Failure::new(FailureKind::Invalid, "the first request must be Hello")),
        };
        let reply = reply.unwrap_or_else(|failure| {
            answer.clear();
            Reply::Failed(failure)
        });
        write_frame(&mut stream, &reply, &answer)?;
        // One start reads up to a segment of WAL; a connection that then idles must not keep that much.
        for buffer in [&mut answer, &mut payload] {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_BYTES);
        }
    }
    Ok(())
}

fn greet(service: &dyn PageService, hello: &Hello) -> Result<Arc<dyn BranchService>, Failure> {
    if !(OLDEST_VERSION..=PROTOCOL_VERSION).contains(&hello.version) {
        let text = format!(
            "protocol version {} asked, {OLDEST_VERSION} to {PROTOCOL_VERSION} spoken",
            hello.version
        );
        return Err(Failure::new(FailureKind::Invalid, text));
    }
    service.hello(hello)
}

fn make_room(answer: &mut Vec<u8>, pages: u32) -> Result<(), Failure> {
    if pages > READ_PAGES_MAX {
        return Err(Failure::new(FailureKind::Invalid, format!("{pages} pages in one read")));
    }
    answer.resize(pages as usize * types::BLOCK_SIZE, 0);
    Ok(())
}

fn dispatch(
    branch: &dyn BranchService,
    request: &Request,
    payload: &[u8],
    answer: &mut Vec<u8>,
) -> Result<Reply, Failure> {
    Ok(match *request {
        Request::Hello(_) => Reply::Welcome,
        Request::Head => Reply::Durable(branch.head()?),
        Request::BeginTimeline => Reply::Timeline(Box::new(branch.begin_timeline()?)),
        Request::AppendWal { timeline, at } => Reply::Durable(branch.append_wal(timeline, at, payload)?),
        Request::AppendTail { timeline, at } => Reply::Tail(branch.append_tail(timeline, at, payload)?),
        Request::ReadSlru { lsn, kind, first, count } => {
            make_room(answer, count)?;
            branch.read_slru(lsn, kind, first, answer)?;
            Reply::Bytes
        }
        Request::ReadPages { lsn, rel, first, count } => {
            make_room(answer, count)?;
            branch.read_pages(lsn, rel, BlockNumber::new(first), answer)?;
            Reply::Bytes
        }
        Request::StateAt { lsn } => Reply::State(Box::new(branch.state_at(lsn)?)),
        Request::SegmentPrefix { lsn } => {
            *answer = branch.segment_prefix(lsn)?;
            Reply::Bytes
        }
    })
}
