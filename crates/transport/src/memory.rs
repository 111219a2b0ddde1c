//! A network in memory, so that a whole proxy can be run without sockets: who listens where, and connections that are
//! pipes with the addresses that sockets would have.
//!
//! As on loopback, an address at which nobody listens refuses; one that is silent never answers. Bounded as sockets are:
//! a pipe holds so many bytes, a listener so many connections that nobody has accepted.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// Bytes that wait in one direction of a pipe.
const PIPE_BYTES: usize = 64 << 10;
/// Connections that nobody has accepted yet, per listener.
const BACKLOG: usize = 1024;
/// Bytes looked at ahead at a time.
const PEEK_BYTES: usize = 4 << 10;
/// Ports of those who connect, as Linux gives them.
const FIRST_PORT: u16 = 32_768;

/// One end of a connection.
#[derive(Debug)]
pub struct Pipe {
    stream: DuplexStream,
    // Bytes that were peeked and not read.
    seen: Vec<u8>,
    ends: Ends,
}

/// The addresses of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The other end's.
    pub peer: SocketAddr,
    /// What the other end dialled, when it was led here instead.
    pub dialled: Option<SocketAddr>,
}

impl Pipe {
    /// The addresses of this end.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// The bytes that are there, which stay; waits while there are none. 0 bytes: the other end is done.
    pub async fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            if self.seen.len() < buffer.len() {
                let mut more = [0; PEEK_BYTES];
                let mut more = ReadBuf::new(&mut more);
                match Pin::new(&mut self.stream).poll_read(cx, &mut more) {
                    Poll::Ready(Ok(())) => self.seen.extend_from_slice(more.filled()),
                    Poll::Ready(Err(error)) if self.seen.is_empty() => return Poll::Ready(Err(error)),
                    Poll::Pending if self.seen.is_empty() => return Poll::Pending,
                    Poll::Ready(Err(_)) | Poll::Pending => {}
                }
            }
            let length = self.seen.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.seen[..length]);
            Poll::Ready(Ok(length))
        })
        .await
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.seen.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let length = this.seen.len().min(buffer.remaining());
        buffer.put_slice(&this.seen[..length]);
        this.seen.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Who listens where; clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct Net(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pipe_bytes: usize,
    connecting: Duration,
    places: BTreeMap<SocketAddr, Place>,
    connected: u16,
}

#[derive(Clone, Debug)]
enum Place {
    Open(mpsc::Sender<Pipe>),
    Silent,
}

impl Default for State {
    fn default() -> Self {
        Self { pipe_bytes: PIPE_BYTES, connecting: Duration::ZERO, places: BTreeMap::new(), connected: 0 }
    }
}

