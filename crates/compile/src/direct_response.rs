//! Answers without an upstream (VS43).

use api::http_actions::{DirectResponse, HttpBody};
use config::Respond;

use crate::notes::LeftOut;

/// Most bytes of a body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Lowers `directResponse`; `field` is the rule's path.
pub(crate) fn lower(answer: &DirectResponse, field: &str) -> Result<Respond, LeftOut> {
    let field = format!("{field}.directResponse");
    let status = u16::try_from(answer.status).ok().filter(|status| (200..=599).contains(status)).ok_or_else(|| {
        LeftOut::because(format!("{field}.status"), format!("{} is not between 200 and 599", answer.status))
    })?;
    let body = match &answer.body {
        None => Vec::new(),
        Some(HttpBody { string: Some(text), bytes: _ }) => text.clone().into_bytes(),
        Some(HttpBody { string: None, bytes: Some(text) }) => from_base64(text)
            .ok_or_else(|| LeftOut::because(format!("{field}.body.bytes"), format!("{text:?} is not base64")))?,
        Some(HttpBody { string: None, bytes: None }) => Vec::new(),
    };
    if body.len() > BODY_BYTES_MAX {
        let message = format!("{} bytes are more than {BODY_BYTES_MAX}", body.len());
        return Err(LeftOut::because(format!("{field}.body"), message));
    }
    Ok(Respond { status, body: body.into() })
}

/// Base64 as proto-JSON takes it: the standard or the URL alphabet, with or without padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for letter in group {
            bits = bits << 6 | u32::from(sextet(*letter)?);
        }
        // Left-aligned in 24 bits: the bytes that are complete are the first ones.
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            1 => return None,
            whole => out.extend_from_slice(&bytes[1..whole]),
        }
    }
    Some(out)
}

fn sextet(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vs43_bytes_are_base64_of_any_flavour() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGVsbG8=", Some(b"hello")),
            ("aGVsbG8", Some(b"hello")),
            ("_-8=", Some(b"\xff\xef")),
            ("/+8=", Some(b"\xff\xef")),
            ("aGVsbG8h", Some(b"hello!")),
            ("a", None),
            ("a b=", None),
        ] {
            assert_eq!(from_base64(text).as_deref(), bytes, "{text}");
        }
    }
}
