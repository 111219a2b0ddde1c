//! Where the pod is in an object: a Pod itself, or the template of a workload.

use serde_json::Value;

/// An object that makes pods.
#[derive(Debug)]
pub struct Templated<'a> {
    /// The pod or its template: `metadata` and `spec`.
    pub pod: &'a mut Value,
    /// The workload's name and kind; `None` for a bare pod.
    pub owner: Option<(String, String)>,
    /// Its namespace, as far as the object says.
    pub namespace: Option<String>,
}

/// The pod of an object; `None` for one that makes none.
pub fn pod_of(object: &mut Value) -> Option<Templated<'_>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&object["kind"])?;
    let path: &[&str] = match (object["apiVersion"].as_str()?, kind.as_str()) {
        ("v1", "Pod") => &[],
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet")
        | ("batch/v1", "Job") => &["spec", "template"],
        ("batch/v1" | "batch/v1beta1", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    let namespace = text(&object["metadata"]["namespace"]);
    let owner = text(&object["metadata"]["name"]).filter(|_| !path.is_empty()).map(|name| (kind, name));
    let mut pod = object;
    for name in path {
        pod = pod.get_mut(*name)?;
    }
    pod["spec"].is_object().then_some(Templated { pod, owner, namespace })
}
