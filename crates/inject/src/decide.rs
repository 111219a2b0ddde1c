//! Whether a pod gets a sidecar, and why not.
//!
//! Istio's order: what the namespace and the pod want (label before annotation, `istio-injection` before `istio.io/rev`),
//! then what stands in the way. Where somebody asked and cannot have it, the reason says so to them.

use std::fmt;

use serde_json::Value;
use words::Labels;

use crate::annotations::{self, INJECT, STATUS};
use crate::proxy::{Config, OWN_PORTS, STATUS_PORT};
use crate::{INIT_CONTAINER, PROXY_CONTAINER, Request};

/// Written to pods that asked and were left, with the reason: `kubectl describe pod` shows it.
pub const NOT_INJECTED: &str = "networking.sluice.dev/not-injected";

/// Namespaces that are never injected: the cluster would not come up without the control plane.
const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// What is decided about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It gets a sidecar.
    Inject,
    /// It stays as it is.
    Leave(Reason),
    /// It must not run.
    Refuse(String),
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody asked.
    NotAsked,
    /// The namespace says no.
    NamespaceDisabled,
    /// The pod says no, by label or annotation.
    PodDisabled(&'static str),
    /// A namespace of Kubernetes itself.
    SystemNamespace,
    /// Another control plane's.
    OtherRevision(String),
    /// It has been injected before.
    AlreadyInjected,
    /// It uses the node's network: capture would take the whole node's traffic.
    HostNetwork,
    /// It has a container of a name that is ours.
    HasContainer(&'static str),
}

impl Reason {
    /// True when somebody asked for a sidecar and must be told why there is none.
    pub fn is_surprising(&self) -> bool {
        matches!(self, Reason::HostNetwork | Reason::HasContainer(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotAsked => f.write_str(
                "neither its namespace (istio-injection=enabled, istio.io/rev) nor the pod (label sidecar.istio.io/inject) asks \
                 for it",
            ),
            Reason::NamespaceDisabled => f.write_str("its namespace has the label istio-injection=disabled"),
            Reason::PodDisabled(by) => write!(f, "its {by} {INJECT} says no"),
            Reason::SystemNamespace => f.write_str("its namespace belongs to Kubernetes itself"),
            Reason::OtherRevision(revision) => write!(f, "it asks for revision {revision:?}"),
            Reason::AlreadyInjected => f.write_str("it has been injected already"),
            Reason::HostNetwork => f.write_str(
                "it uses the node's network (hostNetwork: true), where capture would take the traffic of the whole node",
            ),
            Reason::HasContainer(name) => write!(f, "it has a container {name} of its own"),
        }
    }
}

/// Decides.
pub fn decide(request: Request<'_>) -> Verdict {
    if let Some(reason) = unwanted(request) {
        return Verdict::Leave(reason);
    }
    if annotations::of(request.pod).contains_key(STATUS) {
        return Verdict::Leave(Reason::AlreadyInjected);
    }
    let spec = &request.pod["spec"];
    if spec["hostNetwork"] == true {
        return Verdict::Leave(Reason::HostNetwork);
    }
    let has = |name: &str| containers(spec).any(|container| container["name"] == name);
    if let Some(name) = [PROXY_CONTAINER, INIT_CONTAINER].into_iter().find(|name| has(name)) {
        return Verdict::Leave(Reason::HasContainer(name));
    }
    match conflict(request) {
        Some(reason) => Verdict::Refuse(reason),
        None => Verdict::Inject,
    }
}

fn unwanted(request: Request<'_>) -> Option<Reason> {
    if SYSTEM_NAMESPACES.contains(&request.namespace) {
        return Some(Reason::SystemNamespace);
    }
    let labels = annotations::labels_of(request.pod);
    let annotations = annotations::of(request.pod);
    let said = match labels.get(INJECT) {
        Some(value) => Some((value, "label")),
        None => annotations.get(INJECT).map(|value| (value, "annotation")),
    };
    let wish = said.and_then(|(value, by)| Some((yes_or_no(value)?, by)));
    if let Some((false, by)) = wish {
        return Some(Reason::PodDisabled(by));
    }
    let of_namespace = request.labels?;
    asked(of_namespace, &labels, request).err()
}

// As the selectors of Istio's five webhooks have it.
fn asked(of_namespace: &Labels, of_pod: &Labels, request: Request<'_>) -> Result<(), Reason> {
    let own = &request.settings.revision;
    let revision = |found: &String| match found == own {
        true => Ok(()),
        false => Err(Reason::OtherRevision(found.clone())),
    };
    match of_namespace.get("istio-injection").map(String::as_str) {
        Some("enabled") => return Ok(()),
        Some("disabled") => return Err(Reason::NamespaceDisabled),
        _ => {}
    }
    if let Some(found) = of_namespace.get("istio.io/rev") {
        return revision(found);
    }
    let pod_asks = of_pod.get(INJECT).is_some_and(|value| yes_or_no(value) == Some(true));
    match of_pod.get("istio.io/rev") {
        Some(found) => revision(found),
        None if pod_asks || request.settings.inject_by_default => Ok(()),
        None => Err(Reason::NotAsked),
    }
}

// Istio: what is not a yes is a no; nothing is neither.
fn yes_or_no(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "" => None,
        "y" | "yes" | "true" | "on" => Some(true),
        _ => Some(false),
    }
}

/// Every container of a pod, those that run before the others first.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let of = |list: &'static str| spec[list].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers"))
}

fn conflict(request: Request<'_>) -> Option<String> {
    let config = Config::of(request).ok()?;
    // What the annotation frees is free.
    let is_own = |number: u16| match number {
        15053 => config.redirect_dns,
        STATUS_PORT => config.own_status_port() == STATUS_PORT,
        _ => true,
    };
    let moved = (config.own_status_port(), "readiness");
    let own = OWN_PORTS.into_iter().filter(|(number, _)| is_own(*number)).chain([moved]);
    let own: Vec<(u16, &str)> = own.collect();
    for container in containers(&request.pod["spec"]) {
        for port in container["ports"].as_array().into_iter().flatten() {
            let number = port["containerPort"].as_u64().unwrap_or_default();
            let is_udp = port["protocol"].as_str().is_some_and(|protocol| protocol != "TCP");
            let taken = |(own, _): &&(u16, &str)| u64::from(*own) == number && (!is_udp || number == 15053);
            if let Some((_, purpose)) = own.iter().find(taken) {
                let name = container["name"].as_str().unwrap_or_default();
                return Some(format!(
                    "container {name} listens on port {number}, which the sidecar needs for {purpose}; let it listen on \
                     another port, or leave the pod out of the mesh with the label {INJECT}: \"false\""
                ));
            }
        }
    }
    None
}
