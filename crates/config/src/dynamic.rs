//! Hosts that requests name themselves, resolved when they are asked for (Istio's resolution DYNAMIC_DNS, Envoy's dynamic
//! forward proxy).

use serde::Serialize;

/// What is remembered of names that were resolved; clusters and filters with one name share one cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DnsCache {
    /// Which cache.
    pub name: String,
    /// Most names in it; more are refused.
    pub hosts_max: u32,
}

/// The host of a TLS connection is the one that its ClientHello names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DynamicHost {
    /// Where names are remembered.
    pub cache: DnsCache,
    /// The port that is dialled.
    pub port: u16,
}

impl Default for DnsCache {
    /// The one that sidecars share, with Envoy's bound of 1024 names.
    fn default() -> Self {
        Self { name: "dynamic_dns".into(), hosts_max: 1024 }
    }
}
