//! What is read of a proxy's own configuration: the annotation `proxy.istio.io/config` of its pod, and `PROXY_CONFIG` in
//! its node metadata (Istio's ProxyConfig). YAML, of which JSON is a part; unknown keys are skipped.

use serde::Deserialize;

/// The annotation of a pod.
pub const ANNOTATION: &str = "proxy.istio.io/config";

/// ProxyConfig, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Where the proxy stands.
    pub gateway_topology: Option<Topology>,
}

/// What stands in front of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Set, even to nothing: a load balancer says by the PROXY protocol who the client is.
    pub proxy_protocol: Option<Empty>,
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

    /// True when connections begin with a PROXY protocol header.
    pub fn has_proxy_protocol(&self) -> bool {
        self.gateway_topology.as_ref().is_some_and(|topology| topology.proxy_protocol.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_protocol_is_a_message_without_fields() {
        let on = |text: &str| ProxyConfig::parse(text).map(|read| read.has_proxy_protocol());
        assert_eq!(on("gatewayTopology:\n  proxyProtocol: {}\n"), Some(true));
        assert_eq!(
            on(r#"{"concurrency": 2, "gatewayTopology": {"numTrustedProxies": 1, "proxyProtocol": {}}}"#),
            Some(true)
        );
        assert_eq!(on("gatewayTopology:\n  numTrustedProxies: 1\n"), Some(false));
        assert_eq!(on(""), Some(false));
        assert_eq!(on("- a\n"), None);
    }
}
