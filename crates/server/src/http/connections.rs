//! Who is connected to the API: how many at once, and who goes when more come.
//!
//! A connection costs a descriptor before any key is looked at, so strangers could take all of them, and endpoints and
//! stores need some. When there are as many as may be, a new one takes the place of the one that has asked for nothing
//! for the longest time. One with a request under way keeps its place.
//!
//! Not here: how long the head of a request may take (`serve`), its body (`access`).

use std::collections::HashMap;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::limits::{CONNECTIONS, CONNECTIONS_OF_PEER, CONNECTIONS_PART};

/// All connections.
pub struct Connections {
    most: usize,
    most_of_peer: usize,
    open: Mutex<HashMap<SocketAddr, Open>>,
    /// Counts what happens: the smaller, the longer ago.
    clock: AtomicU64,
}

/// One connection.
struct Open {
    id: u64,
    /// When its last request ended, or it began.
    idle_since: u64,
    requests: usize,
    end: oneshot::Sender<()>,
}

impl Default for Connections {
    /// As many as the limits say, and no more than a part of the descriptors that this process may have.
    fn default() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let most = CONNECTIONS.min(descriptors / CONNECTIONS_PART);
        Self::new(most, CONNECTIONS_OF_PEER.min(most))
    }
}

impl Connections {
    fn new(most: usize, most_of_peer: usize) -> Self {
        Self { most, most_of_peer, open: Mutex::default(), clock: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a new connection in, in the place of an idle one if there are too many.
    ///
    /// # Errors
    /// If all others have requests under way.
    fn admit(self: &Arc<Self>, peer: SocketAddr) -> io::Result<(Connected, oneshot::Receiver<()>)> {
        let mut open = self.open.lock();
        let of_peer = |address: &SocketAddr| address.ip() == peer.ip();
        if open.len() >= self.most {
            make_room(&mut open, |_| true)?;
        }
        if open.keys().filter(|address| of_peer(address)).count() >= self.most_of_peer {
            make_room(&mut open, of_peer)?;
        }
        let (end, ended) = oneshot::channel();
        let id = self.now();
        open.insert(peer, Open { id, idle_since: id, requests: 0, end });
        Ok((Connected { all: Arc::clone(self), peer, id }, ended))
    }

    /// Notes that a request is under way, until the result is dropped.
    pub fn request(self: &Arc<Self>, peer: SocketAddr) -> Busy {
        if let Some(open) = self.open.lock().get_mut(&peer) {
            open.requests += 1;
        }
        Busy { all: Arc::clone(self), peer }
    }
}

/// Ends the connection that has been idle for the longest time.
fn make_room(open: &mut HashMap<SocketAddr, Open>, among: impl Fn(&SocketAddr) -> bool) -> io::Result<()> {
    let idle = open.iter().filter(|(address, it)| it.requests == 0 && among(address));
    let longest = idle.min_by_key(|(_, it)| it.idle_since).map(|(address, _)| *address);
    let Some(gone) = longest.and_then(|address| open.remove(&address)) else {
        return Err(io::Error::other("too many connections with requests under way"));
    };
    let _ = gone.end.send(());
    Ok(())
}

/// A connection that is counted until this is dropped.
struct Connected {
    all: Arc<Connections>,
    peer: SocketAddr,
    id: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut open = self.all.open.lock();
        // Its place may be another's, of a client that has the same port again.
        if open.get(&self.peer).is_some_and(|it| it.id == self.id) {
            open.remove(&self.peer);
        }
    }
}

/// A request under way.
pub struct Busy {
    all: Arc<Connections>,
    peer: SocketAddr,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = self.all.now();
        if let Some(open) = self.all.open.lock().get_mut(&self.peer) {
            open.requests = open.requests.saturating_sub(1);
            open.idle_since = now;
        }
    }
}

/// Counts connections as they come in.
#[derive(Clone)]
pub struct Counting(pub Arc<Connections>);

impl<S> Accept<TcpStream, S> for Counting {
    type Stream = Counted;
    type Service = S;
    type Future = Ready<io::Result<(Counted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let counted = stream.peer_addr().and_then(|peer| {
            let (connected, end) = self.0.admit(peer)?;
            Ok(Counted { _connected: connected, end: Some(end), stream })
        });
        ready(counted.map(|stream| (stream, service)))
    }
}

/// A connection that ends when another needs its place.
pub struct Counted {
    _connected: Connected,
    end: Option<oneshot::Receiver<()>>,
    stream: TcpStream,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && Pin::new(end).poll(context).is_ready()
        {
            self.end = None;
        }
        if self.end.is_none() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn peer(address: u8, port: u16) -> SocketAddr {
        (IpAddr::from([10, 0, 0, address]), port).into()
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_idle_for_longest() {
        let all = Arc::new(Connections::new(2, 2));
        let (_first, mut first_ends) = all.admit(peer(1, 1)).unwrap();
        let (_second, mut second_ends) = all.admit(peer(1, 2)).unwrap();
        drop(all.request(peer(1, 1)));
        let (_third, _third_ends) = all.admit(peer(1, 3)).unwrap();
        assert!(second_ends.try_recv().is_ok(), "it asked for nothing for longest");
        assert!(first_ends.try_recv().is_err());
        assert_eq!(all.open.lock().len(), 2);
    }

    #[test]
    fn one_with_a_request_under_way_keeps_its_place() {
        let all = Arc::new(Connections::new(2, 2));
        let kept: Vec<_> = (1..=2).map(|port| all.admit(peer(1, port)).unwrap()).collect();
        let busy: Vec<_> = (1..=2).map(|port| all.request(peer(1, port))).collect();
        assert!(all.admit(peer(1, 3)).is_err());
        drop(busy);
        assert!(all.admit(peer(1, 3)).is_ok());
        drop(kept);
        assert!(all.open.lock().is_empty());
    }

    #[test]
    fn one_address_does_not_take_every_place() {
        let all = Arc::new(Connections::new(3, 2));
        let (_a, mut a_ends) = all.admit(peer(1, 1)).unwrap();
        let (_b, _b_ends) = all.admit(peer(1, 2)).unwrap();
        let (_c, _c_ends) = all.admit(peer(1, 3)).unwrap();
        assert!(a_ends.try_recv().is_ok());
        assert!(all.admit(peer(2, 1)).is_ok());
    }
}
