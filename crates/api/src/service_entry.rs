//! ServiceEntry: hosts that are not Kubernetes Services (Istio SE01 to SE18).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{WorkloadEntrySpec, WorkloadSelector, lenient};

/// The spec of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"message": "only one of WorkloadSelector or Endpoints can be set",
     "rule": "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1"},
    {"message": "CIDR addresses are allowed only for NONE/STATIC resolution types",
     "rule": "!((has(self.addresses) ? self.addresses : []).exists(k, k.contains('/')) && !((has(self.resolution) ? self.resolution : 'NONE') in ['STATIC', 'NONE']))"},
    {"message": "NONE mode cannot set endpoints",
     "rule": "((has(self.resolution) ? self.resolution : 'NONE') == 'NONE') ? !has(self.endpoints) : true"},
    {"message": "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
     "rule": "((has(self.resolution) ? self.resolution : '') == 'DNS_ROUND_ROBIN') ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true"}
]))]
pub struct ServiceEntrySpec {
    /// Hosts; wildcards allowed, never `*`.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-sluice-required" = true), with = "Hosts")]
    pub hosts: Vec<String>,
    /// Virtual addresses or ranges.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub addresses: Vec<String>,
    /// Ports.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-validations" = [{"message": "port number cannot be duplicated", "rule": "self.all(l1, self.exists_one(l2, l1.number == l2.number))"}]))]
    pub ports: Vec<ServicePort>,
    /// Inside or outside of the mesh; outside when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<ServiceLocation>,
    /// Where endpoints come from; NONE when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Endpoints.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// Pods and WorkloadEntries of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see it; all when empty.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Accepted server names.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// 1 to 65535.
    #[serde(default, deserialize_with = "lenient::number")]
    #[schemars(extend("x-sluice-required" = true), extend("x-kubernetes-validations" = [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]))]
    pub number: u32,
    /// As X41; detected when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub protocol: Option<String>,
    /// Unique.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true), length(max = 256))]
    pub name: String,
    /// The endpoints' port; number when absent.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]))]
    pub target_port: Option<u32>,
}
/// Inside or outside of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceLocation {
    /// Outside.
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// Where endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The address the client dialled.
    None,
    /// The endpoints given.
    Static,
    /// Resolved; all addresses are endpoints.
    Dns,
    /// Resolved; one address at a time.
    DnsRoundRobin,
    /// Resolved by the host of each request.
    DynamicDns,
}

/// Schema of a ServiceEntry's hosts: 1 to 256, none of them `*`.
pub struct Hosts;

impl JsonSchema for Hosts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hosts".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "array", "minItems": 1, "maxItems": 256,
            "items": {
                "type": "string",
                "x-kubernetes-validations": [{"message": "hostname cannot be wildcard", "rule": "self != '*'"}]
            }
        })
    }
}
