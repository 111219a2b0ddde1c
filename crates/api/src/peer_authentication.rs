//! PeerAuthentication: whether proxies take connections by mutual TLS, in plaintext, or both (`security.istio.io`, Istio
//! PA01 to PA03).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The spec of a PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "portLevelMtls requires selector",
    "rule": "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? \
             self.selector.matchLabels : {}).size() > 0) : true"
}]))]
pub struct PeerAuthenticationSpec {
    /// Which workloads of the namespace; all when absent. In the root namespace, without one: the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PeerSelector>,
    /// For all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// For ports of the workload, by their numbers; needs a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "port must be between 1-65535",
        "rule": "self.all(key, 0 < int(key) && int(key) <= 65535)"
    }]))]
    pub port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// Workloads by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerSelector {
    /// All of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// What is taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// As the level above says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MutualTlsMode>,
}

/// What connections may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// As the level above says; PERMISSIVE where none says anything.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Either.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
