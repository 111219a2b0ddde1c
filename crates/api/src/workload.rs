//! WorkloadEntry and WorkloadGroup: workloads that are not pods (Istio WE01 to WG02); and selection by labels.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use words::Labels;

use crate::lenient;

/// Which workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All must be carried.
    #[serde(default)]
    #[schemars(with = "SelectorLabels")]
    pub labels: Labels,
}

/// The spec of a WorkloadEntry; also an endpoint of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"message": "Address is required", "rule": "has(self.address) || has(self.network)"},
    {"message": "UDS may not include ports",
     "rule": "(has(self.address) ? self.address : '').startsWith('unix://') ? !has(self.ports) : true"}
]))]
pub struct WorkloadEntrySpec {
    /// IP, host name or unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), extend("x-kubernetes-validations" = [{"message": "UDS must be an absolute path or abstract socket", "rule": "self.startsWith('unix://') ? (self.substring(7, 8) == '/' || self.substring(7, 8) == '@') : true"}, {"message": "UDS may not be a dir", "rule": "self.startsWith('unix://') ? !self.endsWith('/') : true"}]))]
    pub address: Option<String>,
    /// Port name to number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient::u32_map")]
    #[schemars(with = "crate::workload::PortMap")]
    pub ports: BTreeMap<String, u32>,
    /// Labels.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: Labels,
    /// Network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub network: Option<String>,
    /// `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub locality: Option<String>,
    /// Share, 1 when absent.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account: Option<String>,
}

/// What a WorkloadGroup gives its entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"message": "UDS may not include ports",
     "rule": "(has(self.address) ? self.address : '').startsWith('unix://') ? !has(self.ports) : true"}
]))]
pub struct WorkloadTemplate {
    /// IP, host name or unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), extend("x-kubernetes-validations" = [{"message": "UDS must be an absolute path or abstract socket", "rule": "self.startsWith('unix://') ? (self.substring(7, 8) == '/' || self.substring(7, 8) == '@') : true"}, {"message": "UDS may not be a dir", "rule": "self.startsWith('unix://') ? !self.endsWith('/') : true"}]))]
    pub address: Option<String>,
    /// Port name to number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient::u32_map")]
    #[schemars(with = "crate::workload::PortMap")]
    pub ports: BTreeMap<String, u32>,
    /// Labels.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: Labels,
    /// Network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub network: Option<String>,
    /// `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub locality: Option<String>,
    /// Share, 1 when absent.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account: Option<String>,
}

/// The spec of a WorkloadGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadGroupSpec {
    /// Labels and annotations of its entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<GroupMetadata>,
    /// Their spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true))]
    pub template: Option<Box<WorkloadTemplate>>,
    /// How health is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Box<Probe>>,
}

/// Labels and annotations of entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupMetadata {
    /// Labels.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: Labels,
    /// Annotations.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 256))]
    pub annotations: Labels,
}

/// How health is found (WG02).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-sluice-one-of" = ["httpGet", "tcpSocket", "exec", "grpc"]))]
pub struct Probe {
    /// 0.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub initial_delay_seconds: Option<i32>,
    /// 1.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub timeout_seconds: Option<i32>,
    /// 10.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub period_seconds: Option<i32>,
    /// 1.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub success_threshold: Option<i32>,
    /// 3.
    #[serde(default, deserialize_with = "lenient::i32", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failure_threshold: Option<i32>,
    /// By HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpProbe>,
    /// By connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpProbe>,
    /// By a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// By gRPC health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
}

/// By HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Port.
    #[serde(default, deserialize_with = "lenient::number")]
    #[schemars(extend("x-sluice-required" = true), extend("x-kubernetes-validations" = [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]))]
    pub port: u32,
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP or HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"message": "scheme must be one of [HTTP, HTTPS]", "rule": "self in ['', 'HTTP', 'HTTPS']"}]))]
    pub scheme: Option<String>,
    /// Headers.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<ProbeHeader>,
}

/// A header of a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeHeader {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[-_A-Za-z0-9]+$"))]
    pub name: Option<String>,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// By connecting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port.
    #[serde(default, deserialize_with = "lenient::number")]
    #[schemars(extend("x-sluice-required" = true), extend("x-kubernetes-validations" = [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]))]
    pub port: u32,
}

/// By a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecProbe {
    /// Command and arguments.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-sluice-required" = true), inner(length(min = 1)))]
    pub command: Vec<String>,
}

/// By gRPC health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcProbe {
    /// Port.
    #[serde(default, deserialize_with = "lenient::u32", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]))]
    pub port: Option<u32>,
    /// Service name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}
/// Schema of a port map: bounded names, ports in range.
pub struct PortMap;

impl JsonSchema for PortMap {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortMap".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "maxProperties": 128,
            "additionalProperties": {
                "type": "integer", "minimum": 0, "maximum": 4294967295_u32,
                "x-kubernetes-validations": [{"message": "port must be between 1-65535", "rule": "0 < self && self <= 65535"}]
            },
            "x-kubernetes-validations": [{
                "message": "port name must be valid",
                "rule": "self.all(key, size(key) < 63 && key.matches('^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$'))"
            }]
        })
    }
}

/// Schema of selector labels: no wildcards.
pub struct SelectorLabels;

impl JsonSchema for SelectorLabels {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SelectorLabels".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "maxProperties": 256,
            "additionalProperties": {
                "type": "string", "maxLength": 63,
                "x-kubernetes-validations": [{"message": "wildcard is not supported in selector", "rule": "!self.contains('*')"}]
            }
        })
    }
}
