//! Header hygiene on the way up and down: hop-by-hop fields, `x-forwarded-*`, `x-request-id`, `server`.

use std::net::IpAddr;

use config::ClientCertHeader;
use http::header::{CONNECTION, HOST, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use transport::tls::{Form, Peer};

use crate::internal;

/// `x-forwarded-for`.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-envoy-attempt-count`.
pub const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// `x-envoy-upstream-service-time`.
pub const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// `x-envoy-overloaded`.
pub const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// `x-envoy-ratelimited`.
pub const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
/// `x-forwarded-client-cert`.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what belongs to one connection (RFC 9110, section 7.6.1). `TE: trailers` stays; any other TE goes.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse::<HeaderName>().ok())
            // A client must not make us drop what routing or identity rests on.
            .filter(|name| *name != HOST && *name != TE && !name.as_str().starts_with("x-forwarded-"))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.contains_key(TE)
        && headers.get(TE).is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        headers.remove(TE);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, TRAILER] {
        headers.remove(name);
    }
}

// Told by their lengths first: this is asked of every name of every message.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().len() {
        2 => *name == TE,
        7 => *name == UPGRADE || *name == TRAILER,
        10 => *name == CONNECTION || *name == KEEP_ALIVE,
        16 => *name == PROXY_CONNECTION,
        17 => *name == TRANSFER_ENCODING,
        _ => false,
    }
}

/// What is among a request's headers, by one look at their names, which costs less than a lookup of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Any that belongs to the connection.
    pub hop_by_hop: bool,
    /// Any `x-envoy-…`.
    pub envoy: bool,
    /// `x-forwarded-client-cert`.
    pub client_cert: bool,
}

impl Seen {
    /// Looks at a request.
    pub fn in_request(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            seen.hop_by_hop |= is_hop_by_hop(name);
            seen.envoy |= name.as_str().starts_with(internal::PREFIX);
            seen.client_cert |= *name == CLIENT_CERT;
        }
        seen
    }
}

/// Says where a request comes from. At a gateway, which trusts so many proxies in front, the client is not believed about
/// its scheme unless it is one of these, and its address is appended; a sidecar passes on what it gets (DP07, GW29).
pub fn forwarded(headers: &mut HeaderMap, scheme: &'static str, trusted: Option<u32>, peer: Option<IpAddr>) {
    let scheme = HeaderValue::from_static(scheme);
    if let Some(trusted) = trusted {
        if trusted == 0 || !headers.contains_key(FORWARDED_PROTO) {
            headers.insert(FORWARDED_PROTO, scheme);
        }
        if let Some(value) = peer.and_then(|peer| appended(headers, peer)) {
            headers.insert(FORWARDED_FOR, value);
        }
    } else if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, scheme);
    }
}

/// Says which certificate the client has shown. What the client says about that itself is believed only of a client of
/// the mesh, by a sidecar (GW29, DP07).
pub fn client_cert(headers: &mut HeaderMap, how: ClientCertHeader, peer: Option<&Peer>) {
    let shown = match how {
        ClientCertHeader::Remove => None,
        ClientCertHeader::Set => peer.and_then(|peer| peer.described(Form::Whole)),
        ClientCertHeader::Append => peer.and_then(|peer| peer.described(Form::Named)),
    };
    let Some(shown) = shown else {
        if headers.contains_key(&CLIENT_CERT) {
            headers.remove(&CLIENT_CERT);
        }
        return;
    };
    let before = headers.get(&CLIENT_CERT).filter(|_| how == ClientCertHeader::Append);
    let both = before.map(|before| HeaderValue::from_bytes(&[before.as_bytes(), b",", shown.as_bytes()].concat()));
    let value = both.and_then(Result::ok).unwrap_or_else(|| shown.clone());
    headers.insert(CLIENT_CERT, value);
}

// Several lines are one list (RFC 9110, section 5.3).
fn appended(headers: &HeaderMap, peer: IpAddr) -> Option<HeaderValue> {
    let mut list = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(line.as_bytes());
        list.push(b',');
    }
    list.extend_from_slice(peer.to_string().as_bytes());
    HeaderValue::from_bytes(&list).ok()
}

/// Gives a request an id when it has none: a version 4 UUID of two random words.
pub fn request_id(headers: &mut HeaderMap, random: impl FnOnce() -> (u64, u64)) {
    if headers.contains_key(REQUEST_ID) {
        return;
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let (high, low) = random();
    let mut bits = [0_u8; 16];
    bits[..8].copy_from_slice(&high.to_be_bytes());
    bits[8..].copy_from_slice(&low.to_be_bytes());
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bits.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(REQUEST_ID, value);
    }
}

/// A small number as a header value, without formatting machinery.
pub fn number(value: u64) -> HeaderValue {
    HeaderValue::from(value)
}

/// The `server` header of answers.
pub fn server(headers: &mut HeaderMap, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        headers.insert(SERVER, value.clone());
    }
}

/// True for a request that asks to become a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_headers_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "x-private, host"), ("x-private", "1"), ("host", "h"), ("te", "gzip"), ("keep-alive", "5")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"]);
    }

    #[test]
    fn te_trailers_travels() {
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        strip_hop_by_hop(&mut headers);
        assert!(headers.contains_key(TE));
    }

    #[test]
    fn a_gateway_does_not_believe_the_scheme() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("gopher"));
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
        forwarded(&mut headers, "http", Some(0), "2.2.2.2".parse().ok());
        assert_eq!(headers[FORWARDED_PROTO], "http");
        assert_eq!(headers[FORWARDED_FOR], "1.1.1.1,2.2.2.2");
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        forwarded(&mut headers, "http", Some(1), "3.3.3.3".parse().ok());
        assert_eq!(
            (&headers[FORWARDED_PROTO], &headers[FORWARDED_FOR]),
            (&HeaderValue::from_static("https"), &HeaderValue::from_static("1.1.1.1,2.2.2.2,3.3.3.3"))
        );
    }

    #[test]
    fn all_lines_that_say_where_a_request_comes_from_are_kept() {
        let mut headers = HeaderMap::new();
        for value in ["1.1.1.1", "2.2.2.2, 3.3.3.3"] {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        forwarded(&mut headers, "http", Some(0), "4.4.4.4".parse().ok());
        let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(lines, ["1.1.1.1,2.2.2.2, 3.3.3.3,4.4.4.4"]);
    }

    #[test]
    fn ids_are_uuids() {
        let mut headers = HeaderMap::new();
        request_id(&mut headers, || (0x0123_4567_89ab_cdef, 0));
        assert_eq!(headers[REQUEST_ID], "01234567-89ab-4def-8000-000000000000");
        request_id(&mut headers, || unreachable!("a request keeps its id"));
    }
}
