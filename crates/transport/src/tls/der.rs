//! The two fields of a certificate that `webpki` does not give for every version: subject and public key.

/// Fields of a certificate (RFC 5280, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    /// The inside of `subject`: relative distinguished names.
    pub(super) subject: &'a [u8],
    /// `subjectPublicKeyInfo`, whole.
    pub(super) spki: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
/// `[3]`, which holds the extensions.
const EXTENSIONS: u8 = 0xa3;
/// A URI among alternative names (RFC 5280, section 4.2.1.6).
const URI: u8 = 0x86;
/// The extension of alternative names.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `[0]`, which holds the version; absent in version 1.
const VERSION: u8 = 0xa0;

/// A cursor over DER values that never reads past their end.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    // The next value: tag, inside, and whole.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let whole = self.0;
        let (&tag, rest) = whole.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // Two bytes of length are enough for anything that comes in a handshake.
            0x81 | 0x82 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (inside, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, inside, &whole[..whole.len() - after.len()]))
    }

    fn take(&mut self, wanted: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (tag, inside, whole) = self.next()?;
        (tag == wanted).then_some((inside, whole))
    }
}

/// Reads a certificate; `None` when it is none.
pub(super) fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    read(certificate).map(|(fields, _)| fields)
}

/// The URIs among the alternative names of a certificate, as they are; `None` when it cannot be read to its end, or has
/// the extension twice.
pub(super) fn uris(certificate: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, mut rest) = read(certificate)?;
    let (mut found, mut seen) = (Vec::new(), false);
    while !rest.0.is_empty() {
        let (tag, inside, _) = rest.next()?;
        if tag != EXTENSIONS {
            continue;
        }
        let (all, _) = Der(inside).take(SEQUENCE)?;
        let mut all = Der(all);
        while !all.0.is_empty() {
            let (extension, _) = all.take(SEQUENCE)?;
            let mut extension = Der(extension);
            let (id, _) = extension.take(OBJECT_ID)?;
            if id != ALTERNATIVE_NAMES {
                continue;
            }
            // It may say before its value whether it is critical.
            let (mut tag, mut value, _) = extension.next()?;
            if tag != OCTETS {
                (tag, value, _) = extension.next()?;
            }
            if tag != OCTETS || std::mem::replace(&mut seen, true) {
                return None;
            }
            let (names, _) = Der(value).take(SEQUENCE)?;
            let mut names = Der(names);
            while !names.0.is_empty() {
                let (tag, name, _) = names.next()?;
                found.extend((tag == URI).then_some(name));
            }
        }
    }
    Some(found)
}

// The fields, and what comes after them.
fn read(certificate: &[u8]) -> Option<(Fields<'_>, Der<'_>)> {
    let (signed, _) = Der(certificate).take(SEQUENCE)?;
    let (body, _) = Der(signed).take(SEQUENCE)?;
    let mut body = Der(body);
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    body.take(INTEGER)?;
    // Algorithm, issuer, validity.
    for _ in 0..3 {
        body.take(SEQUENCE)?;
    }
    let (subject, _) = body.take(SEQUENCE)?;
    let (_, spki) = body.take(SEQUENCE)?;
    Some((Fields { subject, spki }, body))
}

/// The attributes that have short names in RFC 2253 and in OpenSSL, by object id.
const SHORT: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// A subject as RFC 2253 writes it: the last part first. Attributes without a short name are left out.
pub(super) fn subject(names: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut names = Der(names);
    while let Some((set, _)) = names.take(SET) {
        let mut set = Der(set);
        let mut values = Vec::new();
        while let Some((pair, _)) = set.take(SEQUENCE) {
            values.extend(attribute(pair));
        }
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    parts.reverse();
    parts.join(",")
}

fn attribute(pair: &[u8]) -> Option<String> {
    let mut pair = Der(pair);
    let (id, _) = pair.take(OBJECT_ID)?;
    let (_, value, _) = pair.next()?;
    let (_, name) = SHORT.iter().find(|(known, _)| *known == id)?;
    Some(format!("{name}={}", escape(value)))
}

// RFC 2253, section 2.4; other bytes than printable ASCII in hex, as OpenSSL does.
fn escape(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for (index, byte) in value.iter().enumerate() {
        let is_edge = index == 0 || index + 1 == value.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(*byte)]),
            b' ' if is_edge => out.push_str("\\ "),
            b'#' if index == 0 => out.push_str("\\#"),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let inside = parts.concat();
        let mut out = vec![tag, inside.len() as u8];
        out.extend(inside);
        out
    }

    #[test]
    fn subjects_are_written_backwards_and_escaped() {
        let part = |id: &[u8], text: &str| {
            let pair = value(SEQUENCE, &[&value(OBJECT_ID, &[id]), &value(0x0c, &[text.as_bytes()])]);
            value(SET, &[&pair])
        };
        let names = [part(&[0x55, 4, 10], "A, Inc"), part(&[0x55, 4, 3], "client"), part(&[1, 2], "?")].concat();
        assert_eq!(subject(&names), "CN=client,O=A\\, Inc");
        assert_eq!(subject(&[1, 2, 3]), "");
    }

    fn certificate(names: &[(u8, &[u8])]) -> Vec<u8> {
        let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| value(*tag, &[name])).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let names = value(OCTETS, &[&value(SEQUENCE, &names)]);
        let extension = value(SEQUENCE, &[&value(OBJECT_ID, &[ALTERNATIVE_NAMES]), &value(1, &[&[0xff]]), &names]);
        let empty = value(SEQUENCE, &[]);
        let extensions = value(EXTENSIONS, &[&value(SEQUENCE, &[&extension])]);
        let number = value(INTEGER, &[&[1]]);
        let body = [&number, &empty, &empty, &empty, &empty, &empty, &extensions].map(|part| part.as_slice());
        value(SEQUENCE, &[&value(SEQUENCE, &body)])
    }

    #[test]
    fn only_uris_are_uris_and_all_of_them() {
        let other = (0xa0, b"spiffe://a".as_slice());
        assert_eq!(
            uris(&certificate(&[(URI, b"a"), (0x82, b"b.com"), other, (URI, b"c\0d")])).unwrap(),
            [b"a".as_slice(), b"c\0d"]
        );
        assert_eq!(uris(&certificate(&[])), Some(Vec::new()));
    }

    #[test]
    fn a_workload_has_exactly_one_uri_and_nothing_hides_in_it() {
        let id = b"spiffe://cluster.local/ns/a/sa/b".as_slice();
        let found = |names: &[(u8, &[u8])]| crate::tls::principal(&certificate(names)).map(|id| id.to_string());
        assert_eq!(found(&[(URI, id), (0x82, b"b.com")]).as_deref(), std::str::from_utf8(id).ok());
        assert_eq!(found(&[(URI, id), (URI, id)]), None);
        assert_eq!(found(&[(URI, id), (URI, b"\xff")]), None);
        assert_eq!(found(&[(URI, &[id, b"\0.evil"].concat())]), None);
        assert_eq!(found(&[(0x82, id)]), None);
        // OTHERNAME (CVE-2026-47778).
        assert_eq!(found(&[(0xa0, id)]), None);
    }

    #[test]
    fn broken_certificates_are_none() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 2, 0x30, 5], &[0xff; 40]] {
            assert_eq!(fields(bytes), None);
            assert_eq!(uris(bytes), None);
        }
    }
}
