//! DestinationRules beside the rest (IST0128, IST0129, IST0173, IST0174).

use api::traffic_policy::{ClientTls, ClientTlsMode};
use api::{DestinationRuleSpec, TrafficPolicy};
use words::{Labels, host};

use crate::found::Found;
use crate::selection;
use crate::world::{Of, World};

/// Labels that the control plane adds to endpoints from their node.
const TOPOLOGY: [&str; 4] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "topology.istio.io/network",
];

/// TLS that verifies nothing (IST0128, IST0129).
pub(crate) fn certificates(world: &World<'_>, found: &mut Found) {
    for rule in &world.rules {
        let whole = rule.spec.traffic_policy.as_deref().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
        let subsets = rule.spec.subsets.iter().enumerate().filter_map(|(index, subset)| {
            Some((format!("spec.subsets[{index}].trafficPolicy"), subset.traffic_policy.as_ref()?))
        });
        for (path, policy) in whole.into_iter().chain(subsets) {
            check_policy(rule, &path, policy, found);
        }
    }
}

fn check_policy(rule: &Of<'_, DestinationRuleSpec>, path: &str, policy: &TrafficPolicy, found: &mut Found) {
    let selective = rule.spec.workload_selector.is_some();
    let fix = "name caCertificates";
    if is_blind(policy.tls.as_ref(), selective) {
        let message =
            format!("TLS to {} accepts every certificate: there is nothing to verify it with", rule.spec.host);
        found.add("IST0128", &rule.origin, format!("{path}.tls"), message, fix);
    }
    for (index, port) in
        policy.port_level_settings.iter().enumerate().filter(|(_, port)| is_blind(port.tls.as_ref(), selective))
    {
        let number = port.port.as_ref().and_then(|port| port.number).unwrap_or_default();
        let message = format!(
            "TLS to port {number} of {} accepts every certificate: there is nothing to verify it with",
            rule.spec.host
        );
        found.add("IST0129", &rule.origin, format!("{path}.portLevelSettings[{index}].tls"), message, fix);
    }
}

// A credentialName holds a CA, and reaches sidecars only with a workloadSelector (TR64).
fn is_blind(tls: Option<&ClientTls>, selective: bool) -> bool {
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    tls.is_some_and(|tls| {
        matches!(tls.mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual))
            && !set(&tls.ca_certificates)
            && !(set(&tls.credential_name) && selective)
    })
}

/// Rules for no known host (IST0174).
pub(crate) fn hosts(world: &World<'_>, found: &mut Found) {
    for rule in &world.rules {
        let name = world.host(&rule.spec.host, rule.namespace());
        let known = match host::is_wildcard(&name) {
            true => world
                .services
                .iter()
                .any(|one| host::overlaps(&one.host, &name) && one.export.includes(rule.namespace())),
            false => !world.services_of(&name, rule.namespace()).is_empty(),
        };
        if !known {
            let message = format!("host {name:?} is no service that namespace {} sees", rule.namespace());
            let fix = "create the Service or a ServiceEntry, or write the full name of a service elsewhere";
            found.add("IST0174", &rule.origin, "spec.host", message, fix);
        }
    }
}

/// Subsets without pods (IST0173).
pub(crate) fn subsets(world: &World<'_>, found: &mut Found) {
    if !world.knows_workloads {
        return;
    }
    for rule in &world.rules {
        let name = world.host(&rule.spec.host, rule.namespace());
        for service in world.services_of(&name, rule.namespace()) {
            if service.selector.is_empty() {
                continue;
            }
            for (index, subset) in rule.spec.subsets.iter().enumerate() {
                let own = subset.labels.iter().filter(|(key, _)| !TOPOLOGY.contains(&key.as_str()));
                let mut labels: Labels = service.selector.clone();
                labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
                // A subset cannot change a label of the service's own.
                let contradicts = service.selector.iter().any(|(key, value)| labels.get(key) != Some(value));
                let is_empty = contradicts || !has_members(world, &service.origin.namespace, &labels);
                if is_empty {
                    let message = format!(
                        "subset {:?} of {} has no pod with {}",
                        subset.name,
                        service.host,
                        selection::describe(&labels)
                    );
                    let fix = "label the pods, or correct the labels of the subset";
                    found.add("IST0173", &rule.origin, format!("spec.subsets[{index}]"), message, fix);
                }
            }
        }
    }
}

fn has_members(world: &World<'_>, namespace: &str, labels: &Labels) -> bool {
    let entry = |entry: &Of<'_, api::WorkloadEntrySpec>| {
        let all: Labels =
            entry.spec.labels.iter().chain(&entry.meta.labels).map(|(k, v)| (k.clone(), v.clone())).collect();
        entry.namespace() == namespace && selection::selects(labels, &all)
    };
    !world.selected(labels, Some(namespace)).is_empty() || world.workload_entries.iter().any(entry)
}
