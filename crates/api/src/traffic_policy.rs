//! Traffic policy: load balancing, connection pool, outlier detection, TLS (Istio DR20 to DR67).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, LooseDuration, lenient, load_balancer::LoadBalancer};

/// How to talk to a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Alias of outlierDetection, as tutorials write it; not in Istio's schema (S24).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<OutlierDetection>,
    /// TLS to the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Whole policies by port (DR08).
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 4096))]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnel TCP in HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Send a PROXY header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Bound on retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// The whole policy of one port; nothing is inherited (TR25).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// Which service port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortNumber>,
    /// How an endpoint is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Alias of outlierDetection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<OutlierDetection>,
    /// TLS to the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// A port by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortNumber {
    /// 1 to 65535.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// Bounds on connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPool {
    /// Connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpPool>,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpPool>,
}

/// Bounds on connections; 0 means unset (TR05).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpPool {
    /// Connections per proxy.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i32>,
    /// Bound on connecting, 10 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// Probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Age at which a connection is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Duration>,
    /// 1 h when absent, 0s never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<LooseDuration>,
}

/// TCP keepalive; its presence turns probes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Unanswered probes until dead.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// Between probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// Bounds on requests; 0 means unset (TR05).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpPool {
    /// Requests that wait for a connection.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub http1_max_pending_requests: Option<i32>,
    /// Requests under way, HTTP/1 too (TR06).
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub http2_max_requests: Option<i32>,
    /// Requests a connection carries; 1 turns keep-alive off.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub max_requests_per_connection: Option<i32>,
    /// Retries under way.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i32>,
    /// 1 h when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Speak HTTP/2 to a port declared HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Speak what the client speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_client_protocol: Option<bool>,
    /// Streams per HTTP/2 connection.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<i32>,
    /// Pings.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "http2KeepAlive")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// HTTP/2 pings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http2KeepAlive {
    /// Between pings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Wait for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// When an endpoint is taken out, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated spelling of consecutive5xxErrors; acts as it here.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<i32>,
    /// Count local failures apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_external_local_origin_errors: Option<bool>,
    /// Local failures in a row, 5 when split.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 in a row; off when absent.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row, 5 when absent, 0 off.
    #[serde(
        default,
        deserialize_with = "lenient::u32",
        skip_serializing_if = "Option::is_none",
        rename = "consecutive5xxErrors"
    )]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub consecutive5xx_errors: Option<u32>,
    /// Between sweeps, 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Times the number of ejections, 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Duration>,
    /// Share that may be out, 10.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<i32>,
    /// Below it detection is off, 0.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    pub min_health_percent: Option<i32>,
    /// Status codes that count, 5xx when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::u32_list")]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// Which TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClientTlsMode>,
    /// File.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// File.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// File.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_name: Option<String>,
    /// Accepted names.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// SNI to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Accept any certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub insecure_skip_verify: Option<bool>,
    /// File.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_crl: Option<String>,
}

/// Tunnel TCP in HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// CONNECT or POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Where the tunnel ends.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true))]
    pub target_host: String,
    /// Its port.
    #[serde(default, deserialize_with = "lenient::number")]
    #[schemars(extend("x-sluice-required" = true))]
    pub target_port: u32,
}

/// PROXY header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// V1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ProxyVersion>,
}

/// Bound on retries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Of active requests, 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true), range(min = 0.0, max = 100.0))]
    pub percent: Option<f64>,
    /// Always allowed, 3.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    pub min_retry_concurrency: Option<u32>,
    /// Window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_interval: Option<LooseDuration>,
}
/// HTTP/2 towards ports declared HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    Default,
    /// HTTP/1.1.
    DoNotUpgrade,
    /// HTTP/2.
    Upgrade,
}

/// TLS towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Plaintext.
    Disable,
    /// TLS.
    Simple,
    /// TLS with a client certificate.
    Mutual,
    /// TLS with the workload's certificate.
    IstioMutual,
}

/// Version of the PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

impl TrafficPolicy {
    /// `outlierDetection`, or its alias `circuitBreaker` (on purpose more than Istio, which refuses the alias).
    pub fn outlier(&self) -> Option<&OutlierDetection> {
        self.outlier_detection.as_ref().or(self.circuit_breaker.as_ref())
    }
}

impl PortTrafficPolicy {
    /// As [`TrafficPolicy::outlier`].
    pub fn outlier(&self) -> Option<&OutlierDetection> {
        self.outlier_detection.as_ref().or(self.circuit_breaker.as_ref())
    }
}

impl OutlierDetection {
    /// 5xx answers in a row that eject: `consecutive5xxErrors`, else the deprecated `consecutiveErrors`, which acts as
    /// it (on purpose more than Istio, which ignores it), else `None`.
    pub fn errors_in_a_row(&self) -> Option<u32> {
        self.consecutive5xx_errors.or_else(|| self.consecutive_errors.and_then(|errors| u32::try_from(errors).ok()))
    }
}
