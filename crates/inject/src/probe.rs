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

/// What kubelet asks the sidecar instead of the application.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// What the probes asked for, by path.
    pub(crate) probes: BTreeMap<String, Value>,
    /// What stays with kubelet although it was to be rewritten, and why.
    pub(crate) warnings: Vec<String>,
}

/// Points the probes of every container to the sidecar. A sidecar that is not native starts after the init containers,
/// and one of those that goes on would wait for the other: its probes stay.
pub(crate) fn rewrite(spec: &mut Value, is_native: bool) -> Rewritten {
    let mut all = Rewritten::default();
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            match is_native || list == "containers" {
                true => of_container(container, &mut all),
                false if has_probe(container) => all.warnings.push(format!(
                    "init container {}: kubelet itself asks its probes, as the sidecar starts later; under STRICT mTLS they \
                     are refused then (sidecar.istio.io/nativeSidecar: \"true\" helps)",
                    container["name"].as_str().unwrap_or_default()
                )),
                false => {}
            }
        }
    }
    all
}

fn has_probe(container: &Value) -> bool {
    let goes_on = container["restartPolicy"] == "Always";
    let asks = |field: &str| CHECKS.iter().any(|kind| !container[field][*kind].is_null());
    goes_on && ["livenessProbe", "readinessProbe", "startupProbe"].into_iter().any(asks)
}

fn of_container(container: &mut Value, all: &mut Rewritten) {
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
            redirect(probe, &format!("/app-health/{name}/{path}"), &ports, all);
        }
    }
    for (field, path) in [("preStop", "prestopz"), ("postStart", "poststartz")] {
        if let Some(handler) = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(field))
            && handler.get("httpGet").is_some()
        {
            redirect(handler, &format!("/app-lifecycle/{name}/{path}"), &ports, all);
        }
    }
}

// Only the check changes; how often and how long stays kubelet's business.
fn redirect(probe: &mut Value, path: &str, ports: &[(String, Value)], all: &mut Rewritten) {
    let timeout = probe.get("timeoutSeconds").cloned();
    let Some(fields) = probe.as_object_mut() else { return };
    let found = CHECKS.into_iter().find_map(|kind| Some((kind, fields.get(kind).filter(|check| !check.is_null())?)));
    let Some((kind, check)) = found else { return };
    let mut check = check.clone();
    // A probe of another host does not come to this pod.
    if check.get("host").is_some_and(|host| !host.is_null() && host != "") {
        return;
    }
    // What kubelet cannot ask either is its to say: a sidecar would only hide it.
    let Some(port) = check.get("port").and_then(|port| number(port, ports)) else {
        let port = check.get("port").unwrap_or(&Value::Null);
        return all
            .warnings
            .push(format!("{path}: kubelet itself asks this probe: {port} is no port of the container"));
    };
    check["port"] = json!(port);
    let mut prober = json!({kind: check});
    if let Some(timeout) = timeout {
        prober["timeoutSeconds"] = timeout;
    }
    all.probes.insert(path.to_owned(), prober);
    fields.remove(kind);
    fields.insert("httpGet".to_owned(), json!({"path": path, "port": PORT, "scheme": "HTTP"}));
}

// As kubelet reads it: a number, a port's name, or a number as text.
fn number(port: &Value, ports: &[(String, Value)]) -> Option<u16> {
    let number = match port {
        Value::String(name) => match ports.iter().find(|(port, _)| port == name) {
            Some((_, number)) => number.as_u64()?,
            None => name.parse().ok()?,
        },
        other => other.as_u64()?,
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}
