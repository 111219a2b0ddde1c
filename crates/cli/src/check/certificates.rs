//! The roots of the mesh: that they are published, and when they end.

use std::time::{SystemTime, UNIX_EPOCH};

use super::ask::{Cluster, Found, unseen};
use super::{Check, bad, good, warning};

/// Before a root ends a new one must be brought in beside it; that takes days.
const SOON_SECONDS: u64 = 30 * 86_400;

/// Namespaces of Kubernetes itself get no roots.
const SKIPPED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// The ConfigMap that the roots are in where nothing else is said.
pub(super) const DEFAULT_NAME: &str = "istio-ca-root-cert";

/// The name of the ConfigMap that the roots are in, as the control plane was told.
pub(super) async fn config_map(cluster: &Cluster) -> String {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/sluiced", cluster.namespace);
    let deployment = cluster.get(&path).await.value().unwrap_or_default();
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
    let said = args.iter().find_map(|arg| arg.as_str()?.strip_prefix("--root-config-map="));
    said.unwrap_or(DEFAULT_NAME).to_owned()
}

/// The roots, in PEM, from the ConfigMap of this name.
pub(super) async fn roots(cluster: &Cluster, namespace: &str, name: &str) -> Result<String, Found> {
    match cluster.get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).await {
        Found::Value(map) => Ok(map["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned()),
        other => Err(other),
    }
}

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let about = "the mesh's root is published";
    let name = config_map(cluster).await;
    let pem = match roots(cluster, &cluster.namespace, &name).await {
        Ok(pem) => pem,
        Err(Found::Missing) => {
            let what = format!("no ConfigMap {name} in {}", cluster.namespace);
            let hint = "the leader writes it, so proxies wait; kubectl -n istio-system logs -l app=sluiced";
            return vec![bad(about, what, hint)];
        }
        Err(other) => return vec![unseen(about, &other)],
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    vec![good(about), ends(&pem, now), everywhere(cluster, &name, &pem).await]
}

pub(super) fn ends(pem: &str, now: u64) -> Check {
    let about = "the mesh's root is valid for a month and longer";
    let hint = "bring in a new root beside the old one: docs/install.md, Certificates";
    match analyze::certificate::end(pem) {
        None => bad(about, "root-cert.pem is no certificate", "delete the ConfigMap: the leader writes it anew"),
        Some(end) => match analyze::certificate::ends_before(&end, now) {
            true => bad(about, format!("it has ended on {}", analyze::certificate::date(&end)), hint),
            false if analyze::certificate::ends_before(&end, now + SOON_SECONDS) => {
                warning(about, format!("it ends on {}", analyze::certificate::date(&end)), hint)
            }
            false => good(about),
        },
    }
}

async fn everywhere(cluster: &Cluster, config_map: &str, pem: &str) -> Check {
    let about = "namespaces of the mesh have the same root";
    let mut different = Vec::new();
    for namespace in cluster.list("/api/v1/namespaces").await {
        let name = super::ask::name(&namespace).to_owned();
        let is_ending = namespace["status"]["phase"] == "Terminating";
        let labels = &namespace["metadata"]["labels"];
        if is_ending
            || SKIPPED.contains(&name.as_str())
            || (labels["istio-injection"] != "enabled" && labels["istio.io/rev"].is_null())
        {
            continue;
        }
        if roots(cluster, &name, config_map).await.is_ok_and(|there| there == pem) {
            continue;
        }
        different.push(name);
    }
    let hint = "the leader writes it into every namespace; pods there cannot start without it";
    match different.is_empty() {
        true => good(about),
        false => bad(about, format!("missing or different in {}", different.join(", ")), hint),
    }
}
