//! Load balancing: which endpoint (Istio DR20 to DR27, DR70 to DR79).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, LooseDuration, lenient};

/// How an endpoint is picked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-sluice-one-of" = ["simple", "consistentHash"]))]
pub struct LoadBalancer {
    /// An algorithm; LEAST_REQUEST when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simple: Option<SimpleLb>,
    /// The same key, the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// By locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_lb_setting: Option<LocalitySetting>,
    /// By zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_aware_lb_setting: Option<ZoneAwareSetting>,
    /// Deprecated spelling of warmup.duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_duration_secs: Option<Duration>,
    /// New endpoints start slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
}

/// Slow start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// How long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true))]
    pub duration: Option<Duration>,
    /// Share at the start, 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true), range(min = 0.0, max = 100.0))]
    pub minimum_percent: Option<f64>,
    /// Growth, 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true), range(min = 0.0))]
    pub aggression: Option<f64>,
}

/// What the key is, and the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-sluice-one-of" = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], "x-sluice-one-of-2" = ["ringHash", "maglev"]))]
pub struct ConsistentHash {
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_header_name: Option<String>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_cookie: Option<HttpCookie>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_source_ip: Option<bool>,
    /// A query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_query_parameter_name: Option<String>,
    /// Ketama ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Maglev table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
    /// Deprecated spelling of ringHash.minimumRingSize.
    #[serde(default, deserialize_with = "lenient::u64", skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<u64>,
}

/// A cookie as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCookie {
    /// Its name.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true))]
    pub name: String,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Set: the proxy makes the cookie when absent; 0 is a session cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<LooseDuration>,
    /// Attributes of a made cookie.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CookieAttribute {
    /// Its name.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Ketama ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// Points on the ring, 1024.
    #[serde(default, deserialize_with = "lenient::u64", skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<u64>,
}

/// Maglev table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// A prime below 5000011.
    #[serde(default, deserialize_with = "lenient::u64", skip_serializing_if = "Option::is_none")]
    pub table_size: Option<u64>,
}

/// Weights or failover by locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalitySetting {
    /// Shares by the caller's locality.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<Distribute>,
    /// Where to when a region fails.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<Failover>,
    /// Labels whose match orders endpoints.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub failover_priority: Vec<String>,
    /// On when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub enabled: Option<bool>,
}

/// Shares for callers of one locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Distribute {
    /// The caller's locality, `region/zone/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Locality to share; the sum is 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient::u32_map")]
    pub to: BTreeMap<String, u32>,
}

/// Where to when a region fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Zone-aware routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneAwareSetting {
    /// On when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true))]
    pub enabled: Option<bool>,
    /// 6.
    #[serde(default, deserialize_with = "lenient::u64", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-nullable" = true), range(min = 1))]
    pub min_cluster_size: Option<u64>,
    /// Where to when a region fails.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<Failover>,
    /// Labels whose match orders endpoints.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub failover_priority: Vec<String>,
}
/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// As LEAST_REQUEST.
    Unspecified,
    /// Deprecated spelling of LEAST_REQUEST.
    LeastConn,
    /// Any.
    Random,
    /// The address the client dialled.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The better of two by active requests.
    LeastRequest,
}
