//! `meshNetworks` in the control plane's ConfigMap: each registry must be a known cluster (IST0126).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::found::Found;
use crate::world::World;

/// The registry of the cluster itself.
const OWN: &str = "Kubernetes";
/// Marks a Secret with kubeconfigs of other clusters, by their names.
const REMOTE: &str = "istio/multiCluster";

pub(crate) fn registries(world: &World<'_>, found: &mut Found) {
    let remote =
        world.secrets.iter().filter(|secret| secret.meta.labels.get(REMOTE).is_some_and(|value| value == "true"));
    let mut known: BTreeSet<&str> = remote.flat_map(|secret| secret.spec.data.keys().map(String::as_str)).collect();
    known.insert(OWN);
    for map in world.others_of(&["ConfigMap"]) {
        let is_root = *map.origin.namespace == *world.options.root_namespace;
        let Some(text) = map.value["data"]["meshNetworks"].as_str().filter(|_| is_root) else { continue };
        // What is no YAML is the control plane's to report.
        let networks: Value = serde_saphyr::from_str(text).unwrap_or_default();
        for (name, network) in networks["networks"].as_object().into_iter().flatten() {
            for endpoint in network["endpoints"].as_array().into_iter().flatten() {
                let Some(registry) = endpoint["fromRegistry"].as_str().filter(|registry| !known.contains(registry))
                else {
                    continue;
                };
                let message = format!("network {name}: {registry:?} is no known cluster ({})", list(&known));
                let fix = "correct the name, or add the cluster's Secret";
                found.add("IST0126", &map.origin, "data.meshNetworks", message, fix);
            }
        }
    }
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
