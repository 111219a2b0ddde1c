//! `RateLimitPolicy`: this project's own kind, since Istio has none (`networking.sluice.dev/v1alpha1`).
//!
//! Says how many requests a host's routes take per interval, at the proxies that route them: sidecars (`mesh`) or named
//! gateways. A proxy counts for itself; what several proxies let through together adds up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, lenient};

/// Limits for a set of hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitPolicySpec {
    /// Hosts as clients address them; short names are of the policy's own namespace. At least one.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-sluice-required" = true))]
    pub hosts: Vec<String>,
    /// Which proxies count: `mesh` for sidecars, or gateways by name as in a VirtualService. `[mesh]` when empty.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// A request needs a token of each that concerns it. At least one.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-sluice-required" = true))]
    pub limits: Vec<RateLimitRule>,
}

/// One token bucket, or one for each client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRule {
    /// Names of VirtualService rules (`http[].name`) that it is for, each with a bucket of its own; the whole host, with
    /// one bucket, when empty.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// What tells clients apart; all share one bucket when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RateLimitKey>,
    /// Requests per interval, at least 1.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true, "minimum" = 1))]
    pub requests: Option<u32>,
    /// The interval, 50 ms to 24 h; one second when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Requests at once after a pause, at least 1; as `requests` when absent.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub burst: Option<u32>,
}

/// What tells clients apart; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitKey {
    /// The value of this request header. Requests without it are not limited by this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
}

/// Nothing more to say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceAddress {}
