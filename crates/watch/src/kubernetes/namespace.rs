//! One look at a namespace, past the watch.

use http::Method;
use kube::Client;
use words::Labels;

use super::write::{Body, WriteError, send};

/// The labels that a namespace has now.
///
/// # Errors
/// The name is none, the API server does not answer, or it knows no such namespace.
pub async fn namespace_labels(client: &Client, name: &str) -> Result<Labels, WriteError> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name {
        return Err(WriteError::Invalid(format!("{name:?} is no namespace's name")));
    }
    let object = send(client, Method::GET, &format!("/api/v1/namespaces/{name}"), Body::None).await?;
    Ok(serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default())
}
