//! The PROXY protocol, versions 1 and 2: a load balancer in front says who the client is before the client's first
//! byte (haproxy.org, `proxy-protocol.txt`).
//!
//! In: bytes that were peeked. Out: how long the header is and whom it names, "more bytes are needed", or "none". Reads
//! TCP over IPv4 and IPv6; extensions (TLV) are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes looked at: a header of version 2 with a few kilobytes of extensions.
pub const PEEK_BYTES_MAX: usize = 4 << 10;

/// Longest header of version 1, its end included.
const V1_BYTES_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Not enough bytes to tell.
    More,
    /// No header, or one that cannot be read: such a connection is closed.
    Other,
    /// A header of so many bytes.
    Header {
        /// Bytes to skip.
        length: usize,
        /// The client, and what it dialled; `None` when the balancer speaks for itself (health checks).
        ends: Option<(SocketAddr, SocketAddr)>,
    },
}

/// Looks at the first bytes of a connection.
pub fn look(bytes: &[u8]) -> Begin {
    if is_start(bytes, V2_SIGNATURE) {
        return version2(bytes);
    }
    match is_start(bytes, b"PROXY ") {
        true => version1(bytes),
        false => Begin::Other,
    }
}

fn is_start(bytes: &[u8], whole: &[u8]) -> bool {
    let length = bytes.len().min(whole.len());
    bytes[..length] == whole[..length]
}

// `PROXY TCP4 <source> <destination> <source port> <destination port>\r\n`
fn version1(bytes: &[u8]) -> Begin {
    let head = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Begin::More } else { Begin::Other };
    };
    let Ok(line) = std::str::from_utf8(&head[..end]) else { return Begin::Other };
    let length = end + 2;
    let mut words = line.split(' ').skip(1);
    match words.next() {
        Some("UNKNOWN") => Begin::Header { length, ends: None },
        Some(family @ ("TCP4" | "TCP6")) => {
            let words: Vec<&str> = words.collect();
            match v1_ends(family == "TCP4", &words) {
                Some(ends) => Begin::Header { length, ends: Some(ends) },
                None => Begin::Other,
            }
        }
        _ => Begin::Other,
    }
}

fn v1_ends(is_v4: bool, words: &[&str]) -> Option<(SocketAddr, SocketAddr)> {
    let [source, destination, source_port, destination_port] = words else { return None };
    let end = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        Some(SocketAddr::new(ip, port.parse().ok()?)).filter(|_| ip.is_ipv4() == is_v4)
    };
    Some((end(source, source_port)?, end(destination, destination_port)?))
}

fn version2(bytes: &[u8]) -> Begin {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else { return Begin::More };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    // The upper half is the version; commands are LOCAL and PROXY.
    if fixed[12] >> 4 != 2 || fixed[12] & 0xf > 1 || length > PEEK_BYTES_MAX {
        return Begin::Other;
    }
    let Some(body) = rest.get(..length - V2_FIXED) else { return Begin::More };
    if fixed[12] & 0xf == 0 {
        return Begin::Header { length, ends: None };
    }
    match fixed[13] {
        0x11 => v2_ends(body, 4, length),
        0x21 => v2_ends(body, 16, length),
        // Unspecified, UDP or Unix sockets: nothing that can be used.
        _ => Begin::Header { length, ends: None },
    }
}

fn v2_ends(body: &[u8], bytes: usize, length: usize) -> Begin {
    let ip = |at: usize| -> Option<IpAddr> {
        let part = body.get(at..at + bytes)?;
        match bytes {
            4 => <[u8; 4]>::try_from(part).ok().map(|octets| Ipv4Addr::from(octets).into()),
            _ => <[u8; 16]>::try_from(part).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    };
    let port = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let ends = || {
        let source = SocketAddr::new(ip(0)?, port(2 * bytes)?);
        Some((source, SocketAddr::new(ip(bytes)?, port(2 * bytes + 2)?)))
    };
    ends().map_or(Begin::Other, |ends| Begin::Header { length, ends: Some(ends) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn version1_is_a_line() {
        let text = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\nGET";
        let wanted = Begin::Header { length: 42, ends: ends("203.0.113.7:4711", "10.0.0.1:443") };
        assert_eq!(look(text), wanted);
        for end in 0..42 {
            assert_eq!(look(&text[..end]), Begin::More, "{end} bytes");
        }
        assert_eq!(look(b"PROXY UNKNOWN\r\n"), Begin::Header { length: 15, ends: None });
        let v6 = look(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
        assert_eq!(v6, Begin::Header { length: 32, ends: ends("[2001:db8::1]:1", "[::1]:2") });
    }

    #[test]
    fn what_is_no_header_is_said_so() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP4 1.1.1.1\r\n", b"\x16\x03"]
        {
            assert_eq!(look(text), Begin::Other, "{text:?}");
        }
        assert_eq!(look(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), Begin::Other);
        assert_eq!(look(b""), Begin::More);
    }

    #[test]
    fn version2_is_binary_with_extensions() {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x21, 0x11, 0, 15, 203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb, 4, 0, 0]);
        bytes.extend(b"GET");
        let wanted = Begin::Header { length: 31, ends: ends("203.0.113.7:4711", "10.0.0.1:443") };
        assert_eq!(look(&bytes), wanted);
        for end in 0..31 {
            assert_eq!(look(&bytes[..end]), Begin::More, "{end} bytes");
        }
        bytes[12] = 0x20;
        assert_eq!(look(&bytes), Begin::Header { length: 31, ends: None });
        bytes[12] = 0x31;
        assert_eq!(look(&bytes), Begin::Other);
        bytes[12] = 0x21;
        bytes[14] = 0xff;
        assert_eq!(look(&bytes), Begin::Other, "too long");
        bytes[14..16].copy_from_slice(&[0, 3]);
        assert_eq!(look(&bytes), Begin::Other, "too short for two addresses");
    }
}
