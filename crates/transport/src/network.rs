//! What connections are made of: sockets, or pipes in memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::io::{ConnectOptions, Io};
use crate::memory::{self, Net};
use crate::{listen, pipe};

/// Where connections are made and taken.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// The system's.
    #[default]
    Sockets,
    /// Its own, in memory.
    Memory(Net),
}

/// A bound listener, on its way to the worker that accepts.
#[derive(Debug)]
pub enum Bound {
    /// A socket.
    Socket(std::net::TcpListener),
    /// In memory.
    Memory(memory::Listener),
}

/// Accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// On a socket.
    Tcp(TcpListener),
    /// In memory.
    Memory(memory::Listener),
}

impl Network {
    /// Connects to an address. Never waits longer than the caller's own timeout lets it.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(&self, address: SocketAddr, options: &ConnectOptions) -> io::Result<Io> {
        match self {
            Self::Sockets => crate::io::connect(address, options).await.map(Io::Tcp),
            Self::Memory(net) => {
                let local = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
                let source = options.source.filter(|source: &IpAddr| source.is_ipv4() == address.is_ipv4());
                net.connect(source.unwrap_or(local), address).await.map(Io::Memory)
            }
        }
    }

    /// Connects to a Unix socket. In memory it is at the address that stands for its path.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect_path(&self, path: &str) -> io::Result<Io> {
        match self {
            Self::Sockets => pipe::connect(path).await.map(Io::Unix),
            Self::Memory(net) => net.connect(Ipv6Addr::LOCALHOST.into(), pipe::stand_in(path)).await.map(Io::Memory),
        }
    }

    /// Binds and listens, once per worker ([`listen::bind`]).
    ///
    /// # Errors
    /// The address is taken, is not ours, or needs privileges.
    pub fn bind(&self, address: SocketAddr) -> io::Result<Bound> {
        match self {
            Self::Sockets => listen::bind(address).map(Bound::Socket),
            Self::Memory(net) => net.listen(address).map(Bound::Memory),
        }
    }

    /// Fails when somebody else listens on the address ([`listen::probe`]).
    ///
    /// # Errors
    /// As it says.
    pub fn probe(&self, address: SocketAddr) -> io::Result<()> {
        match self {
            Self::Sockets => listen::probe(address),
            Self::Memory(net) => net.probe(address),
        }
    }
}

impl Bound {
    /// Hands it to the current runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn into_listener(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Socket(socket) => Listener::Tcp(listen::into_tokio(socket)?),
            Self::Memory(listener) => Listener::Memory(listener),
        })
    }
}

impl Listener {
    /// The next connection and the address of its other end; a socket without Nagle's algorithm, as small answers must
    /// not wait for the client's acknowledgement.
    ///
    /// # Errors
    /// The system's: too many files are open, most likely.
    pub async fn accept(&mut self) -> io::Result<(Io, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("set_nodelay: {error}");
                }
                Ok((Io::Tcp(stream), peer))
            }
            Self::Memory(listener) => {
                let pipe = listener.accept().await?;
                let peer = pipe.ends().peer;
                Ok((Io::Memory(pipe), peer))
            }
        }
    }
}
