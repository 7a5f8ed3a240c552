//! The page service as an endpoint calls it: a pool of connections that outlives restarts of `scion serve`.
//!
//! Every request may be sent twice (the service takes WAL it already holds as new), so a lost connection is answered
//! by asking again, for ever, with a growing pause. So is "later". Only a refusal by the store, or `cancel`, ends a call;
//! a call that has the log of a running Postgres taken waits out refusals too, unless the branch is another's or gone.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use types::{BLOCK_SIZE, BlockNumber, Lsn, RelFork, SlruKind, TimelineId};

use crate::EndpointSpec;
use crate::limits::{IDLE_CONNECTIONS, PAGE_TIMEOUT, SEND_TIMEOUT};
use crate::protocol::{
    Failure, FailureKind, Hello, NewTimeline, PROTOCOL_VERSION, READ_PAGES_MAX, Reply, Request, TailProgress,
    read_frame, read_reply_into, write_frame,
};
use crate::waiting::Waiting;

/// First and longest pause between two tries.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Why a call ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `Client::cancel` was called.
    #[error("cancelled")]
    Cancelled,
    /// The store refused; asking again would not help.
    #[error("{0}")]
    Refused(Failure),
    /// A reply that does not answer the request.
    #[error("a reply of the wrong kind")]
    Unexpected,
}

/// Calls the page service for one branch. Shared by threads; each call takes a connection of its own.
pub struct Client {
    socket: PathBuf,
    hello: Hello,
    idle: Mutex<Vec<Arc<UnixStream>>>,
    /// Those of calls that are under way.
    busy: Mutex<Vec<Arc<UnixStream>>>,
    cancelled: AtomicBool,
    pause: Mutex<()>,
    wake: Condvar,
    waiting: Arc<Waiting>,
}

impl Client {
    /// A client for the spec's branch; connects at the first call.
    pub fn new(spec: &EndpointSpec) -> Self {
        let hello = Hello {
            version: PROTOCOL_VERSION,
            project: spec.project.clone(),
            branch: spec.branch.clone(),
            endpoint: spec.endpoint.clone(),
        };
        Self {
            socket: spec.serve_socket.clone(),
            hello,
            idle: Mutex::default(),
            busy: Mutex::default(),
            cancelled: AtomicBool::new(false),
            pause: Mutex::default(),
            wake: Condvar::new(),
            waiting: Arc::default(),
        }
    }

    /// The same client, whose calls that wait are listed in `waiting`.
    pub fn listed_in(mut self, waiting: &Arc<Waiting>) -> Self {
        self.waiting = Arc::clone(waiting);
        self
    }

