//! What is read of a proxy's own configuration: the annotation `proxy.istio.io/config` of its pod, and `PROXY_CONFIG` in
//! its node metadata (Istio's ProxyConfig). YAML, of which JSON is a part; unknown keys are skipped. And the kind
//! ProxyConfig, which says some of it for many pods (Istio PC01).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use words::Labels;

use crate::{Duration, lenient};

/// The annotation of a pod.
pub const ANNOTATION: &str = "proxy.istio.io/config";

/// ProxyConfig, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Where the proxy stands.
    pub gateway_topology: Option<Topology>,
    /// Worker threads; one per core when 0.
    pub concurrency: Option<u32>,
    /// Start the application only when the proxy is ready.
    pub hold_application_until_proxy_starts: Option<bool>,
    /// How long requests under way may take to end.
    pub termination_drain_duration: Option<Duration>,
    /// `REDIRECT`, `TPROXY` or `NONE`.
    pub interception_mode: Option<String>,
    /// Environment of the proxy.
    pub proxy_metadata: BTreeMap<String, String>,
}

/// The spec of a ProxyConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfigSpec {
    /// Which workloads of the namespace; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<ProxySelector>,
    /// Worker threads; one per core when 0.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Concurrency")]
    pub concurrency: Option<u32>,
    /// Environment of the proxy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "Environment")]
    pub environment_variables: BTreeMap<String, String>,
    /// The proxy's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ProxyImage>,
}

/// Workloads by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySelector {
    /// All of these.
    #[serde(default)]
    #[schemars(with = "crate::workload::SelectorLabels")]
    pub match_labels: Labels,
}

/// A variant of the proxy's image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyImage {
    /// `default`, `debug` or `distroless`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
}

struct Concurrency;

impl JsonSchema for Concurrency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "format": "int32", "minimum": 0, "nullable": true})
    }

    fn inline_schema() -> bool {
        true
    }
}

struct Environment;

impl JsonSchema for Environment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Environment".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 2048}})
    }

    fn inline_schema() -> bool {
        true
    }
}

/// What stands in front of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Set, even to nothing: a load balancer says by the PROXY protocol who the client is.
    pub proxy_protocol: Option<Empty>,
    /// So many proxies in front are believed about who is behind them.
    #[serde(deserialize_with = "lenient::u32")]
    pub num_trusted_proxies: Option<u32>,
}

/// What stands in front of a gateway, as it is obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InFront {
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Proxies whose entries in `x-forwarded-for` are believed.
    pub trusted_proxies: u32,
}

impl InFront {
    /// What either says.
    pub fn or(self, other: Self) -> Self {
        Self {
            proxy_protocol: self.proxy_protocol || other.proxy_protocol,
            trusted_proxies: self.trusted_proxies.max(other.trusted_proxies),
        }
    }
}

/// A message without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Empty {}

impl ProxyConfig {
    /// Reads it; `None` when it is not YAML of this form.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().is_empty() {
            true => Some(Self::default()),
            false => serde_saphyr::from_str(text).ok(),
        }
    }

    /// What stands in front.
    pub fn in_front(&self) -> InFront {
        let Some(Topology { proxy_protocol, num_trusted_proxies }) = &self.gateway_topology else {
            return InFront::default();
        };
        InFront { proxy_protocol: proxy_protocol.is_some(), trusted_proxies: num_trusted_proxies.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_protocol_is_a_message_without_fields() {
        let on = |text: &str| ProxyConfig::parse(text).map(|read| read.in_front().proxy_protocol);
        assert_eq!(on("gatewayTopology:\n  proxyProtocol: {}\n"), Some(true));
        assert_eq!(
            on(r#"{"concurrency": 2, "gatewayTopology": {"numTrustedProxies": 1, "proxyProtocol": {}}}"#),
            Some(true)
        );
        assert_eq!(on("gatewayTopology:\n  numTrustedProxies: 1\n"), Some(false));
        let trusted = |text: &str| ProxyConfig::parse(text).map(|read| read.in_front().trusted_proxies);
        assert_eq!(trusted("gatewayTopology:\n  numTrustedProxies: 2\n"), Some(2));
        assert_eq!(trusted("gatewayTopology: {proxyProtocol: {}}"), Some(0));
        assert_eq!(on(""), Some(false));
        assert_eq!(on("- a\n"), None);
    }
}
