//! Listening sockets, one per worker on the same address (SO_REUSEPORT), and where a connection was going.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 4096;

/// Binds and listens. Every worker binds the same address; the kernel spreads connections over them. An address of IPv6
/// takes no connections of IPv4.
///
/// # Errors
/// The system's: the address is taken by another program, is not ours, or needs privileges.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    keep_to_family(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails when another program listens on the address: with SO_REUSEPORT alone, two proxies of one user would silently
/// share it.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    keep_to_family(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn keep_to_family(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

/// Binds and listens for ports of our own, once: `0.0.0.0` means every address of both families, where the machine has
/// both. Clients of IPv4 then have mapped addresses.
///
/// # Errors
/// The system's.
pub fn bind_own(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let one = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        into_tokio(socket.into())
    };
    if address.ip() != Ipv4Addr::UNSPECIFIED {
        return one(address);
    }
    // Without IPv6 there is no such socket, or no such address.
    one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())).or_else(|_| one(address))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ports_of_our_own_are_there_for_both_families() {
        let listener = bind_own("0.0.0.0:0".parse().unwrap(), 8).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _v4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().to_canonical().is_loopback() && peer.ip().to_canonical().is_ipv4());
        // Only where this machine has IPv6.
        if let Ok(_v6) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await {
            assert!(listener.accept().await.unwrap().1.ip().is_loopback());
        }
    }

    #[test]
    fn listeners_of_both_families_share_a_port() {
        let v4 = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local_addr().unwrap().port();
        match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => panic!("{error}"),
            // Or this machine has no IPv6.
            Ok(_) | Err(_) => {}
        }
    }
}
