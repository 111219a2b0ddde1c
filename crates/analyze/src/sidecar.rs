//! Sidecars beside the rest (IST0101, IST0110, IST0111, IST0167).

use std::collections::{BTreeMap, BTreeSet};

use api::SidecarSpec;
use words::Labels;

use crate::found::Found;
use crate::selection;
use crate::world::{Of, World};

type Scoped<'a> = Of<'a, SidecarSpec>;

/// How a namespace or a pod says that it has no sidecar.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

fn selector<'a>(sidecar: &'a Scoped<'_>) -> Option<&'a Labels> {
    sidecar.spec.workload_selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

/// Selectors without workload (IST0101), and Sidecars that compete (IST0110, IST0111).
pub(crate) fn selectors(world: &World<'_>, found: &mut Found) {
    let mut of_namespace: BTreeMap<&str, Vec<&Scoped<'_>>> = BTreeMap::new();
    let mut of_workload: BTreeMap<&words::Origin, Vec<&Scoped<'_>>> = BTreeMap::new();
    for sidecar in &world.sidecars {
        let Some(labels) = selector(sidecar) else {
            of_namespace.entry(sidecar.namespace()).or_default().push(sidecar);
            continue;
        };
        // The root namespace's Sidecars are for everybody, and select nothing.
        let workloads = world.selected(labels, Some(sidecar.namespace()));
        if workloads.is_empty() && world.knows_workloads {
            let message =
                format!("no pod of namespace {} has the labels {}", sidecar.namespace(), selection::describe(labels));
            found.add(
                "IST0101",
                &sidecar.origin,
                "spec.workloadSelector.labels",
                message,
                "select labels that pods have",
            );
        }
        for workload in workloads.iter().map(|workload| &workload.origin).collect::<BTreeSet<_>>() {
            of_workload.entry(workload).or_default().push(sidecar);
        }
    }
    for (namespace, sidecars) in of_namespace.iter().filter(|(_, sidecars)| sidecars.len() > 1) {
        for sidecar in sidecars {
            let message = format!(
                "namespace {namespace} has other Sidecars without a selector: {}; only the oldest acts",
                others(sidecar, sidecars)
            );
            found.add("IST0111", &sidecar.origin, "spec", message, "keep one, or give the others a workloadSelector");
        }
    }
    let mut said = BTreeSet::new();
    for (workload, sidecars) in of_workload.iter().filter(|(_, sidecars)| sidecars.len() > 1) {
        for sidecar in sidecars.iter().filter(|sidecar| said.insert(&sidecar.origin)) {
            let message =
                format!("{workload} is selected by Sidecar {} too; only the oldest acts", others(sidecar, sidecars));
            found.add(
                "IST0110",
                &sidecar.origin,
                "spec.workloadSelector.labels",
                message,
                "select each workload by one Sidecar",
            );
        }
    }
}

fn others(sidecar: &Scoped<'_>, all: &[&Scoped<'_>]) -> String {
    let names: Vec<&str> =
        all.iter().filter(|other| other.origin != sidecar.origin).map(|other| other.meta.name.as_str()).collect();
    names.join(", ")
}

/// Sidecars where no sidecar is (IST0167).
pub(crate) fn ambient(world: &World<'_>, found: &mut Found) {
    for sidecar in &world.sidecars {
        let namespace = world.namespaces.get(sidecar.namespace());
        let whole = namespace.is_some_and(|meta| is_ambient(&meta.labels));
        let pods =
            selector(sidecar).map(|labels| world.selected(labels, Some(sidecar.namespace()))).unwrap_or_default();
        let each = !pods.is_empty() && pods.iter().all(|pod| is_ambient(&pod.labels));
        if whole || each {
            let of_what = if whole { format!("namespace {}", sidecar.namespace()) } else { "the selected pods".into() };
            let message = format!("{of_what}: {DATAPLANE_MODE} is ambient, so no sidecar is there to obey this");
            found.add("IST0167", &sidecar.origin, "spec", message, "remove it, or the ambient label");
        }
    }
}

fn is_ambient(labels: &Labels) -> bool {
    labels.get(DATAPLANE_MODE).is_some_and(|mode| mode == "ambient")
}