/// Accepts connections until it is dropped.
#[derive(Debug)]
pub struct Listener(mpsc::Receiver<Pipe>);

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// The network is gone.
    pub async fn accept(&mut self) -> io::Result<Pipe> {
        self.0.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Net {
    /// Its pipes hold so many bytes from now on, at least one; few of them cut everything into pieces.
    pub fn set_pipes(&self, bytes: usize) {
        self.with(|state| state.pipe_bytes = bytes.max(1));
    }

    /// Connecting takes this long from now on; at first no time at all.
    pub fn set_connecting(&self, time: Duration) {
        self.with(|state| state.connecting = time);
    }

    /// Listens at an address; an unspecified one stands for all of its port that nobody else has.
    ///
    /// # Errors
    /// Somebody listens there.
    pub fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        self.probe(at)?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.with(|state| state.places.insert(at, Place::Open(sender)));
        Ok(Listener(receiver))
    }

    /// Fails when somebody listens there.
    ///
    /// # Errors
    /// As it says.
    pub fn probe(&self, at: SocketAddr) -> io::Result<()> {
        match self.with(|state| state.places.get(&at).cloned()) {
            Some(Place::Open(sender)) if sender.is_closed() => Ok(()),
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AddrInUse.into()),
        }
    }

    /// Leaves attempts to connect to an address unanswered.
    pub fn silence(&self, at: SocketAddr) {
        self.with(|state| state.places.insert(at, Place::Silent));
    }

    /// Connects; never returns where nobody answers.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(&self, from: IpAddr, to: SocketAddr) -> io::Result<Pipe> {
        self.join(from, to, None).await
    }

    /// Connects, but is led to a listener instead, which learns what was dialled.
    ///
    /// # Errors
    /// The listener is not there.
    pub async fn capture(&self, from: IpAddr, to: SocketAddr, by: SocketAddr) -> io::Result<Pipe> {
        self.join(from, by, Some(to)).await
    }

    async fn join(&self, from: IpAddr, at: SocketAddr, dialled: Option<SocketAddr>) -> io::Result<Pipe> {
        let connecting = self.with(|state| state.connecting);
        if !connecting.is_zero() {
            tokio::time::sleep(connecting).await;
        }
        // What the system says.
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let (place, port, bytes) = self.with(|state| {
            state.connected = state.connected.wrapping_add(1);
            (state.find(at), FIRST_PORT + state.connected % FIRST_PORT, state.pipe_bytes)
        });
        let listener = match place {
            None => return Err(refused()),
            Some(Place::Silent) => return std::future::pending().await,
            Some(Place::Open(listener)) => listener,
        };
        let (near, far) = tokio::io::duplex(bytes);
        let from = SocketAddr::new(from, port);
        let ends = Ends { local: from, peer: dialled.unwrap_or(at), dialled: None };
        let theirs = Ends { local: at, peer: from, dialled };
        listener.try_send(Pipe { stream: far, seen: Vec::new(), ends: theirs }).map_err(|_| refused())?;
        Ok(Pipe { stream: near, seen: Vec::new(), ends })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn find(&self, at: SocketAddr) -> Option<Place> {
        let any: IpAddr = match at {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let found = self.places.get(&at).or_else(|| self.places.get(&SocketAddr::new(any, at.port())));
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn who_listens_is_reached_and_nobody_else() {
        let net = Net::default();
        let mut listener = net.listen(at("127.0.0.1:80")).unwrap();
        assert_eq!(net.probe(at("127.0.0.1:80")).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let near = net.connect(HERE, at("127.0.0.1:80")).await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!((near.ends().local, near.ends().peer), (far.ends().peer, far.ends().local));
        let refused = net.connect(HERE, at("127.0.0.1:81")).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop(listener);
        assert!(net.connect(HERE, at("127.0.0.1:80")).await.is_err());
        assert!(net.listen(at("127.0.0.1:80")).is_ok());
    }

    #[tokio::test]
    async fn an_unspecified_address_takes_what_nobody_else_has() {
        let net = Net::default();
        let mut any = net.listen(at("0.0.0.0:80")).unwrap();
        let mut own = net.listen(at("10.0.0.1:80")).unwrap();
        let _first = net.connect(HERE, at("10.0.0.1:80")).await.unwrap();
        let _second = net.capture(HERE, at("10.0.0.3:81"), at("10.0.0.2:80")).await.unwrap();
        assert_eq!(own.accept().await.unwrap().ends().dialled, None);
        assert_eq!(any.accept().await.unwrap().ends().dialled, Some(at("10.0.0.3:81")));
    }

    #[tokio::test]
    async fn peeked_bytes_are_read_again() {
        let net = Net::default();
        let mut listener = net.listen(at("127.0.0.1:80")).unwrap();
        let mut near = net.connect(HERE, at("127.0.0.1:80")).await.unwrap();
        let mut far = listener.accept().await.unwrap();
        let mut buffer = [0; 8];
        near.write_all(b"ab").await.unwrap();
        assert_eq!(far.peek(&mut buffer).await.unwrap(), 2);
        near.write_all(b"cd").await.unwrap();
        assert_eq!(far.peek(&mut buffer).await.unwrap(), 4);
        near.write_all(b"ef").await.unwrap();
        drop(near);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcdef");
        assert_eq!(far.peek(&mut buffer).await.unwrap(), 0);
    }
}
