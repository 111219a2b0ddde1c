//! DestinationRule: how to talk to a host, and its subsets (Istio DR01 to DR14).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use words::Labels;

use crate::{TrafficPolicy, lenient};

/// The spec of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The service host, or a wildcard.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true))]
    pub host: String,
    /// For all of the host.
    // In a box, so that a Pod, which shares an enum with this, need not be as large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<Box<TrafficPolicy>>,
    /// Named sets of its workloads.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
    /// Namespaces that see it; all when empty.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Only these clients obey it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<SelectedBy>,
}

/// A named set of workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name, a DNS label.
    #[serde(default)]
    #[schemars(extend("x-sluice-required" = true))]
    pub name: String,
    /// Labels its workloads carry.
    #[serde(default)]
    pub labels: Labels,
    /// Blocks here replace the host's (DR07).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// A selection by labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectedBy {
    /// All must be carried.
    #[serde(default)]
    #[schemars(with = "MatchLabels")]
    pub match_labels: Labels,
}

/// Schema of a DestinationRule's selector: no wildcards, no empty keys.
pub struct MatchLabels;

impl JsonSchema for MatchLabels {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MatchLabels".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "maxProperties": 4096,
            "additionalProperties": {
                "type": "string", "maxLength": 63,
                "x-kubernetes-validations": [
                    {"message": "wildcard not allowed in label value match", "rule": "!self.contains('*')"}
                ]
            },
            "x-kubernetes-validations": [
                {"message": "wildcard not allowed in label key match", "rule": "self.all(key, !key.contains('*'))"},
                {"message": "key must not be empty", "rule": "self.all(key, key.size() != 0)"}
            ]
        })
    }
}
