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
    #[schemars(required)]
    pub host: String,
    /// For all of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
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
    #[schemars(required)]
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
    pub match_labels: Labels,
}
