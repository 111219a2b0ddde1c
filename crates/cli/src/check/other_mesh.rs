//! A real istiod beside us: two that inject the same pods and answer to the same objects.

use serde_json::Value;

use super::ask::{Cluster, name, namespace};
use super::{Check, certificates, good, warning};

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let deployments = cluster.list("/apis/apps/v1/deployments?labelSelector=app%3Distiod").await;
    let found: Vec<String> = deployments.iter().map(|one| format!("{} in {}", name(one), namespace(one))).collect();
    let hint = "both answer to the same objects; give this one a revision (--set revision=sluice) and label namespaces \
                istio.io/rev=sluice";
    let about = "no istiod in the cluster";
    let mut checks = vec![if found.is_empty() { good(about) } else { warning(about, found.join(", "), hint) }];
    let about = "nobody else writes the roots of the mesh";
    let roots = certificates::config_map(cluster).await;
    checks.push(match found.is_empty() || roots != certificates::DEFAULT_NAME {
        true => good(about),
        false => warning(
            about,
            format!("the ConfigMap {roots} is istiod's: each writes over the other's roots, and proxies of one fail"),
            "--set revision=sluice, or --set rootConfigMap=sluice-ca-root-cert, gives this mesh its own",
        ),
    });
    let webhooks = cluster.list("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations").await;
    let others: Vec<&str> = webhooks.iter().filter(|one| injects(one)).map(name).collect();
    let about = "nobody else injects sidecars where istio-injection=enabled";
    checks.push(match others.is_empty() {
        true => good(about),
        false => warning(about, others.join(", "), "pods would get two sidecars; remove one of the two webhooks"),
    });
    checks
}

// Istio's injector or its tag `default`.
fn injects(configuration: &Value) -> bool {
    if configuration["metadata"]["labels"]["app.kubernetes.io/name"] == "sluice" {
        return false;
    }
    let webhooks = configuration["webhooks"].as_array().cloned().unwrap_or_default();
    webhooks.iter().any(|one| {
        let namespaces = one["namespaceSelector"].to_string();
        namespaces.contains("istio-injection") && namespaces.contains("enabled")
    })
}
