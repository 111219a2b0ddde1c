//! The same ConfigMap in many namespaces: what each of them says, and what it shall say.
//!
//! In: a client, the name, a key, the owner. Out: what each says; writes by server-side apply, of this key only. It never
//! removes one and decides nothing; with the owner they go.

use std::collections::BTreeMap;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::owner;
use super::write::{Body, FIELD_MANAGER, WriteError, send};

/// ConfigMaps of one name.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    name: String,
    key: String,
    /// A ClusterRole.
    owner: Option<String>,
}

/// What one of them is to say: the value, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    value: String,
    owner: Option<Value>,
}

/// What they say, by namespace.
pub struct Found(BTreeMap<String, Value>);

impl Found {
    /// True if the one in this namespace says so.
    pub fn says(&self, namespace: &str, key: &str, wanted: &Entry) -> bool {
        let Some(found) = self.0.get(namespace) else { return false };
        let owner = wanted.owner.as_ref().and_then(|owner| owner["uid"].as_str());
        let is_owned = owner.is_none_or(|uid| owner::uids(found).any(|there| there == uid));
        found["data"][key] == wanted.value && is_owned
    }
}

impl ConfigMaps {
    /// Those of this name, of which `key` is looked at; nothing is asked yet.
    pub fn new(client: Client, name: &str, key: &str, owner: Option<String>) -> Self {
        Self { client, name: name.to_owned(), key: key.to_owned(), owner }
    }

    /// Their name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What each shall be when it says this; the owner is asked for now.
    pub async fn entry(&self, value: &str) -> Result<Entry, WriteError> {
        let owner = match &self.owner {
            Some(name) => owner::reference(&self.client, name).await?,
            None => None,
        };
        Ok(Entry { value: value.to_owned(), owner })
    }

    /// What there is.
    pub async fn read(&self) -> Result<Found, WriteError> {
        // With this selector RBAC lets who may only read ConfigMaps of this name.
        let path = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}", self.name);
        let mut list = send(&self.client, Method::GET, &path, Body::None).await?;
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let namespace = |item: &Value| item["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        Ok(Found(items.into_iter().map(|item| (namespace(&item), item)).collect()))
    }

    /// Makes the one in a namespace say this.
    pub async fn write(&self, namespace: &str, entry: &Entry) -> Result<(), WriteError> {
        let Self { client, name, key, .. } = self;
        let owners: Vec<&Value> = entry.owner.iter().collect();
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {key: entry.value},
            "metadata": {
                "name": name, "namespace": namespace, "labels": {"istio.io/config": "true"}, "ownerReferences": owners,
            }
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}?fieldManager={FIELD_MANAGER}&force=true");
        send(client, Method::PATCH, &path, Body::Apply(&object)).await.map(drop)
    }
}
