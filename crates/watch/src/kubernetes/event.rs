//! Events: what `kubectl describe` shows below an object.
//!
//! In: what happened, how often, to which object. Out: a core/v1 Event, new or with a higher count. Decides nothing.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, WriteError, send};

/// The object that an Event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `networking.istio.io/v1`.
    pub api_version: String,
    /// `VirtualService`.
    pub kind: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The API server's identity of the object; `kubectl describe` shows events of this very object by it. May be empty.
    pub uid: String,
}

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its own name, in the object's namespace.
    pub name: String,
    /// What it is about.
    pub about: Reference,
    /// `Warning` or `Normal`.
    pub severity: &'static str,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence; at most 1,024 bytes, Kubernetes' bound.
    pub message: String,
    /// How often.
    pub count: u32,
    /// The first time, RFC 3339.
    pub first: String,
    /// The last time.
    pub last: String,
    /// The replica that says so.
    pub instance: String,
}

/// Events of a cluster-scoped object live here.
const CLUSTER_SCOPED: &str = "default";

/// Makes it, if its count is 1; else counts it up, or makes it anew when it is gone.
pub async fn record(client: &Client, event: &Event) -> Result<(), WriteError> {
    let namespace = if event.about.namespace.is_empty() { CLUSTER_SCOPED } else { &event.about.namespace };
    let all = format!("/api/v1/namespaces/{namespace}/events");
    if event.count > 1 {
        let more = json!({"count": event.count, "lastTimestamp": event.last, "message": event.message});
        match send(client, Method::PATCH, &format!("{all}/{}", event.name), Body::Merge(&more)).await {
            // Events live for an hour.
            Err(WriteError::Missing(_)) => {}
            outcome => return outcome.map(drop),
        }
    }
    send(client, Method::POST, &all, Body::Object(&object(event, namespace))).await.map(drop)
}

fn object(event: &Event, namespace: &str) -> Value {
    let Event { name, about, severity, reason, message, count, first, last, instance } = event;
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.api_version, "kind": about.kind, "namespace": about.namespace, "name": about.name,
            "uid": about.uid,
        },
        "type": severity, "reason": reason, "message": message, "count": count,
        "firstTimestamp": first, "lastTimestamp": last,
        "source": {"component": "sluiced", "host": instance},
        "reportingComponent": "sluiced", "reportingInstance": instance,
    })
}
