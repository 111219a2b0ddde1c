//! The same ConfigMap in many namespaces: what each of them says, and what it shall say.
//!
//! In: a client, the name, a key. Out: the value by namespace; writes by server-side apply, of this key only. It never
//! removes one and decides nothing.

use std::collections::BTreeMap;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, FIELD_MANAGER, WriteError, send};

/// ConfigMaps of one name.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    name: String,
    key: String,
}

impl ConfigMaps {
    /// Those of this name, of which `key` is looked at; nothing is asked yet.
    pub fn new(client: Client, name: &str, key: &str) -> Self {
        Self { client, name: name.to_owned(), key: key.to_owned() }
    }

    /// What they say, by namespace.
    pub async fn read(&self) -> Result<BTreeMap<String, String>, WriteError> {
        // With this selector RBAC lets who may only read ConfigMaps of this name.
        let path = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}", self.name);
        let list = send(&self.client, Method::GET, &path, Body::None).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let item = |item: &Value| (text(&item["metadata"]["namespace"]), text(&item["data"][&self.key]));
        Ok(list["items"].as_array().into_iter().flatten().map(item).collect())
    }

    /// Makes the one in a namespace say this.
    pub async fn write(&self, namespace: &str, value: &str) -> Result<(), WriteError> {
        let Self { client, name, key } = self;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {key: value},
            "metadata": {"name": name, "namespace": namespace, "labels": {"istio.io/config": "true"}}
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}?fieldManager={FIELD_MANAGER}&force=true");
        send(client, Method::PATCH, &path, Body::Apply(&object)).await.map(drop)
    }
}
