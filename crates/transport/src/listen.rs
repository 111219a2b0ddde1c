//! Listening sockets, one per worker on the same address (SO_REUSEPORT), and where a connection was going.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 4096;

/// Binds and listens. Every worker binds the same address; the kernel spreads connections over them.
///
/// # Errors
/// The system's: the address is taken by another program, is not ours, or needs privileges.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails when another program listens on the address: with SO_REUSEPORT alone, two proxies of one user would silently
/// share it.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Hands a listener to the current runtime.
pub fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

/// The address that the client dialled before iptables sent it here (`SO_ORIGINAL_DST`); `None` when nothing did.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4().ok()?,
        SocketAddr::V6(_) => socket.original_dst_v6().ok()?,
    };
    // Without a rule the kernel answers with our own address, or not at all.
    found.as_socket().filter(|dialled| *dialled != local)
}
