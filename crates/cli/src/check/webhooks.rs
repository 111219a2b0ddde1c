//! The webhooks: that they trust the root that sluiced serves with, and that they answer. They are asked by dry run, the
//! way everybody's kubectl asks them.

use serde_json::{Value, json};

use super::ask::{Cluster, Found, name, unseen};
use super::certificates;
use super::{Check, bad, good, warning};

const KINDS: [(&str, &str, &str); 2] = [
    ("mutatingwebhookconfigurations", "sluice-sidecar-injector", "the injector"),
    ("validatingwebhookconfigurations", "sluice-validator", "the validator"),
];
const LOGS: &str = "kubectl -n istio-system logs -l app=sluiced";

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let name = certificates::config_map(cluster).await;
    let roots = certificates::roots(cluster, &cluster.namespace, &name).await.unwrap_or_default();
    let mut checks = Vec::new();
    for (plural, prefix, words) in KINDS {
        let about = format!("{words}'s webhook is installed");
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let found = cluster.get(&path).await;
        if !matches!(found, Found::Value(_)) {
            checks.push(unseen(&about, &found));
            continue;
        }
        let ours: Vec<Value> =
            found.items().into_iter().filter(|one| is_ours(one, prefix, &cluster.namespace)).collect();
        let Some(configuration) = ours.first() else {
            let hint = "helm upgrade with injection.enabled and validation.enabled";
            checks.push(warning(&about, format!("no {plural} {prefix}"), hint));
            continue;
        };
        checks.push(good(&about));
        checks.push(trusts(configuration, words, &roots));
        checks.push(match words {
            "the injector" => injects(cluster, configuration).await,
            _ => validates(cluster, configuration).await,
        });
    }
    checks
}

// Revisions and namespaces have their own, with a longer name.
fn is_ours(configuration: &Value, prefix: &str, namespace: &str) -> bool {
    let service = &configuration["webhooks"][0]["clientConfig"]["service"];
    name(configuration) == prefix
        || (name(configuration).starts_with(prefix) && service["namespace"].as_str() == Some(namespace))
}

pub(super) fn trusts(configuration: &Value, words: &str, roots: &str) -> Check {
    let about = format!("{words}'s caBundle is the mesh's root");
    let webhooks = configuration["webhooks"].as_array().cloned().unwrap_or_default();
    let hint = format!("the leader writes it; {LOGS}");
    for webhook in &webhooks {
        let bundle = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        if bundle.is_empty() {
            return bad(&about, format!("{} has none", webhook["name"].as_str().unwrap_or_default()), hint);
        }
        let text = analyze::certificate::base64(bundle.as_bytes()).unwrap_or_default();
        if roots.trim().is_empty() || String::from_utf8_lossy(&text).trim() != roots.trim() {
            let what = format!("that of {} is another", webhook["name"].as_str().unwrap_or_default());
            return bad(&about, what, hint);
        }
    }
    good(&about)
}

// A pod that asks for a sidecar, of a revision if ours has one.
async fn injects(cluster: &Cluster, configuration: &Value) -> Check {
    let about = "the injector answers";
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sluice-check", "labels": {"sidecar.istio.io/inject": "true"}},
        "spec": {"serviceAccountName": "default", "containers": [{"name": "check", "image": "check"}]}
    });
    if let Some(revision) = revision(configuration) {
        pod["metadata"]["labels"]["istio.io/rev"] = json!(revision);
    }
    let Some(namespace) = where_pods_may_ask(cluster, configuration).await else {
        return warning(
            about,
            "no namespace lets a pod ask for a sidecar",
            "kubectl get namespaces -L istio-injection,istio.io/rev",
        );
    };
    let hint = format!("pods of the mesh are refused or run without a sidecar until it does; {LOGS}");
    match cluster.post(&format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), &pod).await {
        Found::Value(pod) if has_sidecar(&pod) => good(about),
        Found::Value(_) => bad(about, "a pod that asked for a sidecar got none", hint),
        Found::Refused(_, message) if message.contains("sidecar-injector") => bad(about, message, hint),
        // Pod Security, quota: the webhook has done its part, or was not reached.
        other => unseen(about, &other),
    }
}

// `None`: the default one.
fn revision(configuration: &Value) -> Option<&str> {
    configuration["metadata"]["labels"]["istio.io/rev"].as_str().filter(|revision| *revision != "default")
}

// In a namespace that says no, or that is another revision's, a pod's own wish counts for nothing.
async fn where_pods_may_ask(cluster: &Cluster, configuration: &Value) -> Option<String> {
    let namespaces = cluster.list("/api/v1/namespaces").await;
    let may_ask = |one: &&Value| {
        let labels = &one["metadata"]["labels"];
        let of_revision = &labels["istio.io/rev"];
        labels["istio-injection"] != "disabled"
            && (of_revision.is_null() || of_revision.as_str() == revision(configuration).or(Some("default")))
    };
    let default = namespaces.iter().find(|one| name(one) == "default").filter(may_ask);
    let of_mesh =
        || namespaces.iter().filter(may_ask).find(|one| one["metadata"]["labels"]["istio-injection"] == "enabled");
    default.or_else(of_mesh).map(|one| name(one).to_owned())
}

fn has_sidecar(pod: &Value) -> bool {
    let of = |list: &str| pod["spec"][list].as_array().cloned().unwrap_or_default();
    of("containers").iter().chain(&of("initContainers")).any(|one| one["name"] == "istio-proxy")
}

// A VirtualService that every schema takes and no mesh can obey: its host is no name.
async fn validates(cluster: &Cluster, configuration: &Value) -> Check {
    let about = "the validator answers";
    let revision = revision(configuration).unwrap_or("default");
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "sluice-check", "labels": {"istio.io/rev": revision}},
        "spec": {"hosts": ["sluice check"], "http": [{"route": [{"destination": {"host": "sluice-check"}}]}]}
    });
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices?dryRun=All";
    let hint = format!("wrong objects get in until it does, and are isolated; {LOGS}");
    let answers = match cluster.post(path, &object).await {
        // Another mesh's webhook may deny it, too.
        Found::Refused(_, message) if message.contains("validation.sluice.dev\" denied the request") => true,
        Found::Refused(_, message) if message.contains("failed calling webhook") => return bad(about, message, hint),
        Found::Value(_) => false,
        other => return unseen(about, &other),
    };
    match (answers, configuration["webhooks"][0]["failurePolicy"].as_str()) {
        (false, _) => warning(about, "it let a wrong object pass", hint),
        (true, Some("Fail")) => good(about),
        (true, _) => warning(about, "it does, but its failurePolicy is still Ignore", "the leader makes it Fail soon"),
    }
}
