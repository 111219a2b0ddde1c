//! Unix sockets as upstreams (WE01, SC12). Pools, records and logs know hosts by socket addresses; a Unix socket is known
//! by an address that stands for its path, of a range that nobody is at (RFC 6666, 100::/64).

use std::hash::Hasher;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use rustc_hash::FxHasher;
use tokio::net::UnixStream;

/// The address that stands for a path (`@name` for an abstract socket). Good within one process.
pub fn stand_in(path: &str) -> SocketAddr {
    let mut hasher = FxHasher::default();
    hasher.write(path.as_bytes());
    let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (hasher.finish() >> shift) as u16);
    SocketAddr::new(Ipv6Addr::new(0x100, 0, 0, 0, a, b, c, d).into(), 0)
}

/// True for an address that stands for a path.
pub fn is_stand_in(address: SocketAddr) -> bool {
    let SocketAddr::V6(v6) = address else { return false };
    matches!(v6.ip().segments(), [0x100, 0, 0, 0, ..]) && v6.port() == 0
}

/// Connects to a socket in the file system, or to an abstract one (`@name`).
pub async fn connect(path: &str) -> std::io::Result<UnixStream> {
    match path.strip_prefix('@') {
        Some(name) => UnixStream::connect(PathBuf::from(format!("\0{name}"))).await,
        None => UnixStream::connect(path).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we01_paths_have_addresses_of_their_own() {
        assert_ne!(stand_in("/run/a.sock"), stand_in("/run/b.sock"));
        assert_eq!(stand_in("@a"), stand_in("@a"));
        assert!(is_stand_in(stand_in("/run/a.sock")));
        assert!(!is_stand_in("[::1]:80".parse().unwrap()));
        assert!(!is_stand_in("10.0.0.1:0".parse().unwrap()));
    }
}
