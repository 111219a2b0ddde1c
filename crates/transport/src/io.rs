//! A connection: a TCP socket, or a pipe in memory for tests of the whole pipeline.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::memory::Pipe;

/// A connection.
#[derive(Debug)]
pub enum Io {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream<Io>>),
    /// In memory.
    Memory(Pipe),
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Bind to this address first.
    pub source: Option<IpAddr>,
    /// Where that one is of IPv4: to this one, on the way to addresses of IPv6.
    pub source_v6: Option<Ipv6Addr>,
    /// Keepalive probes; `None`: off. The fields: probes, seconds idle, seconds between.
    pub keepalive: Option<(Option<u32>, Option<u32>, Option<u32>)>,
}

/// Connects over TCP, without Nagle's algorithm. Never waits longer than the caller's own timeout lets it.
pub async fn connect(address: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    // A source of the other family would never connect.
    let sources = [options.source, options.source_v6.map(IpAddr::V6)].into_iter().flatten();
    let stream = match sources.into_iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
        None => TcpStream::connect(address).await?,
        Some(source) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(address).await?
        }
    };
    stream.set_nodelay(true)?;
    if let Some((probes, idle, interval)) = options.keepalive {
        let seconds = |value: Option<u32>| value.map(|value| Duration::from_secs(value.into()));
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = seconds(idle) {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = seconds(interval) {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(probes) = probes {
            keepalive = keepalive.with_retries(probes);
        }
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(stream)
}

impl Io {
    /// Our end of the connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Io::Tcp(stream) => stream.local_addr().ok(),
            Io::Tls(stream) => stream.get_ref().0.local_address(),
            Io::Memory(pipe) => Some(pipe.ends().local).filter(|local| !crate::pipe::is_stand_in(*local)),
            Io::Unix(_) => None,
        }
    }

    /// The address that the other end dialled before it was led here; `None` when nothing did that.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        match self {
            Io::Tcp(stream) => crate::listen::original_destination(stream),
            Io::Memory(pipe) => pipe.ends().dialled,
            Io::Unix(_) | Io::Tls(_) => None,
        }
    }

    /// The bytes that are there, which stay; waits while there are none. 0 bytes: the other end is done. Under TLS, what
    /// the first records have brought, and no more.
    ///
    /// # Errors
    /// The system's, or that these bytes cannot be looked at.
    pub async fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Io::Tcp(stream) => stream.peek(buffer).await,
            Io::Memory(pipe) => pipe.peek(buffer).await,
            Io::Tls(stream) => {
                let there = Box::pin(stream.fill_buf()).await?;
                let count = there.len().min(buffer.len());
                buffer[..count].copy_from_slice(&there[..count]);
                Ok(count)
            }
            Io::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Io::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Io::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Io::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Io::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
            Io::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Memory(stream) => stream.is_write_vectored(),
        }
    }
}
