//! Learning what a connection speaks from its first bytes, without taking them.
//!
//! In: bytes that were peeked. Out: plaintext HTTP/1 or HTTP/2, TLS with its SNI and ALPN, something else, or "more bytes
//! are needed".

/// Most bytes looked at.
pub const PEEK_BYTES_MAX: usize = 16 << 10;

/// The client connection preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sniffed {
    /// Not enough bytes to tell.
    #[default]
    More,
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS.
    Tls {
        /// The server name that the client asks for.
        sni: Option<String>,
        /// The protocols that it offers.
        alpn: Vec<String>,
    },
    /// None of these.
    Other,
}

/// Looks at the first bytes of a connection.
pub fn look(bytes: &[u8]) -> Sniffed {
    match bytes.first() {
        None => Sniffed::More,
        Some(0x16) => tls(bytes),
        Some(b'P') if is_start_of(bytes, PREFACE) => match bytes.len() >= PREFACE.len() {
            true => Sniffed::Http2,
            // `PRI` could still be a method of HTTP/1, `P` and `PR` even more so.
            false => Sniffed::More,
        },
        Some(_) => http1(bytes),
    }
}

fn is_start_of(bytes: &[u8], whole: &[u8]) -> bool {
    let length = bytes.len().min(whole.len());
    bytes[..length] == whole[..length]
}

// A request line begins with a method: letters, then one space. Envoy looks further; a method alone tells enough here.
fn http1(bytes: &[u8]) -> Sniffed {
    const METHOD_BYTES_MAX: usize = 32;
    for (index, byte) in bytes.iter().enumerate().take(METHOD_BYTES_MAX) {
        match byte {
            b' ' if index > 0 => return Sniffed::Http1,
            b'A'..=b'Z' | b'-' | b'_' => {}
            _ => return Sniffed::Other,
        }
    }
    if bytes.len() < METHOD_BYTES_MAX { Sniffed::More } else { Sniffed::Other }
}

/// A cursor over bytes that never reads past their end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    // A field with its length in front.
    fn field(&mut self, length_bytes: usize) -> Option<Bytes<'a>> {
        let length = self.number(length_bytes)?;
        self.take(length).map(Bytes)
    }
}

// A ClientHello (RFC 8446, section 4.1.2) in one record; one that is spread over several is read once they are all there.
fn tls(bytes: &[u8]) -> Sniffed {
    if bytes.get(1).is_some_and(|major| *major != 3) {
        return Sniffed::Other;
    }
    let nothing = || Sniffed::Tls { sni: None, alpn: Vec::new() };
    let mut record = Bytes(bytes.get(3..).unwrap_or_default());
    let Some(mut hello) = record.field(2) else {
        // A record is at most 16 KiB: beyond that there is nothing to wait for.
        return if bytes.len() >= PEEK_BYTES_MAX { nothing() } else { Sniffed::More };
    };
    read_hello(&mut hello).unwrap_or_else(nothing)
}

fn read_hello(hello: &mut Bytes<'_>) -> Option<Sniffed> {
    const CLIENT_HELLO: usize = 1;
    if hello.number(1)? != CLIENT_HELLO {
        return None;
    }
    let mut body = hello.field(3)?;
    // Version and random.
    body.take(2 + 32)?;
    // Session id, cipher suites, compression methods.
    body.field(1)?;
    body.field(2)?;
    body.field(1)?;
    let mut extensions = body.field(2)?;
    let (mut sni, mut alpn) = (None, Vec::new());
    while let (Some(kind), Some(mut value)) = (extensions.number(2), extensions.field(2)) {
        match kind {
            0 => sni = server_name(&mut value),
            16 => alpn = protocols(&mut value),
            _ => {}
        }
    }
    Some(Sniffed::Tls { sni, alpn })
}

fn server_name(value: &mut Bytes<'_>) -> Option<String> {
    let mut list = value.field(2)?;
    let (kind, name) = (list.number(1)?, list.field(2)?);
    // 0: host name. Compared without case, so it is kept in lower case.
    (kind == 0).then(|| String::from_utf8_lossy(name.0).to_ascii_lowercase())
}

fn protocols(value: &mut Bytes<'_>) -> Vec<String> {
    let Some(mut list) = value.field(2) else { return Vec::new() };
    std::iter::from_fn(|| list.field(1)).map(|name| String::from_utf8_lossy(name.0).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_told_apart() {
        assert_eq!(look(b"GET / HTTP/1.1\r\n"), Sniffed::Http1);
        assert_eq!(look(b"PATCH /"), Sniffed::Http1);
        assert_eq!(look(b"P"), Sniffed::More);
        assert_eq!(look(PREFACE), Sniffed::Http2);
        assert_eq!(look(b"PRI * HTTP/2.0\r\n"), Sniffed::More);
        assert_eq!(look(b"\x00\x01"), Sniffed::Other);
        assert_eq!(look(b"hello there"), Sniffed::Other);
        assert_eq!(look(b""), Sniffed::More);
        assert_eq!(look(&[b'A'; 40]), Sniffed::Other);
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut handshake = vec![1, 0];
        handshake.extend((body.len() as u16).to_be_bytes());
        handshake.extend(body);
        let mut record = vec![0x16, 3, 1];
        record.extend((handshake.len() as u16).to_be_bytes());
        record.extend(handshake);
        record
    }

    #[test]
    fn a_client_hello_gives_sni_and_alpn() {
        let sni = [0, 0, 0, 10, 0, 8, 0, 0, 5, b'A', b'.', b'c', b'o', b'm'];
        let alpn = [0, 16, 0, 5, 0, 3, 2, b'h', b'2'];
        let bytes = hello(&[sni.as_slice(), &alpn].concat());
        let wanted = Sniffed::Tls { sni: Some("a.com".into()), alpn: vec!["h2".into()] };
        assert_eq!(look(&bytes), wanted);
        for end in 1..bytes.len() {
            assert_eq!(look(&bytes[..end]), Sniffed::More, "{end} bytes");
        }
    }

    #[test]
    fn broken_hellos_are_still_tls() {
        assert_eq!(look(&hello(&[0, 0, 0, 99])), Sniffed::Tls { sni: None, alpn: Vec::new() });
        assert_eq!(look(&[0x16, 9, 9]), Sniffed::Other);
    }
}
