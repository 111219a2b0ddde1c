//! Clusters: a set of endpoints that are each as good as the others, and how to talk to them
//! (Envoy `config.cluster.v3`).

use std::time::Duration;

use serde::Serialize;
use words::Origin;

use crate::{Balancing, ClientTls, DnsCache, Endpoints, Name, Outlier, Share};

/// One upstream, by Istio's name: `outbound|9080|v1|reviews.default.svc.cluster.local` (X50).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cluster {
    /// The CDS name.
    pub name: Name,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How one of them is picked.
    pub lb: Lb,
    /// What shapes that besides the algorithm.
    pub balancing: Balancing,
    /// Bound on connecting; Istio's default is 10 s (DR31).
    pub connect_timeout: Duration,
    /// What is spoken to it.
    pub protocol: UpstreamProtocol,
    /// How long an unused connection is kept; `None`: 1 h, zero: for ever (DR34, DR39).
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection takes no further requests; `None`: any (DR33).
    pub max_connection_duration: Option<Duration>,
    /// Bounds of its HTTP/2 connections.
    pub http2: Http2Bounds,
    /// Requests a connection carries before it is closed; `None`: unlimited (DR37).
    pub max_requests_per_connection: Option<u32>,
    /// Keepalive probes on its connections; `None`: off (DR32).
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Bounds above which requests are refused (DR30, DR35, DR36, DR38).
    pub thresholds: Thresholds,
    /// When a host is left alone for a while; `None`: never.
    pub outlier: Option<Outlier>,
    /// With a smaller share of usable hosts than this, in percent, all hosts are used; 0: never (DR53).
    pub panic_percent: u32,
    /// Connections are made from this address (Istio: `127.0.0.6` on inbound, so that capture lets them through).
    pub source_address: Option<std::net::IpAddr>,
    /// Where that one is of IPv4: from this one to addresses of IPv6.
    pub source_address_v6: Option<std::net::Ipv6Addr>,
    /// With [`Discovery::OriginalDst`]: this port instead of the dialled one (`targetPort` of a ServiceEntry, SE03).
    pub original_port: Option<u16>,
    /// TLS to its hosts; `None`: plaintext.
    pub tls: Option<ClientTls>,
    /// The service it stands for, for metrics and people.
    pub service: Option<ServiceMeta>,
    /// The DestinationRule that shaped it; `None` for defaults.
    pub origin: Option<Origin>,
}

impl Cluster {
    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.tls.iter().flat_map(ClientTls::secrets)
    }
}

/// Istio's default connect timeout, 10 s (mesh `connectTimeout`).
pub fn default_connect_timeout() -> Duration {
    Duration::from_secs(10)
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Discovery {
    /// An EDS resource of this name, which is the cluster's own name in our snapshots.
    Eds(Name),
    /// Given here; addresses only.
    Static(Endpoints),
    /// Names given here; each answer's addresses are all endpoints. Re-resolved after the record's TTL.
    StrictDns(Endpoints),
    /// One name given here; the first address of each answer is used for new connections.
    LogicalDns(Endpoints),
    /// The address that the client dialled.
    OriginalDst,
    /// The host that a request or a ClientHello names, resolved when it is asked for (SE09).
    Dynamic(DnsCache),
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Lb {
    /// The better of two random choices by active requests, Istio's default (TR03).
    LeastRequest,
    /// One after the other, by weight.
    RoundRobin,
    /// Any, by weight.
    Random,
    /// The same endpoint for the same key, by points on a ring (Envoy `RING_HASH` with xxHash64, DR21).
    RingHash {
        /// Points at least, so that every endpoint has as many as its weight asks for.
        minimum_size: u32,
    },
    /// The same endpoint for the same key, by a table that the endpoints fill in turns (Envoy `MAGLEV`, DR23).
    Maglev {
        /// Entries; a prime number.
        table_size: u32,
    },
    /// The dialled address, or the named host; only with [`Discovery::OriginalDst`] and [`Discovery::Dynamic`].
    ClusterProvided,
}

impl Lb {
    /// True for algorithms that keep a key at an endpoint.
    pub fn is_by_hash(self) -> bool {
        matches!(self, Lb::RingHash { .. } | Lb::Maglev { .. })
    }
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Whatever the client spoke (auto-detected ports, pass-through).
    SameAsDownstream,
}

/// TCP keepalive; `None` fields are the operating system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TcpKeepalive {
    /// Unanswered probes until the connection is dead.
    pub probes: Option<u32>,
    /// Idle seconds before the first probe.
    pub time_seconds: Option<u32>,
    /// Seconds between probes.
    pub interval_seconds: Option<u32>,
}

/// Bounds of HTTP/2 connections (DR42).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Http2Bounds {
    /// Streams at a time on one connection, at least 1; `None`: as many as the upstream takes.
    pub max_concurrent_streams: Option<u32>,
    /// Pings; `None`: off.
    pub keepalive: Option<Http2Keepalive>,
}

/// HTTP/2 pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Http2Keepalive {
    /// Between pings; at least 1 ms.
    pub interval: Duration,
    /// A connection whose ping is not answered within this is dead; at least 1 ms.
    pub timeout: Duration,
}

/// Circuit-breaker bounds per proxy; `u32::MAX` is Istio's default for each (TR05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Thresholds {
    /// Open connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests under way.
    pub max_requests: u32,
    /// Retries under way; not looked at when there is a budget.
    pub max_retries: u32,
    /// Retries in proportion to requests (DR67).
    pub retry_budget: Option<RetryBudget>,
}

/// How many retries may be under way: a share of the requests under way, but always a few (Envoy `RetryBudget`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RetryBudget {
    /// Share of the requests that are under way or wait for a connection; Istio's default is 20 %.
    pub share: Share,
    /// Retries that are always allowed; Istio's default is 3.
    pub min_concurrency: u32,
    /// Requests of the last so long count too, not only those under way; zero: only those under way.
    pub interval: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            retry_budget: None,
        }
    }
}

/// The service behind a cluster; the labels `destination_service*` of Istio's metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServiceMeta {
    /// `reviews.default.svc.cluster.local`.
    pub host: String,
    /// `reviews`.
    pub name: String,
    /// `default`.
    pub namespace: String,
    /// The subset; empty for the whole service.
    pub subset: String,
    /// The service port.
    pub port: u16,
}
