//! Connection pools, of a DestinationRule and of a Sidecar (V-54).

use super::Findings;
use crate::ConnectionPool;
use crate::traffic_policy::{H2UpgradePolicy, HttpPool, TcpPool};

pub(super) fn check(path: &str, pool: Option<&ConnectionPool>, found: &mut Findings) {
    let Some(ConnectionPool { tcp, http }) = pool else { return };
    if tcp.is_none() && http.is_none() {
        found.error(path, "one of tcp and http is required");
    }
    if let Some(tcp) = tcp {
        check_tcp(&format!("{path}.tcp"), tcp, found);
    }
    if let Some(http) = http {
        check_http(&format!("{path}.http"), http, found);
    }
}

fn check_tcp(path: &str, tcp: &TcpPool, found: &mut Findings) {
    not_negative(path, &[("maxConnections", tcp.max_connections)], found);
    found.duration(&format!("{path}.connectTimeout"), tcp.connect_timeout.as_ref());
    found.duration(&format!("{path}.maxConnectionDuration"), tcp.max_connection_duration.as_ref());
    found.loose_duration(&format!("{path}.idleTimeout"), tcp.idle_timeout.as_ref());
    if let Some(keepalive) = &tcp.tcp_keepalive {
        found.duration(&format!("{path}.tcpKeepalive.time"), keepalive.time.as_ref());
        found.duration(&format!("{path}.tcpKeepalive.interval"), keepalive.interval.as_ref());
    }
}

fn check_http(path: &str, http: &HttpPool, found: &mut Findings) {
    let bounds = [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ];
    not_negative(path, &bounds, found);
    found.duration(&format!("{path}.idleTimeout"), http.idle_timeout.as_ref());
    if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && http.use_client_protocol == Some(true) {
        found.error(path, "h2UpgradePolicy UPGRADE always speaks HTTP/2; useClientProtocol contradicts it");
    }
    let Some(pings) = &http.http2_keep_alive else { return };
    let path = format!("{path}.http2KeepAlive");
    if pings.interval.is_none() || pings.timeout.is_none() {
        found.error(&path, "both interval and timeout are required");
    }
    found.duration(&format!("{path}.interval"), pings.interval.as_ref());
    found.duration(&format!("{path}.timeout"), pings.timeout.as_ref());
}

fn not_negative(path: &str, bounds: &[(&str, Option<i32>)], found: &mut Findings) {
    for (name, value) in bounds.iter().filter_map(|(name, value)| Some((name, value.filter(|value| *value < 0)?))) {
        found.error(format!("{path}.{name}"), format!("{value} is negative"));
    }
}
