//! A TLS ClientHello that asks for a server name, and its reading: enough to see which pod a proxy passes TLS to, byte
//! for byte, without any keys. The pod answers it in plaintext.

/// Stands where a real hello has random bytes, so that a pod can tell it from one.
const MARK: &[u8; 32] = b"sluice testkit hello, not random";

/// What a hello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server name.
    pub sni: Option<String>,
    /// The protocols offered.
    pub alpn: Vec<String>,
}

impl Hello {
    /// One record with the hello (RFC 8446, sections 4.1.2 and 5.1).
    pub fn bytes(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some(sni) = &self.sni {
            let name = [&[0][..], &sized(2, sni.as_bytes())].concat();
            extensions.extend([&[0, 0][..], &sized(2, &sized(2, &name))].concat());
        }
        if !self.alpn.is_empty() {
            let names: Vec<u8> = self.alpn.iter().flat_map(|name| sized(1, name.as_bytes())).collect();
            extensions.extend([&[0, 16][..], &sized(2, &sized(2, &names))].concat());
        }
        // TLS 1.3 in its extension, so that nothing between takes this for an old client.
        extensions.extend([0, 43, 0, 3, 2, 3, 4]);
        let body = [&[3, 3][..], MARK, &[0, 0, 2, 0x13, 0x01, 1, 0], &sized(2, &extensions)].concat();
        let handshake = [&[1][..], &sized(3, &body)].concat();
        [&[0x16, 3, 1][..], &sized(2, &handshake)].concat()
    }

    /// Reads one of ours back; `None` for anything else.
    pub fn read(record: &[u8]) -> Option<Self> {
        let (mark, mut rest) = record.get(11..)?.split_at_checked(MARK.len())?;
        if mark != MARK {
            return None;
        }
        rest = rest.get(7 + 2..)?;
        let mut found = Self::default();
        while let Some((kind, value, after)) = extension(rest) {
            match kind {
                0 => found.sni = Some(String::from_utf8_lossy(value.get(5..)?).into_owned()),
                16 => found.alpn = names(value.get(2..)?),
                _ => {}
            }
            rest = after;
        }
        Some(found)
    }
}

fn sized(length_bytes: usize, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_be_bytes();
    [&length[4 - length_bytes..], value].concat()
}

fn extension(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (kind, length) = (number(0)?, usize::from(number(2)?));
    let (value, rest) = bytes.get(4..)?.split_at_checked(length)?;
    Some((kind, value, rest))
}

fn names(mut list: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((length, rest)) = list.split_first() {
        let Some((name, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        found.push(String::from_utf8_lossy(name).into_owned());
        list = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_back() {
        let hello = Hello { sni: Some("a.com".into()), alpn: vec!["h2".into(), "istio".into()] };
        assert_eq!(Hello::read(&hello.bytes()), Some(hello));
        assert_eq!(Hello::read(&Hello::default().bytes()), Some(Hello::default()));
        assert_eq!(Hello::read(b"GET / HTTP/1.1\r\n"), None);
    }
}
