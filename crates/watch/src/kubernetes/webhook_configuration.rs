//! A configuration of webhooks by its name: what it says of our certificate, and what it shall say.
//!
//! In: a client, mutating or validating, a name. Out: what is there; a write by server-side apply, of `caBundle` and
//! `failurePolicy` only; when it changes; and whether the API server reaches what it names. It decides nothing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use super::failure::Failure;
use super::request::lines;
use super::write::{Body, FIELD_MANAGER, WriteError, send};

/// How long a watch lasts; then the object is read again, whatever happened.
const WATCH_SECONDS: u32 = 240;

/// What a configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The API server's version of it; empty: it is not there.
    pub version: String,
    /// Its webhooks: name, caBundle as it is written, failurePolicy.
    pub webhooks: Vec<(String, String, String)>,
}

impl Said {
    /// True when all of them fail so.
    pub fn fails_as(&self, policy: &str) -> bool {
        self.webhooks.iter().all(|(_, _, there)| there == policy)
    }

    // As the API server's admission words it.
    fn has_denied(&self, answer: &Result<Value, WriteError>) -> bool {
        let Err(error) = answer else { return false };
        let words = error.to_string();
        self.webhooks.iter().any(|(name, ..)| words.contains(&format!("webhook \"{name}\" denied the request")))
    }
}

/// One configuration.
#[derive(Clone)]
pub struct WebhookConfiguration {
    client: Client,
    kind: &'static str,
    plural: &'static str,
    name: String,
}

impl fmt::Display for WebhookConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl WebhookConfiguration {
    /// A MutatingWebhookConfiguration; nothing is asked yet.
    pub fn mutating(client: Client, name: &str) -> Self {
        let (kind, plural) = ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
        Self { client, kind, plural, name: name.to_owned() }
    }

    /// A ValidatingWebhookConfiguration; nothing is asked yet.
    pub fn validating(client: Client, name: &str) -> Self {
        let (kind, plural) = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
        Self { client, kind, plural, name: name.to_owned() }
    }

    fn all(&self) -> String {
        format!("/apis/admissionregistration.k8s.io/v1/{}", self.plural)
    }

    /// What it says.
    pub async fn read(&self) -> Result<Said, WriteError> {
        send(&self.client, Method::GET, &format!("{}/{}", self.all(), self.name), Body::None).await.map(|it| parse(&it))
    }

    /// Makes every webhook trust these roots (PEM), and fail as `policy` says if it says so; whether that was a change.
    pub async fn write(&self, there: &Said, roots: &str, policy: Option<&str>) -> Result<bool, WriteError> {
        let Some(object) = self.wanted(there, roots, policy) else { return Ok(false) };
        let path = format!("{}/{}?fieldManager={FIELD_MANAGER}&force=true", self.all(), self.name);
        send(&self.client, Method::PATCH, &path, Body::Apply(&object)).await.map(|_| true)
    }

    /// Whether the API server, asked to make this object for the trial only, is told no by one of these webhooks: they are
    /// where it looks, it trusts them, and they answer. `path` is that of the object's collection.
    pub async fn denies(&self, there: &Said, path: &str, wrong: &Value) -> bool {
        let path = format!("{path}?dryRun=All");
        there.has_denied(&send(&self.client, Method::POST, &path, Body::Object(wrong)).await)
    }

    fn wanted(&self, there: &Said, roots: &str, policy: Option<&str>) -> Option<Value> {
        let bundle = STANDARD.encode(roots);
        let is_good = |(_, has, policy_there): &(String, String, String)| {
            *has == bundle && policy.is_none_or(|wanted| policy_there == wanted)
        };
        if there.webhooks.iter().all(is_good) {
            return None;
        }
        let webhooks: Vec<Value> = there
            .webhooks
            .iter()
            .map(|(name, ..)| {
                let mut one = json!({"name": name, "clientConfig": {"caBundle": bundle}});
                if let Some(policy) = policy {
                    one["failurePolicy"] = json!(policy);
                }
                one
            })
            .collect();
        // The version, so that one that was removed meanwhile is not made anew without its rules.
        Some(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": self.kind,
            "metadata": {"name": self.name, "resourceVersion": there.version}, "webhooks": webhooks
        }))
    }

    /// Waits until it is no longer as it was at this version, or for some minutes; at the empty version until it is there.
    pub async fn changed(&self, version: &str) -> Result<(), WriteError> {
        let mut path = format!(
            "{}?watch=true&fieldSelector=metadata.name%3D{}&timeoutSeconds={WATCH_SECONDS}",
            self.all(),
            self.name
        );
        if !version.is_empty() {
            path += &format!("&resourceVersion={version}");
        }
        let request = Request::get(path).body(Vec::new()).map_err(|error| WriteError::Invalid(error.to_string()))?;
        let mut lines = lines(&self.client, request).await.map_err(later)?;
        // Anything: also that the version is too old. It is read again.
        lines.next().await.map_err(later).map(drop)
    }
}

fn later(failure: Failure) -> WriteError {
    match failure {
        Failure::Forbidden(message) => WriteError::Forbidden(message),
        other => WriteError::Later { message: format!("{other:?}"), after: None },
    }
}

fn parse(object: &Value) -> Said {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let webhooks = object["webhooks"].as_array().into_iter().flatten();
    Said {
        version: text(&object["metadata"]["resourceVersion"]),
        webhooks: webhooks
            .map(|one| (text(&one["name"]), text(&one["clientConfig"]["caBundle"]), text(&one["failurePolicy"])))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> WebhookConfiguration {
        let service = tower::service_fn(|_: Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        WebhookConfiguration::validating(Client::new(service, "default"), "sluice-validator")
    }

    #[tokio::test]
    async fn only_what_is_not_as_it_shall_be_is_written() {
        let there = parse(&json!({
            "metadata": {"resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}}, "failurePolicy": "Ignore"},
                {"name": "b", "clientConfig": {"caBundle": "UEVN"}, "failurePolicy": "Fail"}
            ]
        }));
        let wanted = configuration().wanted(&there, "PEM", None).unwrap();
        assert_eq!(wanted["webhooks"][0], json!({"name": "a", "clientConfig": {"caBundle": "UEVN"}}));
        assert_eq!(wanted["metadata"]["resourceVersion"], "7");
        let wanted = configuration().wanted(&there, "PEM", Some("Fail")).unwrap();
        assert_eq!(wanted["webhooks"][0]["failurePolicy"], "Fail");
        let good = Said { webhooks: vec![("b".into(), "UEVN".into(), "Fail".into())], ..there };
        assert_eq!(configuration().wanted(&good, "PEM", Some("Fail")), None);
        assert_eq!(configuration().wanted(&Said::default(), "PEM", Some("Fail")), None);
    }

    #[test]
    fn only_a_denial_of_this_webhook_is_one() {
        let there =
            Said { webhooks: vec![("validation.sluice.dev".into(), String::new(), String::new())], ..Said::default() };
        let says = |message: &str| there.has_denied(&Err(WriteError::Invalid(message.to_owned())));
        assert!(says("admission webhook \"validation.sluice.dev\" denied the request: hosts[0]"));
        assert!(!says("admission webhook \"validation.istio.io\" denied the request: hosts[0]"));
        assert!(!says("failed calling webhook \"validation.sluice.dev\": no route to host"));
        assert!(!there.has_denied(&Ok(Value::Null)));
    }
}