    /// Ends every call that waits for the service, now and later, with `Cancelled`; also one that waits for the answer of a
    /// service that was stopped.
    pub fn cancel(&self) {
        {
            let _guard = self.pause.lock();
            self.cancelled.store(true, Ordering::SeqCst);
            self.wake.notify_all();
        }
        for stream in self.busy.lock().iter() {
            stream.shutdown(Shutdown::Both).ok(); // the service may have closed it
        }
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// End of the last whole durable record of the branch.
    ///
    /// # Errors
    /// See `ClientError`; so for all calls.
    pub fn head(&self) -> Result<Lsn, ClientError> {
        match self.call(&Request::Head, &[])?.0 {
            Reply::Durable(lsn) => Ok(lsn),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Begins a new timeline. Asked twice it skips a number, which is harmless.
    ///
    /// # Errors
    /// See `ClientError`.
    pub fn begin_timeline(&self) -> Result<NewTimeline, ClientError> {
        match self.call(&Request::BeginTimeline, &[])?.0 {
            Reply::Timeline(timeline) => Ok(*timeline),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// The WAL segment that holds `lsn`, up to `lsn`.
    ///
    /// # Errors
    /// See `ClientError`.
    pub fn segment_prefix(&self, lsn: Lsn) -> Result<Vec<u8>, ClientError> {
        match self.call(&Request::SegmentPrefix { lsn }, &[])? {
            (Reply::Bytes, bytes) => Ok(bytes),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Makes WAL of a running server durable; returns up to where it is. Waits for as long as the store does not take
    /// it, whatever the reason.
    ///
    /// # Errors
    /// `Refused` when a newer timeline was begun or the branch is gone, `Cancelled`.
    pub fn append_wal(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<Lsn, ClientError> {
        let request = Request::AppendWal { timeline, at };
        let waits = |kind: FailureKind| !kind.ends_a_writer();
        match self.call_while(waits, &request, bytes)?.0 {
            Reply::Durable(lsn) => Ok(lsn),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Makes WAL left by an unclean stop durable, as far as it is WAL.
    ///
    /// # Errors
    /// `Refused` with `Fenced` when a newer timeline was begun.
    pub fn append_tail(
        &self,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<TailProgress, ClientError> {
        match self.call(&Request::AppendTail { timeline, at }, bytes)?.0 {
            Reply::Tail(progress) => Ok(progress),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Fills `out`, whole pages of `rel` from `first` on, as of `lsn`.
    ///
    /// # Errors
    /// See `ClientError`.
    pub fn read_pages(
        &self,
        lsn: Lsn,
        rel: RelFork,
        first: BlockNumber,
        out: &mut [u8],
    ) -> Result<(), ClientError> {
        self.read(out, first.get(), |first, count| Request::ReadPages { lsn, rel, first, count })
    }

    /// Fills `out`, whole pages of an SLRU from `first` on, as of `lsn`; zeros where there is none.
    ///
    /// # Errors
    /// See `ClientError`.
    pub fn read_slru(&self, lsn: Lsn, kind: SlruKind, first: u32, out: &mut [u8]) -> Result<(), ClientError> {
        self.read(out, first, |first, count| Request::ReadSlru { lsn, kind, first, count })
    }

    /// Fills `out` by as many requests as it takes.
    fn read(
        &self,
        out: &mut [u8],
        mut first: u32,
        request: impl Fn(u32, u32) -> Request,
    ) -> Result<(), ClientError> {
        for part in out.chunks_mut(READ_PAGES_MAX as usize * BLOCK_SIZE) {
            let count = u32::try_from(part.len() / BLOCK_SIZE).unwrap_or(READ_PAGES_MAX);
            let request = request(first, count);
            let reply = self.retry(FailureKind::passes, || {
                self.exchange(|mut stream| {
                    stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
                    write_frame(&mut stream, &request, &[])?;
                    read_reply_into(&mut stream, part)
                })
            })?;
            if !matches!(reply, Reply::Bytes) {
                return Err(ClientError::Unexpected);
            }
            first = first.saturating_add(count);
        }
        Ok(())
    }

    fn call(&self, request: &Request, payload: &[u8]) -> Result<(Reply, Vec<u8>), ClientError> {
        self.call_while(FailureKind::passes, request, payload)
    }

    /// One call, made again for as long as it fails in a way that `waits` says yes to.
    fn call_while(
        &self,
        waits: impl Fn(FailureKind) -> bool,
        request: &Request,
        payload: &[u8],
    ) -> Result<(Reply, Vec<u8>), ClientError> {
        let mut answer = Vec::new();
        let reply = self.retry(waits, || {
            self.exchange(|mut stream| {
                stream.set_read_timeout(None)?;
                write_frame(&mut stream, request, payload)?;
                let reply = read_frame(&mut stream, &mut answer)?;
                reply
                    .filter(|reply| answers(request, reply))
                    .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            })
        })?;
        Ok((reply, answer))
    }

    /// Tries until the service answers with something that is not waited out.
    fn retry(
        &self,
        waits: impl Fn(FailureKind) -> bool,
        mut exchange: impl FnMut() -> io::Result<Reply>,
    ) -> Result<Reply, ClientError> {
        let (mut pause, longest) = RETRY_PAUSE;
        let wait = self.waiting.begin();
        loop {
            if self.cancelled.load(Ordering::SeqCst) {
                return Err(ClientError::Cancelled);
            }
            match exchange() {
                Ok(Reply::Failed(failure)) if waits(failure.kind) => {
                    if wait.because(&failure.text) {
                        tracing::warn!("page service: {failure}");
                    }
                }
                Ok(Reply::Failed(failure)) => return Err(ClientError::Refused(failure)),
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    if wait.because("scion serve does not answer") {
                        tracing::debug!("page service is away: {error}");
                    }
                }
            }
            let mut guard = self.pause.lock();
            if !self.cancelled.load(Ordering::SeqCst) {
                self.wake.wait_for(&mut guard, pause);
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// One request and its reply on one connection, which goes back to the pool only if all went well.
    fn exchange(&self, talk: impl FnOnce(&UnixStream) -> io::Result<Reply>) -> io::Result<Reply> {
        let idle = self.idle.lock().pop();
        let mut welcome = idle.is_some();
        let stream = match idle {
            Some(stream) => stream,
            None => Arc::new(connect(&self.socket)?),
        };
        self.busy.lock().push(Arc::clone(&stream));
        let answer = if self.is_cancelled() {
            Err(io::ErrorKind::Interrupted.into()) // `cancel` may have come before
        } else if !welcome && let Some(failure) = self.greet(&stream).transpose() {
            failure.map(Reply::Failed)
        } else {
            welcome = true;
            talk(&stream)
        };
        self.busy.lock().retain(|busy| !Arc::ptr_eq(busy, &stream));
        let mut idle = self.idle.lock();
        match &answer {
            Ok(_) if welcome && idle.len() < IDLE_CONNECTIONS => idle.push(stream),
            Ok(_) => {}
            Err(_) => idle.clear(), // the others are most likely dead too
        }
        answer
    }

    /// Says on a new connection who we are; gives the refusal, if it is one.
    fn greet(&self, mut stream: &UnixStream) -> io::Result<Option<Failure>> {
        stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
        write_frame(&mut stream, &Request::Hello(self.hello.clone()), &[])?;
        match read_frame(&mut stream, &mut Vec::new())? {
            Some(Reply::Welcome) => Ok(None),
            Some(Reply::Failed(failure)) => Ok(Some(failure)),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "no welcome")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A connection whose writes have a deadline, as connecting has: both wait while a server takes nothing.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC;
    let stream = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
    rustix::net::connect(&stream, &address)?;
    Ok(stream.into())
}

/// Whether a reply can be one to a request; a service that answers something else is taken for one that is away.
fn answers(request: &Request, reply: &Reply) -> bool {
    match reply {
        Reply::Failed(_) => true,
        Reply::Welcome => matches!(request, Request::Hello(_)),
        Reply::Durable(_) => matches!(request, Request::Head | Request::AppendWal { .. }),
        Reply::Tail(_) => matches!(request, Request::AppendTail { .. }),
        Reply::Timeline(_) => matches!(request, Request::BeginTimeline),
        Reply::State(_) => matches!(request, Request::StateAt { .. }),
        Reply::Bytes => matches!(
            request,
            Request::ReadPages { .. } | Request::ReadSlru { .. } | Request::SegmentPrefix { .. }
        ),
    }
}

/// The pages of a branch at one LSN, as the file system reads them.
pub struct StorePages {
    /// The service.
    pub client: Arc<Client>,
    /// The LSN the endpoint started from.
    pub lsn: Lsn,
}

impl fs::PageSource for StorePages {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        self.client.read_pages(self.lsn, rel, first, out).map_err(io::Error::other)
    }

    fn read_slru(&self, kind: SlruKind, first: u32, out: &mut [u8]) -> io::Result<()> {
        self.client.read_slru(self.lsn, kind, first, out).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn client(socket: PathBuf) -> Arc<Client> {
        let spec = EndpointSpec {
            project: "p".to_owned(),
            branch: "b".to_owned(),
            endpoint: "e".to_owned(),
            dir: PathBuf::from("/nonexistent"),
            serve_socket: socket,
            pg_bin: PathBuf::new(),
            port: 1,
            run_as: None,
            reaches: Vec::new(),
            owner_extensions: Vec::new(),
            superuser: "postgres".to_owned(),
            admission: crate::Admission::Everybody,
            passwords: crate::Passwords::default(),
            tls: None,
            read_only: false,
            logical: false,
            settings: Default::default(),
        };
        Arc::new(Client::new(&spec))
    }

    /// Answers one connection: a welcome, then `replies`, then hangs up.
    fn answer_once(listener: &UnixListener, replies: &[Reply]) {
        let (mut stream, _) = listener.accept().unwrap();
        for reply in [Reply::Welcome].iter().chain(replies) {
            if read_frame::<Request>(&mut stream, &mut Vec::new()).unwrap().is_none() {
                return;
            }
            write_frame(&mut stream, reply, &[]).unwrap();
        }
    }

    #[test]
    fn a_call_outlives_restarts_of_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("serve.sock");
        let client = client(socket.clone());
        let call = std::thread::spawn({
            let client = Arc::clone(&client);
            move || (client.head(), client.head())
        });
        let head = |raw| Reply::Durable(Lsn::from_raw(raw).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        let listener = UnixListener::bind(&socket).unwrap();
        answer_once(&listener, &[head(8)]);
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let listener = UnixListener::bind(&socket).unwrap();
        let later = Reply::Failed(Failure::new(FailureKind::Unavailable, "later"));
        answer_once(&listener, &[later, head(16)]);
        let (first, second) = call.join().unwrap();
        assert_eq!((first.unwrap().raw(), second.unwrap().raw()), (8, 16));
    }

    /// A store that said no for any reason but a fence once ended a running Postgres.
    #[test]
    fn log_waits_for_the_store_whatever_it_says_until_the_branch_is_anothers_or_gone() {
        use FailureKind::{Corrupt, Fenced, Invalid, NotFound, Unavailable, Unsupported};
        for last in [Fenced, NotFound] {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("serve.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let waiting = Arc::new(Waiting::default());
            let client = Arc::try_unwrap(client(socket)).ok().unwrap().listed_in(&waiting);
            let failed = |kind| Reply::Failed(Failure::new(kind, format!("{kind:?}")));
            let append = move || {
                client.append_wal(TimelineId::new(1), Lsn::from_raw(8).unwrap(), &[0; 8]).unwrap_err()
            };
            let call = std::thread::spawn(append);
            answer_once(&listener, &[Unavailable, Unsupported, Corrupt, Invalid, last].map(failed));
            let ClientError::Refused(failure) = call.join().unwrap() else { panic!("it was refused") };
            assert_eq!(failure.kind, last);
            assert_eq!(waiting.reason(), None, "nothing waits any more");
        }
    }

    /// A stopped server still has its socket, and its kernel takes connections for it.
    #[test]
    fn cancel_ends_a_call_that_waits_for_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("serve.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = client(socket);
        let call = std::thread::spawn({
            let client = Arc::clone(&client);
            move || client.head()
        });
        let (mut stream, _) = listener.accept().unwrap();
        read_frame::<Request>(&mut stream, &mut Vec::new()).unwrap();
        write_frame(&mut stream, &Reply::Welcome, &[]).unwrap();
        read_frame::<Request>(&mut stream, &mut Vec::new()).unwrap();
        client.cancel();
        assert!(matches!(call.join().unwrap(), Err(ClientError::Cancelled)));
    }

    #[test]
    fn a_burst_of_calls_leaves_a_bounded_number_of_connections() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("serve.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = client(socket);
        let calls: Vec<_> = (0..3 * IDLE_CONNECTIONS)
            .map(|_| {
                let client = Arc::clone(&client);
                std::thread::spawn(move || client.head().unwrap())
            })
            .collect();
        // Each has to have one of its own: none is answered before all have come.
        let mut streams: Vec<_> = calls.iter().map(|_| listener.accept().unwrap().0).collect();
        for reply in [Reply::Welcome, Reply::Durable(Lsn::from_raw(8).unwrap())] {
            for stream in &mut streams {
                read_frame::<Request>(stream, &mut Vec::new()).unwrap();
                write_frame(stream, &reply, &[]).unwrap();
            }
        }
        calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().raw(), 8));
        assert_eq!(client.idle.lock().len(), IDLE_CONNECTIONS);
        assert!(client.busy.lock().is_empty());
    }

    #[test]
    fn cancel_ends_a_call_that_waits_for_the_service() {
        let client = client(PathBuf::from("/nonexistent/serve.sock"));
        let call = std::thread::spawn({
            let client = Arc::clone(&client);
            move || client.head()
        });
        std::thread::sleep(Duration::from_millis(20));
        client.cancel();
        assert!(matches!(call.join().unwrap(), Err(ClientError::Cancelled)));
    }
}
