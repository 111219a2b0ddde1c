//! One Secret by its name: read, or made if it is not there. It is never changed and never removed.
//!
//! In: a client, a namespace and a name. Out: the bytes by key. They are in no error and in no log.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use kube::Client;
use serde_json::{Map, Value, json};

use super::write::{Body, FIELD_MANAGER, WriteError, send};

/// One Secret of a cluster.
#[derive(Clone)]
pub struct SecretStore {
    client: Client,
    namespace: String,
    name: String,
}

impl SecretStore {
    /// The Secret of this name; nothing is asked yet.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// `namespace/name`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Reads it; `None` if it is not there. A value that is no base64 is empty.
    pub async fn read(&self) -> Result<Option<BTreeMap<String, Vec<u8>>>, WriteError> {
        match send(&self.client, Method::GET, &format!("{}/{}", self.folder(), self.name), Body::None).await {
            Ok(object) => Ok(Some(data(&object["data"]))),
            Err(WriteError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes it. [`WriteError::Conflict`]: another was faster, and theirs counts.
    pub async fn create(&self, kind: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<(), WriteError> {
        let data: Map<String, Value> =
            data.iter().map(|(key, value)| (key.clone(), json!(BASE64.encode(value)))).collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
            "metadata": {"name": self.name, "namespace": self.namespace}
        });
        let path = format!("{}?fieldManager={FIELD_MANAGER}", self.folder());
        send(&self.client, Method::POST, &path, Body::Object(&object)).await.map(drop)
    }

    fn folder(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }
}

fn data(object: &Value) -> BTreeMap<String, Vec<u8>> {
    let decode = |value: &Value| BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    object.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), decode(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_what_is_none_is_empty() {
        let read = data(&json!({"a": "aGk=", "b": "?", "c": 5}));
        assert_eq!((&read["a"][..], &read["b"][..], &read["c"][..]), (&b"hi"[..], &b""[..], &b""[..]));
        assert!(data(&Value::Null).is_empty());
    }
}
