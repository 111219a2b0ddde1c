//! The gateways of every release: that their pods are ready and that the world has an address for them.

use serde_json::Value;

use super::ask::{Cluster, name, namespace};
use super::{Check, bad, good, warning};

const OURS: &str = "labelSelector=app.kubernetes.io%2Fname%3Dsluice";

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let deployments = cluster.list(&format!("/apis/apps/v1/deployments?{OURS}")).await;
    let gateways: Vec<Value> = deployments.into_iter().filter(|one| name(one) != "sluiced").collect();
    if gateways.is_empty() {
        let hint = "nothing comes in from outside; gateways.istio-ingressgateway.enabled of the chart makes one";
        return vec![warning("there is a gateway", "there is none", hint)];
    }
    let services = cluster.list(&format!("/api/v1/services?{OURS}")).await;
    let mut checks = Vec::new();
    for gateway in &gateways {
        checks.push(available(gateway));
        let service = services.iter().find(|one| name(one) == name(gateway) && namespace(one) == namespace(gateway));
        checks.extend(service.and_then(address));
    }
    checks
}

fn available(gateway: &Value) -> Check {
    let about = format!("{} in {} is ready", name(gateway), namespace(gateway));
    let wanted = gateway["spec"]["replicas"].as_u64().unwrap_or(1);
    let there = gateway["status"]["availableReplicas"].as_u64().unwrap_or_default();
    let what = format!("{there} of {wanted} pods are");
    let hint = format!("kubectl -n {} describe pod -l app={}", namespace(gateway), name(gateway));
    match there {
        there if there >= wanted => good(&about),
        0 => bad(&about, what, hint),
        _ => warning(&about, what, hint),
    }
}

fn address(service: &Value) -> Option<Check> {
    if service["spec"]["type"] != "LoadBalancer" {
        return None;
    }
    let about = format!("{} in {} has an address", name(service), namespace(service));
    let given = service["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|all| !all.is_empty());
    let hint = "a cluster without load balancers gives none: service.type NodePort (profiles/kind.yaml), or \
                kubectl port-forward";
    Some(if given { good(&about) } else { warning(&about, "its load balancer is pending", hint) })
}
