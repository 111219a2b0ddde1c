//! Whose `x-envoy-*` request headers are believed (Envoy's internal requests).
//!
//! A request is internal when the one address that it is known by is in a range that the listener trusts; with no range
//! none is, which is Istio's default. What such a request may ask for (a timeout, retries) is a way to misuse the mesh
//! in anybody else's hands, so it is taken out of every other request, at sidecars too (measured with Envoy 1.40).

use std::net::IpAddr;

use config::HttpManager;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::FORWARDED_FOR;

/// With what such headers begin.
pub const PREFIX: &str = "x-envoy-";
/// `x-envoy-internal`.
pub const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// `x-envoy-upstream-rq-timeout-ms`.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
/// `x-envoy-upstream-rq-per-try-timeout-ms`.
pub const TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
/// `x-envoy-expected-rq-timeout-ms`.
pub const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// `x-envoy-max-retries`.
pub const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
/// `x-envoy-retry-on`.
pub const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
/// `x-envoy-retry-grpc-on`.
pub const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
/// `x-envoy-retriable-status-codes`.
pub const RETRIABLE_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");

/// What only internal requests may carry.
const GUARDED: [HeaderName; 14] = [
    TIMEOUT,
    TRY_TIMEOUT,
    EXPECTED,
    MAX_RETRIES,
    RETRY_ON,
    RETRY_GRPC_ON,
    RETRIABLE_CODES,
    INTERNAL,
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
];

/// What only we say of a request; nobody from outside may. A sidecar gets them from a gateway.
const OF_PROXIES: [HeaderName; 2] =
    [HeaderName::from_static("x-envoy-original-path"), HeaderName::from_static("x-envoy-original-host")];

/// Takes out of a request what its sender may not ask for. `peer` is the client's own address; `has_any` tells whether
/// there is a header of this kind at all.
pub fn screen(headers: &mut HeaderMap, manager: &HttpManager, peer: Option<IpAddr>, has_any: bool) {
    if !manager.internal_addresses.is_empty() && is_internal(headers, manager, peer) {
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
    } else if has_any {
        for name in &GUARDED {
            headers.remove(name);
        }
        for name in OF_PROXIES.iter().filter(|_| manager.use_remote_address) {
            headers.remove(name);
        }
    }
}

// After an edge has appended the peer's address, one address means that there was none before.
fn is_internal(headers: &HeaderMap, manager: &HttpManager, peer: Option<IpAddr>) -> bool {
    let mut values = headers.get_all(FORWARDED_FOR).iter();
    let only = match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(only)), None) => only.trim().parse().ok(),
        // An edge whose peer has no address that can be written.
        (None, _) if manager.use_remote_address => peer,
        _ => None,
    };
    only.is_some_and(|address| manager.internal_addresses.iter().any(|range| range.contains(address)))
}

/// True when the request asks for retries of its own.
pub fn asks_for_retries(headers: &HeaderMap) -> bool {
    [RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES, RETRIABLE_CODES].iter().any(|name| headers.contains_key(name))
}
