//! Rights: what sluiced's account may do, and before there is one, what we may do to install it.

use api::Kind;
use serde_json::{Value, json};

use super::ask::Cluster;
use super::control_plane;
use super::{Check, bad, good, warning};

/// The control plane's ServiceAccount.
const ACCOUNT: &str = "sluiced";

fn action(verb: &str, group: &str, resource: &str) -> Value {
    json!({"verb": verb, "group": group, "resource": resource})
}

/// What whoever installs the chart has to make.
pub(super) async fn check_before(cluster: &Cluster) -> Vec<Check> {
    let made = [
        ("", "namespaces"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apps", "deployments"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "secrets"),
    ];
    let mut checks = Vec::new();
    for (group, resource) in made {
        let mut what = action("create", group, resource);
        what["namespace"] = json!(cluster.namespace);
        let about = format!("can create {resource}");
        checks.push(match cluster.may(None, what).await {
            Some(false) => bad(&about, "the API server would refuse it", "install with an account that may"),
            _ => good(&about),
        });
    }
    checks
}

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let mut checks = Vec::new();
    for (about, actions) in wanted(&cluster.namespace, &control_plane::lease(cluster).await) {
        let mut refused = Vec::new();
        for action in actions {
            match cluster.may(Some(ACCOUNT), action.clone()).await {
                Some(true) => {}
                Some(false) => refused.push(words(&action)),
                None => {
                    let hint = "run sluicectl with an account that may create subjectaccessreviews";
                    return vec![warning("sluiced has its rights", "whether it has them cannot be asked", hint)];
                }
            }
        }
        let hint = "helm upgrade puts the chart's roles back";
        checks.push(if refused.is_empty() { good(about) } else { bad(about, refused.join(", "), hint) });
    }
    let about = "sluiced may not read every Secret";
    checks.push(match cluster.may(Some(ACCOUNT), action("list", "", "secrets")).await {
        Some(true) => {
            warning(about, "some binding beside the chart's lets it", "kubectl get clusterrolebindings -o wide")
        }
        _ => good(about),
    });
    checks
}

fn wanted(namespace: &str, (root, lease): &(String, String)) -> Vec<(&'static str, Vec<Value>)> {
    let read = Kind::ALL.iter().filter(|kind| **kind != Kind::Secret);
    let custom = Kind::ALL.iter().filter(|kind| kind.is_custom());
    let of = |namespace: &str, verb: &str, group: &str, resource: &str, name: &str| {
        let mut action = action(verb, group, resource);
        action["namespace"] = json!(namespace);
        if !name.is_empty() {
            action["name"] = json!(name);
        }
        action
    };
    let within = |verb: &str, group: &str, resource: &str, name: &str| of(namespace, verb, group, resource, name);
    vec![
        ("sluiced may read what is routed by", read.map(|kind| action("watch", kind.group(), kind.plural())).collect()),
        (
            "sluiced may write conditions",
            custom
                .map(|kind| {
                    let mut action = action("patch", kind.group(), kind.plural());
                    action["subresource"] = json!("status");
                    action
                })
                .collect(),
        ),
        ("sluiced may lead", vec![of(root, "update", "coordination.k8s.io", "leases", lease)]),
        (
            "sluiced may ask who may hold Secrets",
            vec![action("create", "authorization.k8s.io", "subjectaccessreviews")],
        ),
        (
            "sluiced may be a certificate authority",
            vec![
                action("create", "authentication.k8s.io", "tokenreviews"),
                within("create", "", "secrets", ""),
                within("get", "", "secrets", "istio-ca-secret"),
                action("create", "", "configmaps"),
                of("default", "patch", "", "configmaps", "istio-ca-root-cert"),
            ],
        ),
        (
            "sluiced may read its gateways' Secrets",
            vec![within("list", "", "secrets", ""), within("watch", "", "secrets", "")],
        ),
        ("sluiced may report events", vec![action("create", "", "events")]),
    ]
}

fn words(action: &Value) -> String {
    let text = |key: &str| action[key].as_str().unwrap_or_default();
    let group = if text("group").is_empty() { String::new() } else { format!(".{}", text("group")) };
    let part = if text("subresource").is_empty() { String::new() } else { format!("/{}", text("subresource")) };
    format!("it may not {} {}{group}{part}", text("verb"), text("resource"))
}
