//! Who owns what we write: with its owner, a ClusterRole of the release, the API server's garbage collector removes it.
//!
//! In: the owner's name. Out: an ownerReference, or none while there is no such ClusterRole. Only objects that are of no use
//! without the release are owned.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, WriteError, send};

/// The reference to the ClusterRole of this name.
pub(super) async fn reference(client: &Client, cluster_role: &str) -> Result<Option<Value>, WriteError> {
    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{cluster_role}");
    match send(client, Method::GET, &path, Body::None).await {
        Ok(found) => Ok(Some(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "name": cluster_role, "uid": found["metadata"]["uid"],
        }))),
        Err(WriteError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The uids of an object's owners.
pub(super) fn uids(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter_map(|one| one["uid"].as_str())
}
