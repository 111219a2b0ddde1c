//! AdmissionReviews of version v1: what is asked, and the answer (Kubernetes `admission.k8s.io/v1`).

use ::inject::Settings;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Known, inject};

/// Warnings of one answer, and characters of one; API servers cut what is longer.
const WARNINGS_MAX: usize = 16;
const WARNING_CHARS_MAX: usize = 250;

/// What is asked.
#[derive(Debug)]
pub(super) struct Review {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) operation: Operation,
    pub(super) has_subresource: bool,
    pub(super) object: Value,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Inner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inner {
    uid: String,
    operation: Operation,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    object: Value,
}

impl Review {
    /// Reads one; serde_json's own bound on depth (128) holds.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let outer: Outer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if (outer.api_version.as_str(), outer.kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "{:?} of {:?}, not AdmissionReview of admission.k8s.io/v1",
                outer.kind, outer.api_version
            ));
        }
        let Some(Inner { uid, operation, namespace, sub_resource, object }) = outer.request else {
            return Err("it has no request".to_owned());
        };
        if uid.is_empty() {
            return Err("its request has no uid".to_owned());
        }
        let has_subresource = sub_resource.is_some_and(|name| !name.is_empty());
        Ok(Self { uid, namespace: namespace.unwrap_or_default(), operation, has_subresource, object })
    }

    /// Whether the pod is injected as far as labels go.
    pub(super) fn is_asked_for(&self, known: &Known, settings: &Settings) -> bool {
        inject::is_asked_for(self, known, settings)
    }
}

/// The answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// JSON Patch operations.
    pub(super) patch: Vec<Value>,
    /// Why it is refused: Kubernetes' `Status`.
    pub(super) refused: Option<Value>,
    /// What the person at kubectl sees.
    pub(super) warnings: Vec<String>,
}

impl Answer {
    pub(super) fn to_bytes(&self, uid: &str) -> Bytes {
        use base64::Engine;
        let mut response = json!({"uid": uid, "allowed": self.refused.is_none()});
        if let Some(status) = &self.refused {
            response["status"] = status.clone();
        }
        if !self.patch.is_empty() {
            let patch = Value::Array(self.patch.clone()).to_string();
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch));
        }
        let warnings: Vec<String> = self.warnings.iter().take(WARNINGS_MAX).map(|text| short(text)).collect();
        if !warnings.is_empty() {
            response["warnings"] = json!(warnings);
        }
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        Bytes::from(review.to_string())
    }
}

// One line: control characters would end the header that carries it.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    match line.char_indices().nth(WARNING_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
