//! gRPC over HTTP: what is a gRPC request, its deadline, and its form of an answer that has no upstream.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

/// `grpc-timeout`.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `grpc-status`.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The media type.
pub const MEDIA_TYPE: &str = "application/grpc";

/// Most digits of a deadline (gRPC over HTTP/2: at most 8).
const DIGITS_MAX: usize = 8;

/// True for a gRPC request; gRPC-Web is none.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(MEDIA_TYPE.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The code that stands for an HTTP status (gRPC, "HTTP to gRPC status code mapping"; 400 as Envoy has it).
pub fn code_of(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The deadline that a client gives, rounded up to a millisecond; `None` when it gives none that can be read.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let millis = match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number.div_ceil(1000),
        "n" => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// A deadline as a header: in the smallest unit that its digits fit into.
pub fn write_deadline(limit: Duration) -> Option<HeaderValue> {
    let millis = limit.as_millis();
    let (number, unit) = [(millis, 'm'), (millis / 1000, 'S'), (millis / 60_000, 'M'), (millis / 3_600_000, 'H')]
        .into_iter()
        .find(|(number, _)| *number < 100_000_000)?;
    HeaderValue::from_str(&format!("{number}{unit}")).ok()
}

/// A message as `grpc-message` carries it: printable ASCII, everything else percent-encoded.
pub fn message(text: &str) -> Option<HeaderValue> {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            printable => out.push(char::from(printable)),
        }
    }
    HeaderValue::from_str(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn grpc_web_is_no_grpc() {
        for (media, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&with(CONTENT_TYPE, media)), is, "{media}");
        }
    }

    #[test]
    fn deadlines_are_read_and_written() {
        let read = |text| deadline(&with(TIMEOUT, text)).map(|limit| limit.as_millis());
        assert_eq!(read("200m"), Some(200));
        assert_eq!(read("2S"), Some(2000));
        assert_eq!(read("1H"), Some(3_600_000));
        assert_eq!((read("1u"), read("0m")), (Some(1), Some(0)));
        for bad in ["", "m", "1", "123456789m", "-1m", "1x", "1 m"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let write = |millis| write_deadline(Duration::from_millis(millis)).unwrap();
        assert_eq!(write(500), "500m");
        assert_eq!(write(100_000_000_000), "1666666M");
    }

    #[test]
    fn messages_are_printable() {
        assert_eq!(message("50 % \u{e4}\n").unwrap(), "50 %25 %C3%A4%0A");
    }
}
