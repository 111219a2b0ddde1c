//! The proxies: that each is connected to a replica, and runs what it was sent. Every replica is asked for its own,
//! on a port that the API server forwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ask::{Cluster, is_ready, name, namespace};
use super::control_plane;
use super::{Check, bad, good, warning};

/// Names that are shown; the rest is counted.
const SHOWN: usize = 5;

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let about = "the control plane tells about its proxies";
    let mut known = BTreeMap::new();
    for replica in control_plane::ready_pods(cluster).await {
        match cluster.page(&replica, "/debug/syncz").await {
            Ok(mut page) => {
                let proxies = page.as_array_mut().map(std::mem::take).unwrap_or_default();
                known.extend(proxies.into_iter().map(|one| (crate::dump::text(&one, "proxy").to_owned(), one)));
            }
            Err(error) => {
                let hint = "run sluicectl with an account that may create and get pods/portforward there";
                return vec![warning(about, format!("{error:#}"), hint)];
            }
        }
    }
    let pods = cluster.list("/api/v1/pods?fieldSelector=status.phase%3DRunning").await;
    vec![good(about), connected(&pods, &known), synced(&known), same_version(&known)]
}

fn connected(pods: &[Value], known: &BTreeMap<String, Value>) -> Check {
    let about = "every proxy is connected";
    let lost = pods
        .iter()
        .filter(|pod| is_ready(pod) && has_proxy(pod) && pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| format!("{}.{}", name(pod), namespace(pod)))
        .filter(|name| !known.contains_key(name));
    let lost: Vec<String> = lost.collect();
    let hint = "they run what they had; kubectl logs POD -c istio-proxy says why";
    if lost.is_empty() { good(about) } else { bad(about, shown(&lost), hint) }
}

fn has_proxy(pod: &Value) -> bool {
    let of = |list: &str| pod["spec"][list].as_array().cloned().unwrap_or_default();
    of("containers").iter().chain(&of("initContainers")).any(|one| one["name"] == "istio-proxy")
}

fn synced(known: &BTreeMap<String, Value>) -> Check {
    let about = "every proxy runs what it was sent";
    let (mut refused, mut late) = (Vec::new(), Vec::new());
    for (proxy, state) in known {
        for (kind, resource) in state["resources"].as_object().into_iter().flatten() {
            let error = resource["last_error"].as_str().unwrap_or_default();
            if !error.is_empty() {
                refused.push(format!("{proxy} refuses {kind}: {error}"));
            } else if resource["synced"] != true {
                late.push(proxy.clone());
            }
        }
    }
    late.dedup();
    let hint = "sluicectl proxy-status shows all; sluicectl analyze may say why";
    match (refused.is_empty(), late.is_empty()) {
        (false, _) => bad(about, shown(&refused), hint),
        (true, false) => warning(about, format!("not acknowledged yet by {}", shown(&late)), hint),
        (true, true) => good(about),
    }
}

fn same_version(known: &BTreeMap<String, Value>) -> Check {
    let about = "every proxy has this program's version";
    let ours = env!("CARGO_PKG_VERSION");
    let others: BTreeSet<&str> =
        known.values().map(|one| crate::dump::text(one, "proxy_version")).filter(|version| *version != ours).collect();
    let hint = "kubectl rollout restart of their workloads after an upgrade";
    match others.is_empty() {
        true => good(about),
        false => {
            let what = format!("there are also {}", others.into_iter().collect::<Vec<_>>().join(", "));
            warning(about, what, hint)
        }
    }
}

fn shown(all: &[String]) -> String {
    let some = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}
