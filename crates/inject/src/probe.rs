//! Probes of the application: kubelet asks the sidecar, which asks the application without TLS and without capture.
//!
//! kubelet has no identity in the mesh, so under STRICT mTLS its own probes would be refused. Istio's paths
//! (`/app-health/<container>/livez`) and Istio's form of what is behind them (`ISTIO_KUBE_APP_PROBERS`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::PROXY_CONTAINER;

/// Where the sidecar answers.
const PORT: u16 = 15020;
/// What of a probe is its own; the rest stays with kubelet.
const CHECKS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Points the probes of every container to the sidecar; what they asked for, by path.
pub(crate) fn rewrite(spec: &mut Value) -> BTreeMap<String, Value> {
    let mut probes = BTreeMap::new();
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            of_container(container, &mut probes);
        }
    }
    probes
}

fn of_container(container: &mut Value, probes: &mut BTreeMap<String, Value>) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    if name == PROXY_CONTAINER {
        return;
    }
    let ports: Vec<(String, Value)> = container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| Some((port["name"].as_str()?.to_owned(), port["containerPort"].clone())))
        .collect();
    for (field, path) in [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")] {
        if let Some(probe) = container.get_mut(field) {
            redirect(probe, &format!("/app-health/{name}/{path}"), &ports, probes);
        }
    }
    for (field, path) in [("preStop", "prestopz"), ("postStart", "poststartz")] {
        if let Some(handler) = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(field))
            && handler.get("httpGet").is_some()
        {
            redirect(handler, &format!("/app-lifecycle/{name}/{path}"), &ports, probes);
        }
    }
}

// Only the check changes; how often and how long stays kubelet's business.
fn redirect(probe: &mut Value, path: &str, ports: &[(String, Value)], probes: &mut BTreeMap<String, Value>) {
    let timeout = probe.get("timeoutSeconds").cloned();
    let Some(fields) = probe.as_object_mut() else { return };
    let Some(kind) = CHECKS.into_iter().find(|kind| fields.get(*kind).is_some_and(|check| !check.is_null())) else {
        return;
    };
    let Some(mut check) = fields.remove(kind) else { return };
    let by_name = |named: &Value| {
        let name = named.as_str()?;
        ports.iter().find(|(port, _)| port == name).map(|(_, number)| number.clone())
    };
    if let Some(number) = check.get("port").and_then(by_name) {
        check["port"] = number;
    }
    // A probe of another host does not come to this pod.
    if check.get("host").is_some_and(|host| !host.is_null() && host != "") {
        fields.insert(kind.to_owned(), check);
        return;
    }
    let mut prober = json!({kind: check});
    if let Some(timeout) = timeout {
        prober["timeoutSeconds"] = timeout;
    }
    probes.insert(path.to_owned(), prober);
    fields.insert("httpGet".to_owned(), json!({"path": path, "port": PORT, "scheme": "HTTP"}));
}
