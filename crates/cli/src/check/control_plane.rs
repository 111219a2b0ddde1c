//! The control plane: its Deployment, its pods, who leads, and whether its Services lead to it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::ask::{Cluster, Found, is_ready, name, parse_time, unseen};
use super::{Check, bad, good, warning};

/// The Lease's holder renews it every 2 s and loses it after 15 s; clocks may differ.
const SILENT_MAX: Duration = Duration::from_secs(30);

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let namespace = &cluster.namespace;
    let about = "sluiced is installed";
    let found = cluster.get(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/sluiced")).await;
    let deployment = match found {
        Found::Value(deployment) => deployment,
        Found::Missing => {
            let hint =
                "helm install sluice deploy/helm/sluice -n istio-system --create-namespace; -i names another namespace";
            return vec![bad(about, format!("no Deployment sluiced in {namespace}"), hint)];
        }
        other => return vec![unseen(about, &other)],
    };
    let pods = pods(cluster).await;
    let mut checks = vec![good(about), available(&deployment), restarts(&pods), one_version(&pods)];
    checks.push(leader(cluster, &deployment, &pods).await);
    for service in ["sluiced", "istiod"] {
        checks.extend(endpoints(cluster, service).await);
    }
    checks
}

/// The control plane's pods.
pub(super) async fn pods(cluster: &Cluster) -> Vec<Value> {
    cluster.list(&format!("/api/v1/namespaces/{}/pods?labelSelector=app%3Dsluiced", cluster.namespace)).await
}

fn available(deployment: &Value) -> Check {
    let about = "every replica of sluiced is ready";
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let there = deployment["status"]["availableReplicas"].as_u64().unwrap_or_default();
    let what = format!("{there} of {wanted} are");
    let hint = "kubectl -n istio-system describe pod -l app=sluiced; kubectl -n istio-system logs -l app=sluiced";
    match there {
        there if there >= wanted => good(about),
        0 => bad(about, what, hint),
        _ => warning(about, what, hint),
    }
}

fn restarts(pods: &[Value]) -> Check {
    let about = "sluiced does not restart again and again";
    let count = |pod: &Value| {
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        containers.into_iter().filter_map(|one| one["restartCount"].as_u64()).sum::<u64>()
    };
    let often: Vec<String> = pods
        .iter()
        .filter(|pod| count(pod) > 5)
        .map(|pod| format!("{} has restarted {} times", name(pod), count(pod)))
        .collect();
    match often.is_empty() {
        true => good(about),
        false => warning(about, often.join(", "), "kubectl -n istio-system logs -l app=sluiced --previous"),
    }
}

fn one_version(pods: &[Value]) -> Check {
    let about = "every replica has the same image";
    let mut images: Vec<&str> = pods.iter().filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str()).collect();
    images.sort_unstable();
    images.dedup();
    match images.len() {
        0 | 1 => good(about),
        _ => warning(
            about,
            images.join(", "),
            "an upgrade is under way: kubectl -n istio-system rollout status deployment/sluiced",
        ),
    }
}

async fn leader(cluster: &Cluster, deployment: &Value, pods: &[Value]) -> Check {
    let about = "one replica leads";
    let (namespace, lease) = lease_of(cluster, deployment);
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}");
    let (date, found) = cluster.get_with_date(&path).await;
    match found {
        Found::Value(lease) => judge_leader(about, &lease, pods, date.unwrap_or_else(SystemTime::now)),
        Found::Missing => {
            bad(about, format!("there is no Lease {lease}"), "kubectl -n istio-system logs -l app=sluiced")
        }
        other => unseen(about, &other),
    }
}

/// Namespace and name of the Lease.
pub(super) async fn lease(cluster: &Cluster) -> (String, String) {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/sluiced", cluster.namespace);
    lease_of(cluster, &cluster.get(&path).await.value().unwrap_or_default())
}

fn lease_of(cluster: &Cluster, deployment: &Value) -> (String, String) {
    let namespace = flag(deployment, "--root-namespace=").unwrap_or(&cluster.namespace);
    (namespace.to_owned(), flag(deployment, "--lease=").unwrap_or("sluice-leader").to_owned())
}

// What the chart has told sluiced.
fn flag<'a>(deployment: &'a Value, name: &str) -> Option<&'a str> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
    let mut args = containers.flat_map(|one| one["args"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    args.find_map(|arg| arg.strip_prefix(name)).filter(|value| !value.is_empty())
}

fn judge_leader(about: &str, lease: &Value, pods: &[Value], now: SystemTime) -> Check {
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let hint = "without a leader no conditions and no roots are written; kubectl -n istio-system logs -l app=sluiced";
    if holder.is_empty() {
        return bad(about, "nobody holds the Lease", hint);
    }
    let renewed = lease["spec"]["renewTime"].as_str().and_then(parse_time);
    let silent = renewed.and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
    if silent > SILENT_MAX {
        return bad(about, format!("{holder} has not renewed the Lease for {} s", silent.as_secs()), hint);
    }
    match pods.iter().any(|pod| name(pod) == holder) {
        true => good(about),
        false => warning(about, format!("{holder} leads, which is no pod of this Deployment"), hint),
    }
}

// The alias is optional.
async fn endpoints(cluster: &Cluster, service: &str) -> Option<Check> {
    let namespace = &cluster.namespace;
    let about = format!("the Service {service} leads to a ready replica");
    let found = cluster.get(&format!("/api/v1/namespaces/{namespace}/services/{service}")).await;
    if service == "istiod" && matches!(found, Found::Missing) {
        return None;
    }
    let Found::Value(_) = found else {
        return Some(bad(&about, found.why_not(), "helm upgrade puts it back"));
    };
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    );
    let slices = cluster.list(&path).await;
    let mut endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    Some(match endpoints.any(|one| one["conditions"]["ready"] != false) {
        true => good(&about),
        false => bad(&about, "it has no ready endpoint", "is a pod of sluiced ready, and does the Service select it?"),
    })
}

/// A pod of the control plane that answers questions.
pub(super) async fn ready_pods(cluster: &Cluster) -> Vec<String> {
    pods(cluster).await.iter().filter(|pod| is_ready(pod)).map(|pod| name(pod).to_owned()).collect()
}
