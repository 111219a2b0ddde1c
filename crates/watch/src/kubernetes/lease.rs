//! A Lease: who leads, said by an object that only one writer at a time can change.
//!
//! In: a client, a namespace and a name. Out: [`Lease`]s read and written. It decides nothing; whoever does gives the
//! version that the decision was made on, and a write to any other is a conflict.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::owner;
use super::write::{Body, WriteError, send};

/// What a Lease says (coordination.k8s.io/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// How long the holder may be silent, in seconds.
    pub seconds: u64,
    /// Since when it is held, RFC 3339. Other clocks wrote it: only ever compared for equality.
    pub acquired: String,
    /// When it was last renewed, in the same way.
    pub renewed: String,
    /// How often the holder changed.
    pub transitions: u64,
    /// The API server's version; empty: the object is not there yet.
    pub version: String,
    /// Its owners, as they are.
    pub owners: Value,
}

/// One Lease of a cluster.
#[derive(Clone)]
pub struct LeaseStore {
    client: Client,
    namespace: String,
    name: String,
    /// A ClusterRole.
    owner: Option<String>,
}

impl LeaseStore {
    /// The Lease of this name; nothing is asked yet. A new one goes with its owner, a ClusterRole.
    pub fn new(client: Client, namespace: &str, name: &str, owner: Option<String>) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned(), owner }
    }

    /// `namespace/name`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Reads it; `None` if it is not there.
    pub async fn read(&self) -> Result<Option<Lease>, WriteError> {
        match send(&self.client, Method::GET, &self.path(true), Body::None).await {
            Ok(object) => Ok(Some(parse(&object))),
            Err(WriteError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it over the version that it names, or as a new one if it names none.
    pub async fn write(&self, lease: &Lease) -> Result<Lease, WriteError> {
        let mut object = self.object(lease);
        let (method, path) = match lease.version.is_empty() {
            true => {
                object["metadata"]["ownerReferences"] = json!(self.owners().await?);
                (Method::POST, self.path(false))
            }
            false => (Method::PUT, self.path(true)),
        };
        send(&self.client, method, &path, Body::Object(&object)).await.map(|object| parse(&object))
    }

    async fn owners(&self) -> Result<Option<[Value; 1]>, WriteError> {
        let Some(name) = &self.owner else { return Ok(None) };
        Ok(owner::reference(&self.client, name).await?.map(|owner| [owner]))
    }

    fn path(&self, is_named: bool) -> String {
        let all = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace);
        if is_named { format!("{all}/{}", self.name) } else { all }
    }

    fn object(&self, lease: &Lease) -> Value {
        let mut metadata = json!({"name": self.name, "namespace": self.namespace, "ownerReferences": lease.owners});
        if !lease.version.is_empty() {
            metadata["resourceVersion"] = json!(lease.version);
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": lease.holder, "leaseDurationSeconds": lease.seconds,
                "acquireTime": lease.acquired, "renewTime": lease.renewed, "leaseTransitions": lease.transitions,
            }
        })
    }
}

// Fields may be missing: others may have made it by hand.
fn parse(object: &Value) -> Lease {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Lease {
        holder: text(&spec["holderIdentity"]),
        seconds: spec["leaseDurationSeconds"].as_u64().unwrap_or_default(),
        acquired: text(&spec["acquireTime"]),
        renewed: text(&spec["renewTime"]),
        transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
        version: text(&object["metadata"]["resourceVersion"]),
        owners: object["metadata"]["ownerReferences"].clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_without_a_spec_is_held_by_nobody() {
        let lease = parse(&json!({"metadata": {"resourceVersion": "7"}}));
        assert_eq!(lease, Lease { version: "7".into(), ..Lease::default() });
    }
}
