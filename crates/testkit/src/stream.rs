//! Connections of test clients and pods, whatever they are made of.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Duplex for T {}

/// A connection; bytes that were read to see what comes are read again.
pub struct Stream {
    io: Box<dyn Duplex>,
    again: Vec<u8>,
    /// Our end.
    pub local: Option<SocketAddr>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a connection of {:?}", self.local)
    }
}

impl Stream {
    /// A connection with the address of our end.
    pub fn new(io: impl Duplex, local: Option<SocketAddr>) -> Self {
        Self { io: Box::new(io), again: Vec::new(), local }
    }

    /// Has bytes read again, before all others.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.again.splice(..0, bytes.iter().copied());
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.again.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buffer);
        }
        let length = this.again.len().min(buffer.remaining());
        buffer.put_slice(&this.again[..length]);
        this.again.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Makes connections in the system's place.
pub trait Dial: Send + Sync {
    /// Connects to `target`, perhaps from an address of the caller's choice; captured on the way, if so.
    fn dial(&self, target: SocketAddr, captured: bool, from: Option<IpAddr>) -> BoxFuture<'static, io::Result<Stream>>;
}
