//! Who this proxy is: for the control plane, for metrics, for logs.

use serde_json::{Map, Value, json};

/// This proxy, from its command line.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `sidecar~IP~POD.NS~DOMAIN`.
    pub node_id: String,
    /// The workload's name, `reviews-v1`.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// `app` label, or `unknown`.
    pub app: String,
    /// `version` label, or `unknown`.
    pub version: String,
    /// Canonical name.
    pub canonical_name: String,
    /// Canonical revision.
    pub canonical_revision: String,
    /// The cluster's name.
    pub cluster_id: String,
    /// The node metadata as it is sent.
    pub metadata: Value,
}

/// The value of a label that a series does not know, as Istio's metrics have it.
pub const UNKNOWN: &str = "unknown";

/// Labels as a pod's downward API writes them (`metadata.labels`): lines `key="value"`, values quoted as Go does. A line
/// that is none is passed over.
pub fn downward_labels(text: &str) -> Vec<(String, String)> {
    let read = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        // A label's value has no letter that Go escapes; one that has is no label's.
        (!key.is_empty() && !value.contains(['\\', '"'])).then(|| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(|line| read(line.trim())).collect()
}

impl Identity {
    /// From the node id, the labels and the metadata that flags gave.
    pub fn new(node_id: &str, labels: &Map<String, Value>, mut metadata: Map<String, Value>) -> Self {
        let label = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| labels.get(*name)?.as_str())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        // `pod.namespace`: the third part of the node id; a pod's name may have dots, a namespace has none.
        let pod = node_id.split('~').nth(2).unwrap_or_default();
        let (pod_name, pod_namespace) = pod.rsplit_once('.').unwrap_or((pod, ""));
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let workload = text("WORKLOAD_NAME").unwrap_or_else(|| pod_name.to_owned());
        let namespace = text("NAMESPACE").unwrap_or_else(|| pod_namespace.to_owned());
        let cluster_id = text("CLUSTER_ID").unwrap_or_else(|| "Kubernetes".to_owned());
        metadata.entry("LABELS").or_insert_with(|| json!(labels));
        metadata.entry("NAMESPACE").or_insert_with(|| json!(namespace));
        metadata.entry("CLUSTER_ID").or_insert_with(|| json!(cluster_id));
        metadata.entry("ISTIO_VERSION").or_insert_with(|| json!(env!("CARGO_PKG_VERSION")));
        metadata.insert("SLUICE_VHDS".into(), json!(true));
        let unknown = || UNKNOWN.to_owned();
        Self {
            node_id: node_id.to_owned(),
            app: label(&["app"]).unwrap_or_else(unknown),
            version: label(&["version"]).unwrap_or_else(unknown),
            canonical_name: label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
                .unwrap_or_else(|| workload.clone()),
            canonical_revision: label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
                .unwrap_or_else(|| "latest".to_owned()),
            workload,
            namespace,
            cluster_id,
            metadata: Value::Object(metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_downward_api_are_read() {
        let text = "app=\"reviews\"\npod-template-hash=\"5d\"\nempty=\"\"\nversion=\"v1\"\nbroken\nbad=v\n=\"x\"\na=\"\\\"\"\n";
        let read = downward_labels(text);
        let pairs: Vec<(&str, &str)> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("app", "reviews"), ("pod-template-hash", "5d"), ("empty", ""), ("version", "v1")]);
    }
}
