//! What a proxy obeys: listeners, route tables, clusters, endpoints, as plain values.
//!
//! The control plane ends here and the proxy begins here; `codec` writes these values as Envoy's protobuf and reads
//! them back. Nothing in this crate decides, measures time or does IO. A value carries the object it comes from
//! ([`words::Origin`]), so that every later stage can name it.

pub mod access_log;
pub mod authentication;
pub mod authorization;
pub mod balancing;
pub mod check;
pub mod cluster;
pub mod cors;
pub mod dynamic;
pub mod endpoint;
pub mod fault;
pub mod hash;
pub mod header_changes;
pub mod listener;
pub mod metrics;
pub mod name_table;
pub mod outlier;
pub mod rate_limit;
pub mod redirect;
pub mod render;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod secret;
pub mod share;
pub mod snapshot;
pub mod template;
pub mod tls;
pub mod tracing;

pub use access_log::{AccessLog, AccessLogFormat, Compare, LogFilter};
pub use authentication::{Authentication, JwtIssuer, JwtKeys};
pub use authorization::{
    Authorization, AuthorizationAction, AuthorizationRule, Caller, Condition, Operation, TextMatch,
};
pub use balancing::{Balancing, LocalityMode, SlowStart};
pub use check::{Problem, check};
pub use cluster::{
    Cluster, Discovery, Http2Bounds, Http2Keepalive, Lb, RetryBudget, ServiceMeta, TcpKeepalive, Thresholds,
    UpstreamProtocol, default_connect_timeout,
};
pub use cors::CorsPolicy;
pub use dynamic::{DnsCache, DynamicHost};
pub use endpoint::{Endpoint, EndpointAddress, Endpoints, Health, Locality, LocalityEndpoints, Workload};
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub use hash::{HashCookie, HashKey};
pub use header_changes::{HeaderChanges, HeaderEdits, HeaderPut, PutHow};
pub use listener::{
    ChainMatch, Cidr, ClientCertHeader, ClusterSplit, Direction, Filter, FilterChain, HttpCodec, HttpManager, Listener,
    ListenerFilters, RouteSource, ServerHeader, TcpProxy, TransportMatch,
};
pub use metrics::{Label, Metric, MetricRule};
pub use name_table::{NAME_TABLE, NameInfo, NameTable};
pub use outlier::Outlier;
pub use rate_limit::{RateKey, RateLimit};
pub use redirect::{REDIRECT_CODES, Redirect, RedirectPath};
pub use render::render;
pub use retry::{RetryOn, RetryPolicy};
pub use rewrite::{PathRewrite, Rewrite};
pub use route::{
    Action, ClaimMatch, ClusterChoice, Forward, HeaderMatch, Mirror, PathMatch, QueryMatch, Respond, Route, RouteMatch,
    RouteTable, ValueMatch, VirtualHost, Weighted,
};
pub use secret::{Secret, SecretContent, Source};
pub use share::Share;
pub use snapshot::{Name, Snapshot};
pub use tls::{
    ClientCertificates, ClientTls, OWN_CERTIFICATE, OWN_ROOTS, ServerTls, Sni, TlsParameters, TlsVersion, Validation,
    is_own_secret,
};
pub use tracing::{SpanTag, TagSource, Tracing};

/// The cluster that carries unknown destinations to wherever the application dialled (`ALLOW_ANY`).
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// The cluster without endpoints: what goes there is refused.
pub const BLACKHOLE_CLUSTER: &str = "BlackHoleCluster";
/// The cluster that carries inbound connections for ports of no Service.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
